"""The exponential moving average of a network's weights."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn


class Ema:
    """`average += (1 - d) * (weights - average)` after every update `u` (from 1), with `d = decay * (1 - exp(-u / tau))`.

    The ramp lets the average follow closely while the network still changes fast. Source of the formula and of its
    constants: ModelEMA of YOLOv5 and Ultralytics. Whole-number buffers are copied as they are.
    """

    def __init__(self, model: nn.Module, decay: float, tau: float):
        self.model = copy.deepcopy(model).eval()
        for parameter in self.model.parameters():
            parameter.requires_grad = False
        self.decay, self.tau = decay, tau
        self.updates: int | Tensor = 0
        own, source = self.model.state_dict(), model.state_dict()
        floating = [name for name, value in own.items() if value.is_floating_point()]
        self._average, self._weights = [own[n] for n in floating], [source[n] for n in floating]
        whole = [name for name in own if name not in floating]
        self._counts, self._counted = [own[n] for n in whole], [source[n] for n in whole]

    @torch.no_grad()
    def update(self, happened: Tensor | None = None) -> None:
        """Take in the network's present weights.

        Args:
            happened: () bool on the network's device, False where there was no update and the average is to stay; the host
                does not wait to learn it, so on a GPU `updates` is a tensor. By default there was one.
        """
        if happened is None or happened.device.type == "cpu":  # where a tensor is read without waiting
            if happened is None or happened:
                self.updates += 1
                torch._foreach_lerp_(self._average, self._weights, self._share(math.exp(-self.updates / self.tau)))
        else:
            self._update_on_device(happened)
        if self._counts:
            torch._foreach_copy_(self._counts, self._counted)

    def _update_on_device(self, happened: Tensor) -> None:
        self.updates = self.updates + happened
        # float32, as the averages: with another type each of them would get a kernel of its own, and some GPUs have no float64
        share = self._share(torch.exp(-self.updates / self.tau)) * happened
        change = torch._foreach_sub(self._weights, self._average)
        torch._foreach_mul_(change, share)
        torch._foreach_add_(self._average, change)

    def _share(self, ramp: Any) -> Any:
        """`1 - d` of the present update, given `exp(-u / tau)`; this form of it keeps all digits of a float32."""
        return (1 - self.decay) + self.decay * ramp
