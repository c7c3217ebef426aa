"""YOLO's text labels, as Ultralytics lays them out, to an index.

Beside each image `.../images/a/b.jpg` stands `.../labels/a/b.txt`; each of its lines is `class cx cy w h` in fractions
of the image's width and height, or a class and a polygon, whose bounding box is taken
(https://docs.ultralytics.com/datasets/detect/).
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from yolo_cosine.data.disk import in_threads
from yolo_cosine.data.image_files import SUFFIXES, check_images
from yolo_cosine.data.index import Category, Index
from yolo_cosine.data.kept import NOTHING_KEPT, Columns, Kept
from yolo_cosine.data.notes import Note
from yolo_cosine.errors import UserError

_OTHER_PICTURES = frozenset({".dng", ".gif", ".heic", ".heif"})  # pictures that OpenCV does not decode everywhere
_LITTLE = 0.01  # how far over the edge a box may reach without a note, fraction of the side
_FRACTION = 10.0  # beyond this a coordinate is no fraction of a side but a number of pixels


@dataclass(frozen=True)
class YoloBox:
    """One line of a label file."""

    line: int  # counted from 1
    klass: int
    xywh: tuple[float, float, float, float]  # corner and size, fractions of the image


def read_yolo(
    source: str, root: Path, entries: Sequence[Path], categories: tuple[Category, ...], *, keypoint_columns: int = 0,
    kept: Kept = NOTHING_KEPT,
) -> Index:  # fmt: skip
    """Read the images of some folders and lists, with the label file of each.

    Images are in the order of their paths and have the ids 1, 2, ...; one without a label file has no objects. An image
    that is missing or has an unreadable header is left out with a note: without its size its boxes mean nothing.

    Args:
        source: what to call the split in messages.
        root: folder that paths are shown, and those in a list may be, relative to.
        entries: folders (read with everything below them) and .txt files with a path in each line.
        categories: in the order of the label files' class numbers.
        keypoint_columns: columns that follow the box where labels have key points; they are not used.
        kept: what the labels and the headers of the images held when they were read before.

    Raises:
        UserError: if an entry holds no images, there is not one label file, or a line in one is malformed.
    """
    paths, notes = list_images(source, root, entries)
    base = f"{root}{os.sep}"
    files = [path.removeprefix(base).replace(os.sep, "/") for path in paths]
    unknown = np.zeros((len(files), 2), dtype=np.int64)
    images = check_images(source, root, files, unknown, keep_missing=False, kept=kept)
    labels = [label_path(paths[i]) for i in images.used]
    names = [category.name for category in categories]
    facts = [str(keypoint_columns), *names]
    found = kept.columns("labels", source, labels, facts, lambda: _columns(labels, names, keypoint_columns))
    if (found["counts"] < 0).all():
        raise UserError(
            f"{source}: none of its {len(labels)} images has a label file; looked for {labels[0]} and so on; "
            "put the labels into a folder `labels` beside the folder `images`"
        )
    counts = np.maximum(found["counts"], 0)
    owner, boxes = np.repeat(np.arange(len(counts)), counts), found["xywh"]
    far = (boxes[:, :2] < -_LITTLE).any(1) | (boxes[:, :2] + boxes[:, 2:] > 1 + _LITTLE).any(1)
    if far.any():
        outside = [f"{labels[owner[k]]}:{found['line'][k]}" for k in np.flatnonzero(far)]
        text = (
            f"{source}: {len(outside)} box(es) reach over the image's edge by more than {_LITTLE:.0%} of its side, the "
            f"first at {outside[0]}: training clips them"
        )
        notes.append(Note(text, "label-over-edge", outside))
    sizes = images.sizes[images.used]
    boxes = boxes * np.tile(sizes[owner], 2)
    return Index(
        source=source,
        root=root,
        files=tuple(files[i] for i in images.used),
        image_ids=np.arange(1, len(labels) + 1),
        sizes=sizes,
        offsets=np.concatenate(([0], np.cumsum(counts))),
        boxes=boxes,
        classes=found["class"],
        crowd=np.zeros(len(boxes), dtype=bool),
        areas=boxes[:, 2] * boxes[:, 3],
        categories=categories,
        notes=(*images.notes, *notes),
    )


def _columns(labels: Sequence[str], names: Sequence[str], keypoint_columns: int) -> Columns:
    """What the label files of K images hold, M boxes: (K,) `counts`, -1 where there is no file, and for each box `line`,
    `class` and `xywh` as in `YoloBox`."""
    files = in_threads(partial(read_labels, names=names, keypoint_columns=keypoint_columns), labels)
    boxes = [box for file in files for box in file or ()]
    return {
        "counts": np.array([-1 if file is None else len(file) for file in files], dtype=np.int64),
        "line": np.array([box.line for box in boxes], dtype=np.int64),
        "class": np.array([box.klass for box in boxes], dtype=np.int64),
        "xywh": np.array([box.xywh for box in boxes], dtype=np.float64).reshape(-1, 4),
    }


def list_images(source: str, root: Path, entries: Sequence[Path]) -> tuple[list[str], list[Note]]:
    """The absolute paths of all images of the entries, sorted and each once; and notes.

    Raises:
        UserError: if an entry is not there or there is no image.
    """
    listed: list[str] = []
    for entry in entries:
        if os.path.isdir(entry):
            listed += [
                os.path.join(folder, name)
                for folder, _, names in os.walk(entry, followlinks=True)
                for name in names
                if not name.startswith(".")  # such as macOS' ._photo.jpg, which is no picture
            ]
        elif os.path.isfile(entry):
            listed += _read_list(entry, root)
        else:
            raise UserError(f"{source}: {entry}: there is no such folder or list of images; mend the data set's YAML")
    suffixes = [os.path.splitext(path)[1].lower() for path in listed]
    images = [path for path, suffix in zip(listed, suffixes, strict=True) if suffix in SUFFIXES]
    others = [path for path, suffix in zip(listed, suffixes, strict=True) if suffix in _OTHER_PICTURES]
    if not images:
        shown = ", ".join(str(entry) for entry in entries)
        raise UserError(f"{source}: {shown}: holds no images; their names end in one of {' '.join(sorted(SUFFIXES))}")
    unique = sorted(set(images))
    notes = []
    if others:
        text = f"{source}: {len(others)} picture(s) of a kind that is not read, such as {others[0]}: left out"
        notes.append(Note(text, "unread-format", others))
    if len(unique) < len(images):
        text = f"{source}: {len(images) - len(unique)} image(s) are listed more than once: each is used once"
        notes.append(
            Note(text, "repeated-listing", [path for path, n in Counter(images).items() for _ in range(n - 1)])
        )
    return unique, notes


def _read_list(path: Path, root: Path) -> list[str]:
    """The paths in a list, absolute. Relative ones are below the list's folder, the data set's or the current one."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list of images: {error}; write a path in each line") from None
    lines = [line for line in lines if line]
    bases = (path.parent, root, Path.cwd())
    base = next((base for base in bases if any(os.path.exists(base / line) for line in lines[:100])), bases[0])
    return [os.path.abspath(base / line) for line in lines]


def label_path(image: str) -> str:
    """Where the labels of an image are: its path's last `/images/` becomes `/labels/`, its suffix `.txt`."""
    before, images, after = image.rpartition(f"{os.sep}images{os.sep}")
    path = f"{before}{os.sep}labels{os.sep}{after}" if images else image
    return os.path.splitext(path)[0] + ".txt"


def read_labels(path: str, names: Sequence[str], keypoint_columns: int = 0) -> list[YoloBox] | None:
    """The boxes of a label file; None where there is no such file.

    Raises:
        UserError: naming file, line and rule, if the file is no text or a line is malformed.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            lines = file.read().splitlines()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a label file: {error}; write it again, as text") from None
    boxes = []
    for number, line in enumerate(lines, start=1):
        if columns := line.split():
            try:
                boxes.append(YoloBox(number, *_parse(columns, names, keypoint_columns)))
            except ValueError as error:
                shown = line.strip() if len(line) <= 80 else line.strip()[:77] + "..."
                raise UserError(f"{path}:{number}: {shown!r}: {error}") from None
    return boxes


def _parse(
    columns: list[str], names: Sequence[str], keypoint_columns: int
) -> tuple[int, tuple[float, float, float, float]]:
    """Class and (x, y, w, h) of a line.

    Raises:
        ValueError: saying the rule and the remedy.
    """
    try:
        values = [float(column) for column in columns]
    except ValueError:
        raise ValueError("holds what is no number; write `class cx cy w h` with numbers, parted by spaces") from None
    if not all(map(math.isfinite, values)):
        raise ValueError("holds what is no finite number; mend or remove the line")
    klass, *place = values
    if not klass.is_integer() or not 0 <= klass < len(names):
        raise ValueError(
            f"class {columns[0]} is none of the {len(names)} classes, 0 to {len(names) - 1}; mend it, or `names` in the YAML"
        )
    if keypoint_columns and len(place) == 4 + keypoint_columns:
        place = place[:4]
    if len(place) != 4 and (len(place) < 6 or len(place) % 2):
        raise ValueError(
            f"has {len(columns)} columns; a box is `class cx cy w h`, a polygon a class and at least three pairs x y"
        )
    if max(map(abs, place)) > _FRACTION:
        raise ValueError("is not in fractions of the image; divide x by its width and y by its height, in pixels")
    if len(place) == 4:
        cx, cy, w, h = place
        return int(klass), (cx - w / 2, cy - h / 2, w, h)
    x, y = place[::2], place[1::2]
    return int(klass), (min(x), min(y), max(x) - min(x), max(y) - min(y))
