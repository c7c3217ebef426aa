"""COCO's JSON to an index."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from yolo_cosine.data.coco_file import again, coco_columns, first_repeated
from yolo_cosine.data.image_files import check_images, existing
from yolo_cosine.data.index import Category, Index
from yolo_cosine.data.kept import NOTHING_KEPT, Kept, unpacked
from yolo_cosine.data.notes import Note
from yolo_cosine.errors import UserError


def read_coco(
    annotations: Path, folders: Sequence[Path], *, keep_missing: bool, kept: Kept = NOTHING_KEPT
) -> Index:  # fmt: skip
    """Read an annotation file.

    The classes are in the order of their ids, images and the boxes of one image in the order of the file. Crowds stay,
    as do boxes without area or outside their image (`trainable_boxes` sees to them) and images without boxes. Masks
    are not kept; the area of an object is, and where it has none its box's is taken.

    Args:
        folders: where the images may be; the one that has most of them is used.
        keep_missing: keep an image whose file is missing (see `check_images`).
        kept: what the file held when it was read before.

    Raises:
        UserError: for whatever is wrong with the file, naming file, entry, value, rule and remedy.
    """
    source, path = str(annotations), os.path.abspath(annotations)
    columns = kept.columns("coco", path, [path], [source], lambda: coco_columns(annotations))
    files, about = unpacked(columns["files"]), json.loads(unpacked(columns["about"])[0])
    root = _folder(source, files, folders)
    images = check_images(source, root, files, columns["sizes"], keep_missing=keep_missing, kept=kept)
    index = Index(
        source=source,
        root=root,
        files=tuple(files),
        sizes=images.sizes,
        categories=tuple(Category(*category) for category in about["categories"]),
        notes=(
            *images.notes,
            *(Note(text, "repeated-annotation-id", places) for text, places in about["repeated"]),
            *_repeated_files(files, source),
        ),
        **{name: columns[name] for name in ("image_ids", "offsets", "boxes", "classes", "crowd", "areas")},
    )
    return index if len(images.used) == len(index) else index.subset(images.used)


def _folder(source: str, files: list[str], folders: Sequence[Path]) -> Path:
    found = []
    for folder in folders:
        found.append(int(existing(folder, files).sum()))
        if found[-1] == len(files):
            break
    if max(found) == 0:
        raise UserError(
            f"{source}: none of its {len(files)} images is there, such as {files[0]}; "
            f"looked in {', '.join(str(folder) for folder in folders)}; name their folder in a data set YAML, as in "
            f"`train: {{images: FOLDER, annotations: {Path(source).name}}}` (and check its `path`)"
        )
    return folders[found.index(max(found))]


def _repeated_files(files: list[str], source: str) -> tuple[Note, ...]:
    if (pair := first_repeated(files)) is None:
        return ()
    text = f"{source}: {len(files) - len(set(files))} file(s) stand twice under other ids, such as {files[pair[0]]}"
    return (Note(text, "repeated-file", again(files)),)
