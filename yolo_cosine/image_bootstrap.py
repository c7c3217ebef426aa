"""How far a metric is a matter of the images that it was measured on: COCO's AP on resamples of them. Imports nothing of ours.

Which detection finds which box is settled on each image by itself, so a resample matches nothing anew: it counts every
image as often as it was drawn. That is the evaluation of a data set in which images are there several times, exactly
(but for the order of detections with equal scores).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_RECALLS = np.linspace(0, 1, 101)
_MOST = 4_000_000  # numbers in a table at a time


@dataclass(frozen=True, eq=False)
class ClassMatches:
    """The detections of one class on N images, best first, and what they found at each of T IoU thresholds."""

    image: np.ndarray  # (D,) int64: of each detection
    true: tuple[np.ndarray, ...]  # T arrays (K,) int64, ascending: which of the detections found a box
    ignored: tuple[np.ndarray, ...]  # T arrays (K,) int64, ascending: which count for nothing, as those on a crowd
    boxes: np.ndarray  # (N,) int64: boxes to be found on each image


def class_matches(evaluated: Sequence[Mapping[str, Any] | None], images: int, thresholds: int) -> list[ClassMatches]:
    """What an evaluation by COCO's rules (`COCOeval.eval_imgs`) of one range of areas holds, by class.

    Args:
        evaluated: by class, then image; image ids are the numbers from 0.
        images: how many there are.
        thresholds: how many IoU thresholds.
    """
    found: dict[int, list[Mapping[str, Any]]] = {}
    for item in evaluated:
        if item is not None:
            found.setdefault(item["category_id"], []).append(item)
    return [_of_class(items, images, thresholds) for items in found.values()]


def _of_class(items: Sequence[Mapping[str, Any]], images: int, thresholds: int) -> ClassMatches:
    boxes = np.zeros(images, dtype=np.int64)
    for item in items:
        boxes[item["image_id"]] = len(item["gtIgnore"]) - np.count_nonzero(item["gtIgnore"])
    scores = np.concatenate([np.asarray(item["dtScores"], dtype=np.float64) for item in items])
    order = np.argsort(-scores, kind="stable")
    image = np.repeat([item["image_id"] for item in items], [len(item["dtScores"]) for item in items])[order]

    def flags(name: str) -> np.ndarray:  # (T, D)
        parts = [np.asarray(item[name]).reshape(thresholds, -1) for item in items]
        return np.concatenate(parts, axis=1).astype(bool)[:, order]

    ignored, matched = flags("dtIgnore"), flags("dtMatched")
    return ClassMatches(
        image.astype(np.int64), tuple(map(np.flatnonzero, matched & ~ignored)), tuple(map(np.flatnonzero, ignored)), boxes
    )  # fmt: skip


def resampled_ap(classes: Sequence[ClassMatches], images: int, resamples: int, seed: int) -> np.ndarray:
    """(resamples, T) float64: AP at each IoU threshold, mean over the classes, on images drawn with replacement.

    As many are drawn as there are. A class without a box in a resample is left out of its mean; NaN where all are.
    """
    largest = max((len(each.image) for each in classes), default=1)
    at_once = max(min(_MOST // max(largest, images, 1), 256), 1)
    rows = [mean_ap(classes, counts) for counts in _drawn(images, resamples, seed, at_once)]
    return np.concatenate(rows)


def _drawn(images: int, resamples: int, seed: int, at_once: int) -> Iterator[np.ndarray]:
    """Tables (at most `at_once`, images) int64: how often each image is in each resample."""
    generator = np.random.default_rng(seed)
    for first in range(0, resamples, at_once):
        count = min(at_once, resamples - first)
        draws = generator.integers(0, images, (count, images))
        yield np.stack([np.bincount(row, minlength=images) for row in draws])


def mean_ap(classes: Sequence[ClassMatches], counts: np.ndarray) -> np.ndarray:
    """(R, T) float64: AP, mean over the classes, where image n counts `counts[r, n]` times."""
    total = np.zeros((len(counts), len(classes[0].true)))
    having = np.zeros(len(counts))  # classes with boxes
    for each in classes:
        positives = counts @ each.boxes
        ap = _ap(each, counts[:, each.image], positives)
        total += np.where(positives[:, None] > 0, ap, 0)
        having += positives > 0
    return total / np.where(having > 0, having, np.nan)[:, None]


def _ap(each: ClassMatches, counts: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """(R, T) float64: AP of a class, from (R, D) int64 how often each detection counts and (R,) int64 boxes to be found."""
    seen = np.cumsum(counts, axis=1)
    needed = _needed(positives)
    ap = np.zeros((len(counts), len(each.true)))
    rows = np.arange(len(counts))[:, None]
    # the rows of a table one after the other, each lifted above the last, are one ascending list to search
    lift = rows * (int(max(seen[:, -1:].max(initial=0), positives.max(initial=0))) + 2)
    for t, (true, ignored) in enumerate(zip(each.true, each.ignored, strict=True)):
        if not len(true):
            continue
        # precision is highest where a box was found, so the other places need not be looked at
        hits = np.cumsum(counts[:, true], axis=1)
        all_so_far = seen[:, true]
        if len(ignored):
            before = np.cumsum(np.pad(counts[:, ignored], ((0, 0), (1, 0))), axis=1)
            all_so_far = all_so_far - before[:, np.searchsorted(ignored, true)]
        precision = hits / np.maximum(all_so_far, 1)
        highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # at this recall or a higher one
        place = np.searchsorted((hits + lift).ravel(), (needed + lift).ravel()).reshape(needed.shape)
        place -= rows * len(true)
        reached = place < len(true)
        ap[:, t] = np.where(reached, highest[rows, np.where(reached, place, 0)], 0).mean(axis=1)
    return ap


def _needed(positives: np.ndarray) -> np.ndarray:
    """(R, 101) int64: the fewest hits of (R,) boxes with which each of COCO's recalls is reached, in its arithmetic."""
    boxes = np.maximum(positives, 1)[:, None]
    least = np.ceil(_RECALLS * boxes)
    least -= (least - 1) / boxes >= _RECALLS
    least += least / boxes < _RECALLS
    return np.maximum(least, 0).astype(np.int64)
