"""Ultralytics' loss, with regions to ignore."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.utils.loss import E2ELoss

from yolo_cosine.model.detector import float32_outputs


class _IgnoringBCE(nn.Module):
    """Binary cross entropy without the terms of the anchors in `ignore`, unless an anchor has a target of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.ignore: Tensor | None = None  # (B, A) bool

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        if self.ignore is None:
            return loss
        dropped = self.ignore & (target.sum(-1) == 0)
        return loss.masked_fill(dropped.unsqueeze(-1), 0.0)


class DetectionLoss:
    """Ultralytics' own loss for a network (the end-to-end one too), with ignore regions, in float32.

    An anchor whose centre lies in a crowd region and that has no object of its own adds nothing to the class loss: what
    the network says there can be neither right nor wrong. (Ultralytics, YOLOv5 and YOLOX train it as background.)
    """

    def __init__(self, model: nn.Module, *, box: float, cls: float, dfl: float, epochs: int):
        model.args = SimpleNamespace(box=box, cls=cls, dfl=dfl, epochs=epochs)
        self._criterion = model.init_criterion()
        self._parts = (
            [self._criterion.one2many, self._criterion.one2one]
            if isinstance(self._criterion, E2ELoss)
            else [self._criterion]
        )
        for part in self._parts:
            part.bce = _IgnoringBCE()
        self._strides = [float(s) for s in model.stride]
        self.names = tuple(self._parts[0].loss_names)

    def plan(self, epochs: int) -> None:
        """Let the balance of an end-to-end head's two branches shift over `epochs`."""
        for part in self._parts:
            part.hyp.epochs = epochs

    def start_epoch(self, epoch: int) -> None:
        """Set the balance of an end-to-end head's two branches, which is a function of the epoch."""
        if isinstance(self._criterion, E2ELoss):
            self._criterion.updates = epoch - 1
            self._criterion.update()

    def __call__(
        self, outputs: Mapping[str, Any], size: tuple[int, int], image_of_box: Tensor, classes: Tensor, boxes: Tensor,
        image_of_crowd: Tensor, crowds: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Loss of a batch.

        Args:
            outputs: what the network returned in training mode.
            size: height and width of the images, pixels.
            image_of_box: (K,) int64, ascending. classes: (K,) int64. boxes: (K, 4) float32 xyxy, pixels.
            image_of_crowd: (C,) int64. crowds: (C, 4) float32 xyxy, pixels.

        Returns:
            The sum to differentiate (a scalar, proportional to the batch size), and (3,) float32 items per image,
            detached, named by `names`.
        """
        height, width = size
        scale = boxes.new_tensor([width, height, width, height])
        xywh = torch.cat(((boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]), 1) / scale
        target = {"batch_idx": image_of_box.float(), "cls": classes.float(), "bboxes": xywh}
        outputs = float32_outputs(outputs)
        ignore = self._ignored(size, _batch_size(outputs), image_of_crowd, crowds) if len(crowds) else None
        for part in self._parts:
            part.bce.ignore = ignore
        loss, items = self._criterion(outputs, target)
        return loss.sum(), torch.stack([items[name] for name in self.names])

    def _ignored(self, size: tuple[int, int], batch: int, image_of_crowd: Tensor, crowds: Tensor) -> Tensor:
        """(B, A) bool: anchors whose centre is in a crowd region of their image."""
        centers = torch.cat([_anchor_centers(size, s, crowds.device) for s in self._strides])  # (A, 2)
        inside = (centers[None] >= crowds[:, None, :2]).all(-1) & (centers[None] <= crowds[:, None, 2:]).all(-1)
        ignore = torch.zeros(batch, len(centers), dtype=torch.uint8, device=crowds.device)
        return ignore.index_add_(0, image_of_crowd, inside.to(torch.uint8)).bool()


def _anchor_centers(size: tuple[int, int], stride: float, device: torch.device) -> Tensor:
    """(A, 2) float32: x and y of the cell centres of one level, pixels, row by row."""
    rows, columns = round(size[0] / stride), round(size[1] / stride)
    y = (torch.arange(rows, device=device) + 0.5) * stride
    x = (torch.arange(columns, device=device) + 0.5) * stride
    return torch.stack((x.repeat(rows), y.repeat_interleave(columns)), 1)


def _batch_size(outputs: Mapping[str, Any]) -> int:
    return len(outputs["one2many"]["boxes"] if "one2many" in outputs else outputs["boxes"])
