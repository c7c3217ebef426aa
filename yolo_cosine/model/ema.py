"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn


class Ema:
    """`average += (1 - d) * (weights - average)` after every update `u` (from 1), with `d = decay * (1 - exp(-u / tau))`.

    The ramp lets the average follow closely while the network still changes fast. Source of the formula and of its
    constants: ModelEMA of YOLOv5 and Ultralytics. Whole-number buffers are copied as they are.
    """

    def __init__(self, model: nn.Module, decay: float, tau: float):
        self.model = copy.deepcopy(model).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad = False
        self.decay, self.tau, self.updates = decay, tau, 0
        own, source = self.model.state_dict(), model.state_dict()
        floating = [name for name, value in own.items() if value.is_floating_point()]
        self._average, self._weights = [own[n] for n in floating], [source[n] for n in floating]
        self._whole = [(own[n], source[n]) for n in own if not own[n].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network's present weights."""
        self.updates += 1
        rest = 1 - self.decay * (1 - math.exp(-self.updates / self.tau))
        torch._foreach_lerp_(self._average, self._weights, rest)
        for own, source in self._whole:
            own.copy_(source)
