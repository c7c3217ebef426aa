"""A training step: what a batch does to weights, averages and norms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim

from yolo_cosine.data.loader import TrainBatch
from yolo_cosine.data.targets import Targets
from yolo_cosine.engine.compiling import Compiled
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.norms import NormStatistics
from yolo_cosine.engine.optim import clip_gradients, step_if
from yolo_cosine.engine.precision import Precision
from yolo_cosine.engine.verdicts import Update, Verdicts
from yolo_cosine.model.ema import Ema
from yolo_cosine.model.loss import DetectionLoss


@dataclass
class Learner:
    """Network, loss and optimizer: takes in batches, and moves the weights when those of an update are together."""

    model: nn.Module
    rows: nn.Module  # the model in its `detector.Rows`
    loss: DetectionLoss
    ema: Ema
    optimizer: optim.Optimizer
    precision: Precision
    world: World
    clip_norm: float
    compiled: Compiled | None = None  # network and loss as one

    def __post_init__(self) -> None:
        self.scaler = self.precision.scaler()
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.gradients = self.world.gradients(self.trained)
        self.window: list[tuple[np.ndarray, Tensor]] = []  # images and losses of the batches since the last update
        self.verdicts = Verdicts(lag=1 if self.precision.device.type == "cuda" else 0)
        # per interval, per epoch: the sum of each loss over the steps, and the number of these steps
        self.sums = torch.zeros(2, len(self.loss.names) + 1, device=self.precision.device)
        self.norms = NormStatistics(self.model)
        # of an update that is not closed, each rank's share of what is summed up so far; as of the last save
        self.gradients_of_ranks: list[list[Tensor]] | None = None
        self.images_of_ranks: list[np.ndarray] = []  # of each batch of the window, those of all ranks

    def take(self, batch: TrainBatch, step: int, accumulate: float, parts: int, images: int) -> bool:
        """Take in a batch; returns whether it closed an accumulation.

        Then the weights have moved, unless a loss or a gradient was no finite number: in that case the device has left the
        update out, of which `verdicts` tells. The host waits for nothing here, but with MuSGD, which is no fused optimizer, to
        learn whether it is to take its step.

        Args:
            accumulate: batches of an update.
            parts: in which the batch is computed.
            images: of the batches of all ranks together.
        """
        batch = batch.to(self.precision.device)
        closing = len(self.window) + 1 >= accumulate
        items = torch.zeros(len(self.loss.names), device=self.precision.device)
        for part in batch.parts(parts):
            inputs = part.inputs()
            with self.gradients(closing):
                loss, part_items = self._loss(inputs, part.targets, images)
                self.scaler.scale(loss).backward()
            items += part_items * (len(inputs) / len(batch.images))
        self.sums += torch.where(torch.isfinite(items).all(), torch.cat((items, items.new_ones(1))), 0)
        self.window.append((batch.indices, items))
        if not closing:
            return False
        self._update(step)
        return True

    def _loss(self, inputs: Tensor, targets: Targets, images: int) -> tuple[Tensor, Tensor]:
        """Network and loss: the sum to differentiate, and the items."""
        if self.compiled is not None:
            return self.compiled(inputs, targets, self.precision.autocast())
        with self.precision.autocast():
            outputs = self.rows(inputs)
        return self.loss(outputs, inputs.shape[2:], targets, **self._share_of(images))

    def _share_of(self, images: int) -> dict[str, Any]:
        """What the loss is to know where a rank has a share of the batch only."""
        return {} if self.world.size == 1 else {"images": images, "total": self.world.total}

    def _update(self, step: int) -> None:
        """Let the gradients of the window move the weights, averages and norms, if they are finite."""
        images, losses = zip(*self.window, strict=True)
        losses = torch.stack(losses)
        self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.trained, self.clip_norm)
        # losses and gradients are those of all ranks, so all decide alike
        finite = torch.isfinite(losses).all()
        if not self.scaler.is_enabled():
            finite &= torch.isfinite(norm)
            step_if(self.optimizer, finite)
        else:  # an infinite norm is in order, until it has nothing left to scale down: it skips that update
            scale = self.scaler.scale(torch.ones_like(norm))  # unlike get_scale, on the device
            finite &= torch.isfinite(norm) | (scale >= 1)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.norms.keep_if(finite)
        self.ema.update(finite)
        self.verdicts.put(Update(step, images, losses, finite))
        self.window.clear()
        self.gradients_of_ranks = None

    def collect(self) -> None:
        """Bring together, for a checkpoint, what each rank has of its own."""
        self.gradients_of_ranks = self.world.collect([p.grad for p in self.trained]) if self.window else None
        shares = self.world.gather([images for images, _ in self.window]) if self.window else []
        self.images_of_ranks = [np.concatenate(images) for images in zip(*shares, strict=True)]

    def mean_losses(self, row: int, prefix: str) -> dict[str, float]:
        """Read and reset a row of the sums. This waits for the device, so it is done once per interval."""
        *sums, count = self.sums[row].tolist()
        self.sums[row].zero_()
        return {
            prefix + name: value / count if count else float("nan")
            for name, value in zip(self.loss.names, sums, strict=True)
        }
