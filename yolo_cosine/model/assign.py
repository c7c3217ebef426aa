"""Which anchor learns which box: the task-aligned assignment.

Source: Feng et al., TOOD (arXiv 2108.07755). The results are those of Ultralytics' TaskAlignedAssigner, but where that
one is not defined, since torch.topk does not say which of equal values it takes: at the last of a box's places; at the
best one in the branch without NMS (here it is the first); and at the places of a box that fewer anchors align with at
all, which it fills up with others. They learn nothing there, and here none are taken; but an anchor that is a filler of
one box and learns another one counts there as chosen by both.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from yolo_cosine.model.anchors import at
from yolo_cosine.model.candidates import Dense, Pairs, Predictions

_EPS = 1e-9


@dataclass(frozen=True)
class Assigned:
    """What S anchors learn. With score 0 it is nothing, and the anchor may be there more than once."""

    anchor: Tensor  # (S,) int64, among the B * A of the batch
    box: Tensor  # (S,) int64, among the B * M
    score: Tensor  # (S,) float32: the target for the box's class, and the weight of the anchor's box


def assign(candidates: Pairs | Dense, predictions: Predictions, topk: int, single: bool) -> Assigned:
    """Give each box the `topk` anchors inside it that align with it best.

    An anchor that several boxes chose learns the one that it overlaps most, among all that it lies in. Its target score
    is its alignment, scaled so that the best of the box's anchors gets the largest of their overlaps.

    Args:
        single: keep only the best anchor of each box, as a branch without NMS needs it.
    """
    chosen = candidates.choose(predictions, topk)
    anchors, boxes = predictions.corners.shape[1], predictions.boxes.shape[1]
    anchor, box, mine = chosen.anchor, chosen.box, chosen.taken
    last = _reduce("amax", anchor, box, mine, anchors, -1)
    first = _reduce("amin", anchor, box, mine, anchors, boxes)
    contested = last > first
    owner = torch.where(contested, chosen.closest(contested), last)
    if candidates.static:  # of the places of an anchor the first is its own
        place = torch.arange(len(anchor), device=anchor.device)
        mine = mine & (place == at(_reduce("amin", anchor, place, mine, anchors, len(anchor)), anchor))
        box = torch.where(mine, at(owner, anchor), box)
    else:
        anchor = (last >= 0).nonzero().squeeze(1)
        box, mine = at(owner, anchor), torch.ones_like(anchor, dtype=torch.bool)
    alignment, overlap = predictions.alignment(anchor, box)
    best = at(_reduce("amax", box, alignment, mine, boxes, 0), box)
    if single:
        mine = mine & (alignment >= best)
        mine = mine & (anchor == at(_reduce("amin", box, anchor, mine, boxes, anchors), box))
    largest = at(_reduce("amax", box, overlap, mine, boxes, 0), box)
    return Assigned(anchor, box, (alignment * largest / (best + _EPS)).masked_fill_(~mine, 0))


def _reduce(how: str, index: Tensor, values: Tensor, which: Tensor, size: int, start: float) -> Tensor:
    """(size,) the largest ("amax") or smallest ("amin") of the values (S,) for each index (S,), those of `which` only.

    It does not depend on an order, so it is deterministic.
    """
    return values.new_full((size,), start).scatter_reduce_(0, index, values.masked_fill(~which, start), how)
