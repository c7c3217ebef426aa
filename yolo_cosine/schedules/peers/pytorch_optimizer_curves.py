"""Shapes of pytorch_optimizer that no curve of ours has."""

from __future__ import annotations

import math
from dataclasses import dataclass

from yolo_cosine.schedules.curves import Schedule, Steps, kind, require


@kind("pytorch-optimizer-power-law")
@dataclass(frozen=True)
class PowerLaw:
    """`start + rise * step ** power`, for ever: `rise` is what the first step adds."""

    start: float
    rise: float
    power: float = 0.5
    steps: Steps = 0

    def __post_init__(self) -> None:
        require(self.power > 0, f"power: {self.power:g} is not above 0; 1 is a straight line")

    def __call__(self, step: float) -> float:
        return self.start + self.rise * step**self.power


@kind("pytorch-optimizer-affine")
@dataclass(frozen=True)
class Affine:
    """`offset + factor` times another schedule."""

    schedule: Schedule
    factor: float
    offset: float

    @property
    def steps(self) -> Steps:
        return self.schedule.steps

    def __call__(self, step: float) -> float:
        return self.offset + self.factor * self.schedule(step)


@kind("pytorch-optimizer-chebyshev")
@dataclass(frozen=True)
class Chebyshev:
    """The inverse Chebyshev nodes of the interval from `low` to `high`, in fractal order, one each step; the last is held.

    `nodes` is how many there are; `order`, a power of two, how many of them are used, the smallest angle first.
    Source: Agarwal, Goel and Zhang, Acceleration via Fractal Learning Rate Schedules (arXiv 2103.01338).
    """

    nodes: int
    order: int
    low: float = 0.05
    high: float = 1.0

    def __post_init__(self) -> None:
        require(
            0 < self.order <= self.nodes and self.order & (self.order - 1) == 0,
            f"order: {self.order} is no power of two up to nodes={self.nodes}; write one, as in 8",
        )

    @property
    def steps(self) -> Steps:
        return self.order

    def __call__(self, step: float) -> float:
        k = _fractal(min(int(step), self.order - 1), self.order)
        middle, radius = (self.high + self.low) / 2, (self.high - self.low) / 2
        return 1 / (middle - radius * math.cos(math.pi * (k + 0.5) / self.nodes))


def _fractal(position: int, size: int) -> int:
    """Which of `size` nodes stands at `position`: pairs of a node and its mirror image, ordered as half as many are."""
    if size == 1:
        return 0
    node = _fractal(position // 2, size // 2)
    return size - 1 - node if position % 2 else node


@kind("pytorch-optimizer-whole-cycles")
@dataclass(frozen=True)
class WholeCycles:
    """Cycles of a linear warmup of `warmup` steps and half a cosine, between `end` and `start * decay ** i`.

    The first cycle has `first` steps; after that what follows the warmup is `T_mult` times as long as before, cut to
    whole steps, and at least 1.
    """

    start: float
    end: float
    first: Steps
    T_mult: float = 1.0
    decay: float = 1.0
    warmup: Steps = 0

    def __post_init__(self) -> None:
        require(
            0 <= self.warmup < self.first,
            f"warmup: {self.warmup:g} steps do not fit into the first cycle of {self.first:g}; shorten the warmup",
        )

    @property
    def steps(self) -> Steps:
        return self.first

    def __call__(self, step: float) -> float:
        cycle, t, length = self._locate(step)
        height = self.start * self.decay**cycle - self.end
        if t < self.warmup:
            return self.end + height * (t / self.warmup)
        z = (t - self.warmup) / (length - self.warmup)
        return self.end + height * (1 + math.cos(math.pi * z)) / 2

    def _locate(self, step: float) -> tuple[int, float, float]:
        """(cycle, step in it, its length). The cut leaves no formula for it, but growing cycles are few."""
        cycle, length = 0, self.first
        while step >= length:
            following = max(1, int((length - self.warmup) * self.T_mult)) + self.warmup
            if following == length:  # and so for ever
                skipped = int(step // length)
                return cycle + skipped, step - skipped * length, length
            step -= length
            cycle, length = cycle + 1, following
        return cycle, step, length
