"""A data set in another form, without loss: COCO's JSON, YOLO's labels, Pascal VOC's XML.

Label files have no place for ids, for areas of masks and, in YOLO's form, for crowds. So every converted set also has
COCO's JSON of each split, exact to the last digit, which its YAML names and our readers look into (`data/exact.py`);
other tools do not see it. What was written is read back and compared before it is put in its place.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import yaml

from yolo_cosine.convert.formats import create, write_coco, write_voc, write_yolo
from yolo_cosine.convert.names import new_names
from yolo_cosine.data.dataset import Dataset, open_dataset
from yolo_cosine.data.disk import in_threads
from yolo_cosine.data.exact import held_by_voc, held_by_yolo
from yolo_cosine.data.index import Index
from yolo_cosine.errors import UserError, some_of

Format = Literal["coco", "yolo", "voc"]
Images = Literal["link", "copy", "none"]

YAML = "data.yaml"
NOT_CARRIED = (
    "masks, key points, annotation ids and keys that training does not use are not carried over; "
    "images, sizes, boxes, classes, crowds, areas, image and category ids are"
)
_FORMATS = {"coco": "COCO JSON", "yolo": "YOLO txt, as Ultralytics lays it out", "voc": "Pascal VOC"}


@dataclass(frozen=True)
class Converted:
    """A data set that was written."""

    yaml: Path  # to train on it
    notes: tuple[str, ...]  # what there is to know about it, in words


def convert(data: str, to: Format, out: Path, images: Images = "link") -> Converted:
    """Write all splits of a data set in another form into a new folder, all or nothing. The data set is only read.

    Args:
        data: what `open_dataset` takes.
        out: a new or empty folder.
        images: `link` makes hard links, and copies where the file system has none; `copy` copies; `none` leaves the
            images for the user to put there.

    Raises:
        UserError: if the data set cannot be read, or `out` is not empty or cannot be written; nothing is left there.
    """
    root = _free_folder(out)
    dataset = open_dataset(data, None)
    notes = list(dataset.notes)
    names = {split: new_names(index.files, split, labelled=to != "coco") for split, index in dataset.splits.items()}
    with _all_or_nothing(root) as fresh:
        for split, index in dataset.splits.items():
            _write_images(index, fresh / _image_folder(to, split), names[split], images)
            _write_split(fresh, index, split, names[split], to)
            notes += _notes(index, split, names[split], to)
        create(fresh / YAML, _yaml(dataset, to))
        if images != "none":
            try:
                _compare(dataset, open_dataset(str(fresh / YAML), tuple(dataset.splits)), names)
            except UserError as error:
                said = str(error).replace(str(fresh), str(root))
                raise UserError(
                    f"{data}: cannot be converted to {to} without loss, nothing was written: {said}"
                ) from None
    return Converted(root / YAML, tuple(notes))


def _write_split(fresh: Path, index: Index, split: str, names: list[str], to: Format) -> None:
    write_coco(fresh / _json(to, split), index, names)
    if to == "yolo":
        write_yolo(fresh / _image_folder(to, split), index, names)
    elif to == "voc":
        write_voc(fresh / "Annotations" / split, index, names)
        stems = (f"{split}/{os.path.splitext(name)[0]}\n" for name in names)
        create(fresh / f"ImageSets/Main/{split}.txt", "".join(stems))


# --- the layout -------------------------------------------------------------------------------------------------------


def _image_folder(to: Format, split: str) -> str:
    return f"JPEGImages/{split}" if to == "voc" else f"images/{split}"


def _json(to: Format, split: str) -> str:
    return f"{'annotations' if to == 'coco' else 'coco'}/instances_{split}.json"


def _yaml(dataset: Dataset, to: Format) -> str:
    """The data set YAML. Texts are quoted, so that a class called `1e3` or `no` stays a word."""
    exact = {s: {"images": _image_folder(to, s), "annotations": _json(to, s)} for s in dataset.splits}
    names = dict(enumerate(dataset.names))
    if to == "coco":
        content: dict[str, object] = exact
    elif to == "yolo":
        content = {**{s: _image_folder(to, s) for s in dataset.splits}, "names": names, "coco": exact}
    else:
        parts = {
            s: {"images": "JPEGImages", "annotations": "Annotations", "list": f"ImageSets/Main/{s}.txt"}
            for s in dataset.splits
        }
        content = {"format": "voc", **parts, "names": names, "coco": exact}
    head = f"# {_FORMATS[to]}, written by `python -m yolo_cosine.dataset convert`.\n"
    if to != "coco":
        head += "# `coco` has what the labels have no place for: ids, areas and crowds.\n"
    return head + yaml.dump(content, Dumper=_Quoting, sort_keys=False, allow_unicode=True, width=2**31)


class _Quoting(yaml.SafeDumper):
    """Quotes around every value that is text, none around keys."""

    def represent_mapping(self, tag, mapping, flow_style=None):
        """As the base class, then with quoted values."""
        node = super().represent_mapping(tag, mapping, flow_style)
        for _, value in node.value:
            if isinstance(value, yaml.ScalarNode) and value.tag.endswith(":str"):
                value.style = '"'
        return node


# --- files ------------------------------------------------------------------------------------------------------------


def _free_folder(out: Path) -> Path:
    """The folder with its links resolved; it is new or empty."""
    try:
        root = Path(out).resolve()
        free = not root.exists() or (root.is_dir() and not any(root.iterdir()))
    except (OSError, ValueError) as error:  # the latter: a null in the name
        raise UserError(f"--out: {str(out)!r}: cannot be written: {error}; name a new or empty folder") from None
    if not free:
        raise UserError(f"--out: {root}: is there already and nothing is overwritten; name a new or empty folder")
    return root


@contextmanager
def _all_or_nothing(root: Path) -> Iterator[Path]:
    """A new folder that is moved to `root` at the end, and is gone where that is not reached."""
    made = [folder for folder in root.parents if not folder.exists()]
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".convert-", dir=root.parent) as scratch:
            fresh = Path(scratch) / "new"
            fresh.mkdir()
            yield fresh
            _free_folder(root)
            with suppress(FileNotFoundError):
                root.rmdir()  # it is empty; Windows does not replace it
            fresh.rename(root)
    except BaseException as error:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise UserError(
                f"--out: {root}: cannot be written: {error}; free the space or name another folder"
            ) from None
        raise


def _write_images(index: Index, folder: Path, names: list[str], images: Images) -> None:
    folder.mkdir(parents=True)
    if images == "none":
        return
    sources = {name: index.path(i) for i, name in enumerate(names)}  # a file of COCO's that stands twice is one

    def write(name: str) -> None:
        source, target = sources[name], folder / name
        if not source.is_file():  # noted when the index was read
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if images == "link":
            with suppress(OSError):  # another disk, no hard links, or not ours to link
                os.link(os.path.realpath(source), target)
                return
        with open(source, "rb") as old, open(target, "xb") as new:
            shutil.copyfileobj(old, new)

    in_threads(write, sources)


# --- what is to be said -----------------------------------------------------------------------------------------------


def _notes(index: Index, split: str, names: list[str], to: Format) -> list[str]:
    notes = [f"{split}: {len(index)} images, {len(index.boxes)} boxes"]
    other = [
        k for k, (old, new) in enumerate(zip(index.files, names, strict=True)) if not f"/{old}".endswith(f"/{new}")
    ]
    if other:
        shown = some_of(other, lambda k: f"{index.files[k]!r} is {names[k]!r}")
        notes.append(f"{split}: {len(other)} image(s) have another name, because theirs is not one to keep: {shown}")
    if to == "coco":
        return notes
    held, boxes = (held_by_yolo if to == "yolo" else held_by_voc)(index)
    crowds = index.crowd & ~held
    masks = index.areas != index.boxes[:, 2] * index.boxes[:, 3]
    counts = {
        "crowd(s)": crowds,
        "box(es) without area in the image": ~held & ~crowds,
        "box(es) larger than the image or centred outside, clipped in the labels": held & (boxes != index.boxes).any(1),
        "area(s) that are not their box's": masks,
    }
    said = [f"{mask.sum()} {what}" for what, mask in counts.items() if mask.any()]
    if said:
        notes.append(
            f"{split}: only {_json(to, split)} has {', '.join(said)}: other tools do not see them in the labels"
        )
    return notes


# --- the proof --------------------------------------------------------------------------------------------------------


_COLUMNS = ("image_ids", "sizes", "offsets", "boxes", "classes", "crowd", "areas")


def _compare(old: Dataset, new: Dataset, names: Mapping[str, Sequence[str]]) -> None:
    """Compare what was written, as our readers have it, with what it was made of."""
    for split, index in old.splits.items():
        found = new.splits[split]
        different = [key for key in _COLUMNS if not np.array_equal(getattr(index, key), getattr(found, key))]
        if found.files != tuple(names[split]):
            different.append("files")
        if new.categories != old.categories:
            different.append("categories")
        if different:
            raise UserError(f"{index.source}: {', '.join(different)}: not the same when read back; please report it")
