"""The statistics of the norms, and what they were after the last good update."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class NormStatistics:
    """The forward passes of an update move the statistics before anybody knows whether its loss is a number; where it is
    none they are put back."""

    def __init__(self, model: nn.Module) -> None:
        self._current = [b for b in model.buffers() if b.is_floating_point()]
        self._sizes = [b.numel() for b in self._current]
        self.keep()

    @torch.no_grad()
    def keep(self, values: Sequence[Tensor] | None = None) -> None:
        """Keep the present statistics as good ones, or those that are given."""
        self._good = torch.cat([b.flatten() for b in values or self._current]).to(self._current[0].device)

    @torch.no_grad()
    def keep_if(self, good: Tensor) -> None:
        """Keep the present ones where `good`, () bool on their device, is true; else put the kept ones back."""
        self._good = torch.where(good, torch.cat([b.flatten() for b in self._current]), self._good)
        torch._foreach_copy_(self._current, self.saved())

    def saved(self) -> tuple[Tensor, ...]:
        """The kept statistics, in the shapes and the order of the network's."""
        parts = self._good.split(self._sizes)
        return tuple(part.view(b.shape) for part, b in zip(parts, self._current, strict=True))
