"""Which anchors may learn a box: those whose centre is inside it; and the best of them.

There are two forms with the same results. `Pairs` is a list of the pairs of a box and an anchor inside it: few, but how
many depends on the boxes. `Dense` is a table of all pairs: nothing is read back from the device, and its shapes do not
depend on values, so it can be compiled and captured in a CUDA graph.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from yolo_cosine.model.anchors import Grid, at, ciou

if TYPE_CHECKING:
    from yolo_cosine.data.targets import Targets

ALPHA, BETA = 0.5, 6.0
_INSIDE = 1e-9  # pixels that a centre is inside of an edge, at least


@dataclass(frozen=True)
class Predictions:
    """What a branch says, without gradients, and the boxes of the batch."""

    logits: Tensor  # (B, A, classes)
    corners: Tensor  # (4, B * A) float32: x1, y1, x2, y2, pixels
    boxes: Tensor  # (4, B * M) float32, the same
    classes: Tensor  # (B * M,) int64

    def alignment(self, anchor: Tensor, box: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) alignment and (N,) overlap of N pairs of an anchor (of B * A) and a box (of B * M)."""
        which = anchor * self.logits.shape[2] + at(self.classes, box)
        return align(at(self.logits.flatten(), which), ciou(at(self.boxes, box), at(self.corners, anchor)))


def align(logits: Tensor, overlap: Tensor) -> tuple[Tensor, Tensor]:
    """The alignment score ** 0.5 * overlap ** 6, and the overlap, which is the CIoU where that is not negative.

    Source: Feng et al., TOOD (arXiv 2108.07755), with the exponents of YOLOv8 and its successors.
    """
    overlap = overlap.clamp(min=0)
    return logits.to(overlap.dtype).sigmoid().pow(ALPHA) * overlap.pow(BETA), overlap


@dataclass(frozen=True)
class Chosen:
    """The best anchors of each box, S places."""

    anchor: Tensor  # (S,) int64, among the B * A
    box: Tensor  # (S,) int64, among the B * M
    taken: Tensor  # (S,) bool; a place that is not taken counts for nothing
    closest: Callable[[Tensor], Tensor]  # of anchors (B * A,) bool: the box that each overlaps most, (B * A,) int64


def _bounds(boxes: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Lower and upper corners, (2, ...) each, of boxes (..., 4).

    A side shorter than a cell of the second level is taken to be that long, so that small objects have anchors too.
    """
    low, high = boxes.movedim(-1, 0).split(2)
    center, side = (low + high) / 2, (high - low).clamp(min=grid.strides[min(1, len(grid.strides) - 1)])
    return center - side / 2, center + side / 2


class Dense:
    """All pairs of a box and an anchor of its image, (B, M, A)."""

    static = True

    def __init__(self, targets: Targets, grid: Grid) -> None:
        (left, top), (right, bottom) = (bound[..., None] for bound in _bounds(targets.boxes, grid))  # (B, M, 1) each
        x, y = grid.centers
        across, down = (x - left > _INSIDE) & (right - x > _INSIDE), (y - top > _INSIDE) & (bottom - y > _INSIDE)
        self.outside = ~(across & down & targets.valid[..., None])

    def choose(self, predictions: Predictions, topk: int) -> Chosen:
        """The `topk` best anchors of each box."""
        batch, boxes, anchors = self.outside.shape
        classes = predictions.classes.view(batch, boxes, 1).expand(-1, -1, anchors)
        logits = predictions.logits.transpose(1, 2).gather(1, classes)
        overlap = ciou(predictions.boxes.view(4, batch, boxes, 1), predictions.corners.view(4, batch, 1, anchors))
        alignment, overlap = (value.masked_fill_(self.outside, 0) for value in align(logits, overlap))
        best, anchor = alignment.topk(min(topk, anchors), 2)
        image = torch.arange(batch, device=anchor.device)[:, None]
        closest = (overlap.max(1).indices + image * boxes).flatten()
        box = torch.arange(batch * boxes, device=anchor.device)[:, None].expand(-1, anchor.shape[2])
        anchor = anchor + image[..., None] * anchors
        return Chosen(anchor.flatten(), box.flatten(), ~(best <= 0).flatten(), lambda asked: closest)


class Pairs:
    """The N pairs of a box and an anchor inside it: box after box, the anchors of each in their order. On a CPU."""

    static = False

    def __init__(self, targets: Targets, grid: Grid) -> None:
        images, places = targets.valid.shape
        self._anchors = images * len(grid.stride)
        boxes = targets.valid.flatten().nonzero().squeeze(1)  # (K,)
        low, high = _bounds(targets.boxes.flatten(0, 1).index_select(0, boxes), grid)
        first, row, length = [], [], []  # of each box and level, (K,): its first anchor, its rows, the anchors in each
        start = boxes // places * len(grid.stride)
        for centers, (rows, columns) in zip(_split(grid), grid.levels, strict=True):
            left, across = _span(centers[0, :columns], low[0], high[0])
            top, down = _span(centers[1, ::columns], low[1], high[1])
            first.append(start + top * columns + left)
            row.append(down)
            length.append(across)
            start = start + rows * columns
        levels = len(grid.levels)
        per_box = sum(r * n for r, n in zip(row, length, strict=True))  # (K,)
        step = boxes.new_tensor([columns for _, columns in grid.levels]).repeat(len(boxes))
        first, row, length = (torch.stack(values, 1).flatten() for values in (first, row, length))  # (K * levels,)
        part, number = _runs(row)  # a box's anchors in a row of a level follow each other
        begin = at(first, part) + number * at(step, part)
        run, number = _runs(at(length, part))
        self.anchor = at(begin, run) + number  # (N,) among the B * A
        self.box = at(at(boxes, part // levels), run)  # (N,) among the B * M
        # where the anchors of each box are in the list, and where they go in a table with a line for each box
        self._first = per_box.cumsum(0) - per_box
        self._width = int(per_box.max()) if len(boxes) else 0
        line, number = _runs(per_box)
        self._cell = line * self._width + number

    @functools.cached_property
    def covered(self) -> Tensor:
        """(U,) int64: the anchors inside any box, each once."""
        return torch.zeros(self._anchors, dtype=torch.bool).index_fill_(0, self.anchor, True).nonzero().squeeze(1)

    def choose(self, predictions: Predictions, topk: int) -> Chosen:
        """The `topk` best anchors of each box."""
        alignment, overlap = predictions.alignment(self.anchor, self.box)
        table = alignment.new_zeros(len(self._first) * self._width).index_copy_(0, self._cell, alignment)
        best, number = table.view(len(self._first), self._width).topk(min(topk, self._width), 1)
        chosen = (self._first[:, None] + number)[~(best <= 0)]

        def closest(asked: Tensor) -> Tensor:
            pairs = at(asked, self.anchor).nonzero().squeeze(1)
            anchor, box, value = (at(values, pairs) for values in (self.anchor, self.box, overlap))
            largest = value.new_zeros(self._anchors).scatter_reduce_(0, anchor, value, "amax")
            last = predictions.boxes.shape[1] - 1
            equal = torch.where(value == at(largest, anchor), box, last)
            return box.new_full((self._anchors,), last).scatter_reduce_(0, anchor, equal, "amin")

        return Chosen(at(self.anchor, chosen), at(self.box, chosen), torch.ones_like(chosen, dtype=torch.bool), closest)


def _split(grid: Grid) -> tuple[Tensor, ...]:
    return grid.centers.split([rows * columns for rows, columns in grid.levels], 1)


def _span(centers: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Of (n,) ascending centres: how many lie before each of (K,) intervals, and how many lie in it."""
    above, below = centers - low[:, None] > _INSIDE, high[:, None] - centers > _INSIDE
    return len(centers) - above.sum(1), (above & below).sum(1)


def _runs(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """For runs of given lengths, one after another: which run each element is in, and its number there."""
    run = torch.repeat_interleave(lengths)
    return run, torch.arange(len(run)) - at(lengths.cumsum(0) - lengths, run)
