"""Checks of the categories, and how many boxes and images each has."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from yolo_cosine.data.index import Category
from yolo_cosine.doctor.finding import Example, Finding
from yolo_cosine.doctor.snapshot import Snapshot, Split

RARE = 10  # boxes in the training split, below which a class is called rare
UNEVEN = 100  # boxes of the largest class for one of a small class, from which classes are called uneven


def class_counts(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and images of each class, (C,) int64 each; crowds and boxes that training leaves out do not count."""
    owner = np.repeat(np.arange(len(split.index)), np.diff(split.labels.offsets))
    used = ~split.labels.crowd
    classes, categories = split.labels.classes[used], len(split.index.categories)
    pairs = np.unique(owner[used] * categories + classes)
    return np.bincount(classes, minlength=categories), np.bincount(pairs % categories, minlength=categories)


def check_ids(snapshot: Snapshot) -> Iterator[Finding]:
    """Category ids with gaps."""
    gaps = [(one, two) for one, two in pairwise(snapshot.categories) if two.id - one.id > 1]
    if gaps:
        examples = tuple(
            Example(
                f"id {one.id + 1}" if two.id - one.id == 2 else f"ids {one.id + 1} to {two.id - 1}",
                f"between {one.name} ({one.id}) and {two.name} ({two.id})",
            )
            for one, two in gaps
        )
        training = "the network's classes are numbered without gaps, in the order of the ids; predictions.json has the ids of the file"
        yield Finding("sparse-ids", "note", "all", "gap(s) in the category ids", examples, training, "none is needed")


def check_presence(snapshot: Snapshot) -> Iterator[Finding]:
    """Categories without boxes, in all splits or in one."""
    present = {name: class_counts(split)[0] > 0 for name, split in snapshot.splits.items()}
    anywhere = np.any(list(present.values()), axis=0)
    if not anywhere.all():
        what = "class(es) have no box in any split"
        training = "the network has an output for each that never learns anything; the metrics leave them out"
        examples, remedy = _of(snapshot.categories, ~anywhere), "remove them, or annotate some"
        yield Finding("unused-category", "warning", "all", what, examples, training, remedy)
    for name, split in snapshot.splits.items():
        lacking = anywhere & ~present[name]
        if not lacking.any():
            continue
        examples = _of(snapshot.categories, lacking)
        if split.trains:
            what = "class(es) have boxes elsewhere and none in train"
            training = "the network never learns them, and their AP of 0 is in the mean"
            remedy = "move images with them to train, or remove the classes"
            yield Finding("untrained-category", "warning", name, what, examples, training, remedy)
        else:
            what = f"class(es) have boxes elsewhere and none in {name}"
            training = f"they have no AP in {name}: the mean is that of the others"
            remedy = f"move images with them to {name}, if they matter"
            yield Finding("unmeasured-category", "note", name, what, examples, training, remedy)


def check_balance(snapshot: Snapshot) -> Iterator[Finding]:
    """Classes of the training split with few boxes, and with far fewer than others."""
    split = snapshot.splits.get("train")
    if split is None:
        return
    boxes, _ = class_counts(split)
    rare = (boxes > 0) & (boxes < RARE)
    if rare.any():
        what = f"class(es) have fewer than {RARE} boxes in train"
        training, remedy = "they are used as they are: no class is weighted", "annotate more of them"
        examples = _of(snapshot.categories, rare, boxes)
        yield Finding("rare-category", "note", "train", what, examples, training, remedy)
    uneven = (boxes > 0) & (boxes * UNEVEN <= boxes.max())
    if uneven.any():
        most = snapshot.categories[int(boxes.argmax())].name
        what = f"class(es) have a box for {UNEVEN} of {most} or more, {boxes.max()}"
        training, remedy = "they are used as they are: no class is weighted", "annotate more of them"
        examples = _of(snapshot.categories, uneven, boxes)
        yield Finding("uneven-classes", "note", "train", what, examples, training, remedy)


def _of(categories: tuple[Category, ...], mask: np.ndarray, boxes: np.ndarray | None = None) -> tuple[Example, ...]:
    """An example for each category of the mask, with its number of boxes where they are given."""

    def example(k: int) -> Example:
        count = "" if boxes is None else f", {boxes[k]} box(es)"
        return Example(categories[k].name, f"id {categories[k].id}{count}")

    return tuple(example(k) for k in np.flatnonzero(mask))
