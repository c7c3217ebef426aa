"""Non-maximum suppression, exact and class by class."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from torch import Tensor

from yolo_cosine import kernels
from yolo_cosine.model.to_host import to_host

_CHUNK = 256  # candidates looked at in one go; most images have their max_det after the first
_FIRST = 4096  # best candidates of an image that leave a GPU; hardly ever is another one needed
_NO_MEMORY = "no memory for the boxes of an image"
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
    library = _kernel()
    if library is None or boxes.device.type != "cpu":
        return _in_chunks(boxes, classes, iou, max_det)
    boxes, classes = boxes.float().contiguous(), classes.long().contiguous()
    kept = torch.empty(min(len(boxes), max_det), dtype=torch.int64)
    library.greedy.restype = ctypes.c_long
    count = library.greedy(
        *(ctypes.c_void_p(t.data_ptr()) for t in (boxes, classes)), ctypes.c_long(len(boxes)), ctypes.c_float(iou),
        ctypes.c_long(max_det), ctypes.c_void_p(kept.data_ptr()),
    )  # fmt: skip
    if count < 0:
        raise MemoryError(_NO_MEMORY)
    return kept[:count]


def _kernel() -> ctypes.CDLL | None:
    return kernels.load("model/nms", "-ffp-contract=off")  # a contracted a * b - c would round in another way


def _in_chunks(boxes: Tensor, classes: Tensor, iou: float, max_det: int) -> Tensor:
    """`greedy_nms` by operations of PyTorch."""
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


def suppress(predictions: Tensor, conf: float, iou: float, max_det: int) -> Callable[[], list[Tensor]]:
    """Detections of each image, on the host. On a GPU this waits for nothing: what is called to have them does, so that the next
    images can be under way by then.

    Args:
        predictions: (B, A, 4 + C) float32: xyxy in pixels, and a score for each class. A box may be found as several
            classes.

    Returns:
        A function that returns B tensors (K, 6) float32: xyxy, score, class; best first, scores over `conf`.
    """
    if predictions.device.type == "cpu":
        on_host = _on_host if _kernel() is None else _by_kernel
        return lambda: on_host(predictions, conf, iou, max_det)
    best = to_host(_best(predictions, _FIRST))

    def finish() -> list[Tensor]:
        return [_settle(rows, predictions[k].cpu, conf, iou, max_det) for k, rows in enumerate(best()[0])]

    return finish


def _on_host(predictions: Tensor, conf: float, iou: float, max_det: int) -> list[Tensor]:
    """`suppress` by operations of PyTorch, one image after another."""
    return [_kept(_over(image, conf), iou, max_det) for image in predictions]


def _by_kernel(predictions: Tensor, conf: float, iou: float, max_det: int) -> list[Tensor]:
    """`suppress` in C, for all images at once."""
    predictions = predictions.float().contiguous()
    images, anchors, width = predictions.shape
    most = min(max_det, anchors * (width - 4))
    rows, counts = torch.empty(images, most, 6), torch.empty(images, dtype=torch.int64)
    given, *written = (ctypes.c_void_p(t.data_ptr()) for t in (predictions, rows, counts))
    _kernel().detections(
        given, *(ctypes.c_long(n) for n in (images, anchors, width - 4)), ctypes.c_float(conf), ctypes.c_float(iou),
        ctypes.c_long(_MAX_CANDIDATES), ctypes.c_long(most), *written, torch.get_num_threads(),
    )  # fmt: skip
    if (counts < 0).any():
        raise MemoryError(_NO_MEMORY)
    return [row[:count] for row, count in zip(rows, counts.tolist(), strict=True)]


def _settle(best: Tensor, all_of_it: Callable[[], Tensor], conf: float, iou: float, max_det: int) -> Tensor:
    """The detections of an image, from its best candidates if these are enough."""
    over = best[best[:, 4] > conf]
    result = _kept(over, iou, max_det)
    if len(over) == len(best) and len(result) < max_det:  # others were not looked at, and there is room for them
        result = _kept(_over(all_of_it(), conf), iou, max_det)
    return result


def end_to_end(predictions: Tensor, conf: float) -> Callable[[], list[Tensor]]:
    """`suppress` for a network that needs none: predictions are (B, D, 6) float32, xyxy, score, class."""
    rows = to_host(predictions)
    return lambda: [image[image[:, 4] > conf] for image in rows()[0]]


def _best(predictions: Tensor, most: int) -> Tensor:
    """(B, k, 6) float32: each image's k = min(most, A * C) best candidates, best first: xyxy, score, class."""
    scores = predictions[..., 4:].flatten(1)
    top, place = scores.topk(min(most, scores.shape[1]))
    anchor, label = place // (predictions.shape[2] - 4), place % (predictions.shape[2] - 4)
    boxes = predictions[..., :4].gather(1, anchor[..., None].expand(-1, -1, 4))
    return torch.cat((boxes, top[..., None], label[..., None].float()), 2)


def _over(prediction: Tensor, conf: float) -> Tensor:
    """(N, 6) float32: an image's best candidates with scores over `conf`, best first: xyxy, score, class."""
    anchor, label = (prediction[:, 4:] > conf).nonzero(as_tuple=True)
    scores = prediction[anchor, 4 + label]
    scores, order = scores.sort(descending=True, stable=True)
    scores, order = scores[:_MAX_CANDIDATES], order[:_MAX_CANDIDATES]
    return torch.cat((prediction[anchor[order], :4], scores[:, None], label[order, None].float()), 1)


def _kept(rows: Tensor, iou: float, max_det: int) -> Tensor:
    return rows[greedy_nms(rows[:, :4], rows[:, 5], iou, max_det)]
