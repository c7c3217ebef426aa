"""Checks of the boxes: inside their image, once, and of a size that the network can see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from yolo_cosine.data.notes import IGNORED
from yolo_cosine.doctor.finding import Example, Finding, Image
from yolo_cosine.doctor.snapshot import Snapshot, Split

THIN = 20.0  # longer side of a box over its shorter one, from which it is called thin
_SAME = 0.1  # pixels: boxes that agree to this are the same
_AS_IT_IS = "evaluation takes it as the file has it, by COCO's rule"


def check_inside(snapshot: Snapshot) -> Iterator[Finding]:
    """Boxes that training leaves out or clips, in the words of its notes."""
    for split in snapshot.splits.values():
        index = split.index
        noted = {note.kind: note for note in split.labels.notes}
        if note := noted.get("box-without-area"):
            which = _judged(split, note.boxes)
            usable = np.isfinite(index.boxes[which]).all(1) & (index.boxes[which, 2:] > 0).all(1)
            training = str(note) if split.trains else f"{_AS_IT_IS}: an object that no detection can match"
            for kind, part, what, remedy in (
                ("box-without-area", which[~usable], "box(es) have no area", "draw them anew or remove them"),
                (
                    "box-outside-image", which[usable], "box(es) lie wholly outside their image",
                    "check the picture's size and which corner the annotations count from, or remove them",
                ),
            ):  # fmt: skip
                if len(part):
                    yield Finding(kind, "warning", split.name, what, _examples(split, part), training, remedy)
        if note := noted.get("box-over-edge"):
            larger = (index.boxes[:, 2:] > index.sizes[index.image_of_box] + 1).any(1)
            which = _judged(split, note.boxes)
            training = str(note) if split.trains else f"{_AS_IT_IS}, though detections end at the image's edge"
            for kind, part, what, remedy in (
                (
                    "box-over-edge", which[~larger[which]], "box(es) reach over their image's edge",
                    "clip them, if their objects go on beyond the image; else draw them anew",
                ),
                (
                    "box-larger-than-image", which[larger[which]], "box(es) are larger than their image",
                    "check the unit and the size of the picture that they were drawn on",
                ),
            ):  # fmt: skip
                if len(part):
                    yield Finding(kind, "warning", split.name, what, _examples(split, part), training, remedy)


def check_repeated(snapshot: Snapshot) -> Iterator[Finding]:
    """Boxes that stand on an image twice, with the same class or with another."""
    for split in snapshot.splits.values():
        index = split.index
        finite = np.flatnonzero(np.isfinite(index.boxes).all(1) & ~index.crowd)
        rows = np.column_stack((index.image_of_box[finite], np.round(index.boxes[finite] / _SAME)))
        _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        first = finite[first[group.ravel()]]  # of each box, the first one that lies where it does
        again = finite != first
        same = index.classes[finite] == index.classes[first]
        for kind, which, what, words, training, remedy in (
            (
                "duplicate-box", again & same, "box(es) stand on their image twice", "{0} twice",
                "both are used, as two objects at one place"
                if split.trains
                else "both are objects to be found, but of two detections at one place NMS keeps one",
                "remove one of the two",
            ),
            (
                "conflicting-box", again & ~same, "box(es) stand on their image twice, as different classes",
                "{0}, and {1} at the same place", "both are used: the network is asked to say both",
                "keep the right one, unless an object may be both",
            ),
        ):  # fmt: skip
            if which.any():
                examples = tuple(
                    _example(split, k, words.format(index.names[index.classes[k]], index.names[index.classes[j]]))
                    for k, j in zip(finite[which], first[which], strict=True)
                )
                yield Finding(kind, "warning", split.name, what, examples, training, remedy)


def check_crowds(snapshot: Snapshot) -> Iterator[Finding]:
    """Regions of many objects, which are neither right nor wrong to detect."""
    for split in snapshot.splits.values():
        if split.index.crowd.any():
            which = np.flatnonzero(split.index.crowd)
            training = f"{IGNORED}, both in training (no target, no penalty) and, by COCO's rule, in evaluation"
            examples = _examples(split, which)
            yield Finding("crowd", "note", split.name, "crowd(s)", examples, training, "none is needed")


def check_box_sizes(snapshot: Snapshot) -> Iterator[Finding]:
    """Boxes that are too small for the network's finest cells, or far longer than wide."""
    stride = min(snapshot.strides)
    for split in snapshot.splits.values():
        sizes = split.box_sizes(snapshot.imgsz)
        shorter, longer = sizes.min(1), sizes.max(1)
        proper = (shorter > 0) & np.isfinite(sizes).all(1) & ~split.index.crowd
        small = np.flatnonzero(proper & (longer < stride))
        thin = np.flatnonzero(proper & (longer >= THIN * np.where(proper, shorter, 1)))
        if len(small):
            examples = tuple(
                _example(split, k, f"{_class(split, k)}, {sizes[k, 0]:.1f}x{sizes[k, 1]:.1f} at {snapshot.imgsz}")
                for k in small
            )
            what = f"box(es) are smaller than the finest stride, {stride} px, at imgsz {snapshot.imgsz}"
            training = f"they are used; the network's finest cells are {stride} px, so it has little to tell them by"
            remedy = "train at a larger imgsz, or cut the images into tiles"
            yield Finding("small-box", "note", split.name, what, examples, training, remedy)
        if len(thin):
            examples = tuple(_example(split, k, f"{_class(split, k)}, {longer[k] / shorter[k]:.0f} to 1") for k in thin)
            what = f"box(es) are {THIN:.0f} times as long as wide or more"
            training = "they are used; a pixel more or less on the short side costs much of the overlap"
            remedy = "see whether they are whole objects: slivers at an edge are often left from cropping"
            yield Finding("thin-box", "note", split.name, what, examples, training, remedy)


def _judged(split: Split, boxes: Sequence[int]) -> np.ndarray:
    """(K,) int64, the boxes on images of known size; of the others, which cannot be read, nothing can be said."""
    which = np.array(boxes, dtype=np.int64)
    return which[(split.index.sizes[split.index.image_of_box[which]] > 0).all(1)]


def _examples(split: Split, which: Iterable[int]) -> tuple[Example, ...]:
    return tuple(_example(split, k, _class(split, k)) for k in which)


def _example(split: Split, k: int, text: str) -> Example:
    i = int(split.index.image_of_box[k])
    box = tuple(split.index.boxes[k].tolist())
    return Example(split.index.files[i], text, Image(split.name, i), (box,))


def _class(split: Split, k: int) -> str:
    return split.index.names[split.index.classes[k]]
