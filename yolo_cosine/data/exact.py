"""What label files have no place for, from a COCO JSON that stands beside them.

YOLO's labels have no ids, crowds and areas, Pascal VOC's XML no ids and areas. A converted data set has them in the JSON
files that `coco:` in its YAML names. The label files stay the truth: an image whose labels are no longer those that the
JSON stands for (someone mended them) is read from its labels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from yolo_cosine.data.index import Index
from yolo_cosine.data.notes import Note

# Of an index with M boxes: (M,) bool, which of them label files hold; (M, 4) float64, x, y, width, height there, pixels.
Held = Callable[[Index], tuple[np.ndarray, np.ndarray]]

_CLOSE = 1e-9  # fraction of the image's side within which a box is the same: what arithmetic loses is far less


def held_by_yolo(index: Index) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes YOLO's labels hold, and how (see `Held`).

    A crowd would be trained on as an object, so it is left out, as is a box without area. Ultralytics refuses an image
    with a box whose centre is outside or that is larger than the image; such a box is clipped.
    """
    size = index.sizes[index.image_of_box]
    first, extent = index.boxes[:, :2], index.boxes[:, 2:]
    centre = first + extent / 2
    fits = ((centre >= 0) & (centre <= size) & (extent <= size)).all(1)
    start, end = np.clip(first, 0, size), np.clip(first + extent, 0, size)
    boxes = np.where(fits[:, None], index.boxes, np.concatenate((start, end - start), 1))
    return ~index.crowd & (size > 0).all(1) & (extent > 0).all(1) & (boxes[:, 2:] > 0).all(1), boxes


def held_by_voc(index: Index) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes Pascal VOC's XML holds, and how (see `Held`): all that have an area, as they are."""
    return (index.boxes[:, 2:] > 0).all(1), index.boxes


def restore(
    labels: Index, json: Path, read_exact: Callable[[], Index], held: Held, *, stays: Callable[[Path], bool]
) -> Index:
    """The index of label files with the ids, crowds, areas, sizes and exact boxes of a COCO JSON.

    Args:
        labels: as the label files tell.
        json: the COCO JSON; where it is missing, or its classes have other names, a note says that it is not used.
        read_exact: reads it.
        held: what the label files hold of an index.
        stays: whether an image that the labels do not tell of is kept, by its path: that its labels are still there.

    Raises:
        UserError: for whatever is wrong with the JSON.
    """
    if not os.path.exists(json):
        text = f"{json}: is not there: ids, crowds and areas are those that the label files tell"
        return _with_note(labels, Note(text, "exact-unused", [str(json)]))
    exact = read_exact()
    if exact.names != labels.names:
        text = f"{json}: its classes are not the names in the YAML: it is not used"
        return _with_note(labels, Note(text, "exact-unused", [str(json)]))
    position = {_stem(path): i for i, path in enumerate(labels.paths())}
    partner = np.array([position.get(_stem(path), -1) for path in exact.paths()])
    used = np.array([partner[j] >= 0 or stays(exact.path(j)) for j in range(len(exact))])
    known = np.flatnonzero(partner >= 0)
    same = np.ones(len(exact), dtype=bool)
    same[known] = _same(exact.subset(known), labels.subset(partner[known]), held)
    changed = np.flatnonzero(~same)
    new = np.setdiff1d(np.arange(len(labels)), partner)
    exact = replace(exact, source=labels.source)
    if not len(changed) and not len(new):
        return exact if used.all() else exact.subset(np.flatnonzero(used))
    text = (
        f"{labels.source}: the labels of {len(changed)} image(s) are not those that {json} has, and it has not the "
        f"{len(new)} new image(s): read from the label files"
    )
    mended = np.concatenate((partner[changed], new))
    note = Note(text, "labels-changed", [labels.files[i] for i in mended])
    free = np.setdiff1d(np.arange(1, len(exact) + len(new) + 1), exact.image_ids)[: len(new)]
    ids = np.concatenate((exact.image_ids[changed], free))
    other = replace(labels.subset(mended), image_ids=ids)
    return _with_note(_joined(exact.subset(np.flatnonzero(used & same)), other), note)


def _with_note(index: Index, note: Note) -> Index:
    return replace(index, notes=(*index.notes, note))


def _stem(path: str) -> str:
    return os.path.splitext(os.path.normpath(path))[0]


def _same(exact: Index, labels: Index, held: Held) -> np.ndarray:
    """(N,) bool, whether the labels of each image are what label files hold of its exact ones."""
    there, boxes = held(exact)
    same = np.bincount(exact.image_of_box[there], minlength=len(exact)) == np.diff(labels.offsets)
    ours, theirs = there & same[exact.image_of_box], same[labels.image_of_box]
    image = exact.image_of_box[ours]
    # in fractions: sizes are the annotations' there, and here those of the files
    one, two = (np.tile(np.maximum(sizes[image], 1), 2) for sizes in (exact.sizes, labels.sizes))
    close = np.isclose(boxes[ours] / one, labels.boxes[theirs] / two, rtol=_CLOSE, atol=_CLOSE).all(1)
    close &= exact.classes[ours] == labels.classes[theirs]
    close &= exact.crowd[ours] == labels.crowd[theirs]
    same[image[~close]] = False
    return same


def _joined(first: Index, second: Index) -> Index:
    """The images of both, below the root of the second; the categories of the first."""
    folder = Path(os.path.relpath(first.root, second.root)).as_posix()
    columns = {
        key: np.concatenate((getattr(first, key), getattr(second, key)))
        for key in ("image_ids", "sizes", "boxes", "classes", "crowd", "areas")
    }
    return Index(
        source=first.source,
        root=second.root,
        files=(*(f"{folder}/{file}" for file in first.files), *second.files),
        offsets=np.concatenate((first.offsets, first.offsets[-1] + second.offsets[1:])),
        categories=first.categories,
        notes=(*first.notes, *second.notes),
        **columns,
    )
