"""Non-maximum suppression, exact and class by class."""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK = 256  # candidates looked at in one go; most images have their max_det after the first
_MAX_CANDIDATES = 30000  # best candidates of an image, as in Ultralytics' non_max_suppression


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) IoU of (N, 4) and (M, 4) float32 xyxy boxes; 0 where both are empty."""
    overlap = (torch.minimum(a[:, None, 2:], b[None, :, 2:]) - torch.maximum(a[:, None, :2], b[None, :, :2])).clamp_(
        min=0
    )
    intersection = overlap.prod(-1)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(-1) for x in (a, b))
    union = area_a[:, None] + area_b[None] - intersection
    return torch.where(union > 0, intersection / union, 0.0)


def greedy_nms(boxes: Tensor, classes: Tensor, iou: float, max_det: int) -> Tensor:
    """Which of the boxes stay: each is dropped if a better one of its class that stays overlaps it by more than `iou`.

    Args:
        boxes: (N, 4) float32 xyxy, best first. classes: (N,).

    Returns:
        (K,) int64 positions, ascending, K <= max_det. The same as a loop over all boxes gives, box by box.
    """
    kept = boxes.new_empty(0, dtype=torch.int64)
    for chunk in torch.arange(len(boxes), device=boxes.device).split(_CHUNK):
        if len(kept):
            hit = (box_iou(boxes[chunk], boxes[kept]) > iou) & (classes[chunk, None] == classes[None, kept])
            chunk = chunk[~hit.any(1)]
        beats = (box_iou(boxes[chunk], boxes[chunk]) > iou) & (classes[chunk, None] == classes[None, chunk])
        beats = beats.triu_(1)
        # A box stays if no box that stays beats it. Each pass settles at least one more rank, so this ends, and ends
        # in the one solution, which is the greedy loop's.
        stays = torch.ones(len(chunk), dtype=torch.bool, device=boxes.device)
        while True:
            settled = ~(beats & stays[:, None]).any(0)
            if torch.equal(settled, stays):
                break
            stays = settled
        kept = torch.cat((kept, chunk[stays]))
        if len(kept) >= max_det:
            break
    return kept[:max_det]


def suppress(predictions: Tensor, conf: float, iou: float, max_det: int) -> list[Tensor]:
    """Detections of each image.

    Args:
        predictions: (B, A, 4 + C) float32: xyxy in pixels, and a score for each class. A box may be found as several
            classes.

    Returns:
        B tensors (K, 6) float32: xyxy, score, class; best first, scores over `conf`.
    """
    results = []
    for prediction in predictions:
        anchor, label = (prediction[:, 4:] > conf).nonzero(as_tuple=True)
        scores = prediction[anchor, 4 + label]
        scores, order = scores.sort(descending=True, stable=True)
        order, scores = order[:_MAX_CANDIDATES], scores[:_MAX_CANDIDATES]
        boxes, label = prediction[anchor[order], :4], label[order]
        kept = greedy_nms(boxes, label, iou, max_det)
        results.append(torch.cat((boxes[kept], scores[kept, None], label[kept, None].float()), 1))
    return results
