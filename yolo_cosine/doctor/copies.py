"""Checks for images that stand in the data set more than once, within a split and in two."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import PurePosixPath

import numpy as np

from yolo_cosine.doctor.finding import Example, Finding, Image
from yolo_cosine.doctor.snapshot import Snapshot, Split

ALIKE = 0.97  # correlation of two thumbnails from which images look alike; resaved copies have 0.998 and more
_CONTRAST = 4.0  # grey levels: the standard deviation below which a thumbnail shows nothing to compare
_BLOCK = 2048  # thumbnails that are compared with as many at a time


def check_copies(snapshot: Snapshot) -> Iterator[Finding]:
    """Images of the same content, under two names or in two splits, and images that look alike."""
    for split in snapshot.splits.values():
        copies = _copies(split, split)
        if copies:
            training = (
                "each is used: the image counts as often as it is there"
                if split.trains
                else "each is counted in the metrics"
            )
            what = "image(s) are copies of another image of the split"
            yield Finding(
                "duplicate-image", "warning", split.name, what, tuple(copies.values()), training, "keep one of them"
            )
        alike = _look_alikes(split, split, copies)
        if alike:
            what = "image(s) look like another image of the split"
            training = "each is used"
            remedy = "none is needed, unless these are copies that were saved anew"
            yield Finding("look-alike", "note", split.name, what, alike, training, remedy)
    for first, second in combinations(snapshot.splits.values(), 2):
        yield from _between(first, second)


def _between(first: Split, second: Split) -> Iterator[Finding]:
    both = f"{first.name}+{second.name}"
    severity = "error" if first.trains else "warning"
    training = (
        f"the network is trained on them, so metrics on {second.name} are better than on images that it never saw"
        if first.trains
        else f"metrics on {first.name} and on {second.name} are not independent"
    )
    remedy = f"keep each scene in one split: remove them from {first.name} or from {second.name}"
    copies = _copies(second, first)
    if copies:
        what = f"image(s) of {second.name} are in {first.name} too"
        yield Finding("leak", severity, both, what, tuple(copies.values()), training, remedy)
    alike = _look_alikes(second, first, copies)
    if alike:
        what = f"image(s) of {second.name} look like one of {first.name}"
        if first.trains:
            training = (
                f"the network is trained on their like, so metrics on {second.name} are better than on new scenes"
            )
        yield Finding("look-alike-leak", "warning", both, what, alike, training, remedy)
    names = {PurePosixPath(file).name: i for i, file in reversed(list(enumerate(first.index.files)))}
    examples = []
    for i, file in enumerate(second.index.files):
        j = names.get(PurePosixPath(file).name)
        if j is not None and i not in copies and second.pictures[i].readable and first.pictures[j].readable:
            examples.append(_pair(second, i, first, j, "the same name, another picture"))
    if examples:
        what = f"image(s) of {second.name} have the name of one of {first.name}, and show something else"
        none = "none is needed; other programs may take one for the other"
        yield Finding("same-name", "note", both, what, tuple(examples), "each is used as it is", none)


def _copies(split: Split, other: Split) -> dict[int, Example]:
    """For each image of the split that is in the other (in the same split: earlier) too, where and how."""
    seen: dict[bytes, int] = {}
    if other is not split:
        for j, picture in reversed(list(enumerate(other.pictures))):
            seen.update(dict.fromkeys((picture.data, *picture.pixels), j))
    found = {}
    for i, picture in enumerate(split.pictures):
        if not picture.readable:
            continue
        keys = (picture.data, *picture.pixels)
        j = next((seen[key] for key in keys if key in seen), None)
        if j is None and other is split:
            seen.update(dict.fromkeys(keys, i))
        elif j is not None and (other is not split or split.index.path(i) != split.index.path(j)):
            twin = other.pictures[j]
            how = "the same file" if split.index.path(i) == other.index.path(j) else "the same bytes"
            if picture.data != twin.data:
                turned = "" if picture.orientation == twin.orientation else ", another EXIF orientation"
                how = f"the same pixels, saved anew{turned}"
            if not np.array_equal(_boxes(split, i), _boxes(other, j)):
                how += ", other boxes"
            found[i] = _pair(split, i, other, j, how)
    return found


def _look_alikes(split: Split, other: Split, known: dict[int, Example]) -> tuple[Example, ...]:
    """The images of the split, without those `known` as copies, each with the most alike one of the other split."""
    mine = np.array([i for i, p in enumerate(split.pictures) if p.thumb is not None and i not in known], dtype=np.int64)
    theirs = mine if other is split else np.array([j for j, p in enumerate(other.pictures) if p.thumb is not None])
    if not len(mine) or not len(theirs):
        return ()
    one = _normal(split, mine)
    best, likeness = most_alike(one, None if other is split else _normal(other, theirs))
    pairs = zip(mine, best, likeness, strict=True)
    return tuple(
        _pair(split, int(i), other, int(theirs[b]), f"likeness {like:.3f}")
        for i, b, like in pairs
        if like >= ALIKE and split.index.path(int(i)) != other.index.path(int(theirs[b]))
    )


def most_alike(one: np.ndarray, two: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """For each row of `one` the row of `two` that it correlates with best; among its own earlier rows if `two` is None.

    Args:
        one: (N, D) float32, rows of mean 0 and length 1, or all 0.
        two: (M, D) float32, likewise.

    Returns:
        (N,) int64 positions, and (N,) float32 correlations, -1 where there is nothing to compare with. A hundred
        thousand rows take 10^12 multiplications and never more memory than a block of them.
    """
    others = one if two is None else two
    best, likeness = np.zeros(len(one), dtype=np.int64), np.full(len(one), -1, dtype=np.float32)
    for row in range(0, len(one), _BLOCK):
        rows = slice(row, row + _BLOCK)
        for column in range(0, len(others) if two is not None else row + 1, _BLOCK):
            block = one[rows] @ others[column : column + _BLOCK].T
            if two is None and column == row:
                block[np.triu_indices(len(block))] = -1
            at = block.argmax(1)
            value = block[np.arange(len(block)), at]
            better = value > likeness[rows]
            best[rows][better], likeness[rows][better] = at[better] + column, value[better]
    return best, likeness


def _normal(split: Split, which: np.ndarray) -> np.ndarray:
    """(K, D) float32, thumbnails of mean 0 and length 1; 0 where there is too little contrast."""
    thumbs = np.stack([split.pictures[i].thumb for i in which]).astype(np.float32)
    thumbs -= thumbs.mean(1, keepdims=True)
    length = np.linalg.norm(thumbs, axis=1, keepdims=True)
    return np.where(length < _CONTRAST * np.sqrt(thumbs.shape[1]), 0, thumbs / np.maximum(length, 1e-9))


def _boxes(split: Split, i: int) -> np.ndarray:
    rows = slice(split.index.offsets[i], split.index.offsets[i + 1])
    return np.column_stack((split.index.classes[rows], split.index.boxes[rows]))


def _pair(split: Split, i: int, other: Split, j: int, text: str) -> Example:
    return Example(
        split.index.files[i], text, Image(split.name, i), twin=other.index.files[j], twin_image=Image(other.name, j)
    )
