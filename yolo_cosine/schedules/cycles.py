"""Curves that come back: periodic cosine, warm restarts, cyclic and one-cycle."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from yolo_cosine.schedules.curves import Steps, grown, kind, require


@kind("cosine-periodic")
@dataclass(frozen=True)
class CosinePeriodic:
    """`end + (start - end) * (1 + cos(pi * step / steps)) / 2` for ever: down in `steps`, up again in as many.

    This is what PyTorch's CosineAnnealingLR does past its T_max.
    """

    start: float
    end: float
    steps: Steps

    def __post_init__(self) -> None:
        require(self.steps > 0, f"steps: {self.steps:g} is no period; write at least 1it")

    def __call__(self, step: float) -> float:
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * step / self.steps)) / 2


@kind("cosine-restarts")
@dataclass(frozen=True)
class CosineRestarts:
    """Cosines one after another: cycle `i` is `T_0 * T_mult ** i` steps long and starts from `start * decay ** i`.

    The step at which a cycle starts has the peak; `end` is approached, and reached only where no cycle follows: after
    `cycle_limit` cycles (0: no limit) `end` is held. A peak that has decayed below `end` rises to it, as in timm. A cycle
    may begin with a linear warmup of `warmup` steps from `warmup_start` (by default `end`), which is part of its length.
    Source: Loshchilov and Hutter, SGDR (arXiv 1608.03983).
    """

    start: float
    end: float
    T_0: Steps
    T_mult: float = 1.0
    decay: float = 1.0
    cycle_limit: int = 0
    warmup: Steps = 0
    warmup_start: float | None = None

    def __post_init__(self) -> None:
        require(self.T_0 > 0, f"T_0: {self.T_0:g} steps is no cycle; write at least 1it")
        require(self.T_mult >= 1, f"T_mult: {self.T_mult:g} would shrink the cycles to nothing; write at least 1")
        require(self.cycle_limit >= 0, f"cycle_limit: {self.cycle_limit} is below 0; write 0 for no limit")
        require(
            0 <= self.warmup < self.T_0,
            f"warmup: {self.warmup:g} steps do not fit into the first cycle of {self.T_0:g}; shorten the warmup",
        )

    @property
    def steps(self) -> Steps:
        return self.start_of(max(1, self.cycle_limit))

    def start_of(self, cycle: int) -> Steps:
        """The first step of a cycle, counted from 0; infinite where growth leaves the numbers."""
        if self.T_mult == 1:
            return self.T_0 * cycle
        try:
            # a float, because a power of whole numbers can fill the memory
            return self.T_0 * (float(self.T_mult) ** cycle - 1) / (self.T_mult - 1)
        except OverflowError:
            return math.inf

    def cycle(self, step: float) -> int:
        """The number of the cycle that `step` is in, from 0. The logarithm may be off by one; the loops are not.

        A start that rounding puts just after a whole step is that step: a third of 100 steps, three times, is 100.
        """
        if self.T_mult == 1:
            return int(step / self.T_0 + 1e-9)
        i = int(math.log(step / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
        near = step + 1e-9 + 1e-12 * step
        while self.start_of(i + 1) <= near:
            i += 1
        while self.start_of(i) > near:
            i -= 1
        return i

    def __call__(self, step: float) -> float:
        i = self.cycle(step)
        if self.cycle_limit and i >= self.cycle_limit:
            return self.end
        t = max(0, step - self.start_of(i))
        peak = grown(self.start, self.decay, i)
        if t < self.warmup:
            low = self.end if self.warmup_start is None else self.warmup_start
            return low + (peak - low) * (t / self.warmup)
        length = self.T_0 * self.T_mult**i - self.warmup
        return self.end + (peak - self.end) * (1 + math.cos(math.pi * (t - self.warmup) / length)) / 2


@kind("cyclic")
@dataclass(frozen=True)
class Cyclic:
    """Triangles between `base` and `peak`: up in `up` steps, down in `down` (as many by default), for ever.

    `triangular` keeps the height, `triangular2` halves it every cycle, `exp_range` multiplies it by `gamma ** step`.
    Source: Smith, Cyclical Learning Rates for Training Neural Networks (arXiv 1506.01186).
    """

    base: float
    peak: float
    up: Steps
    down: Steps | None = None
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular"
    gamma: float = 1.0

    def __post_init__(self) -> None:
        require(self.up > 0, f"up: {self.up:g} steps is no length; write at least 1it")
        require(self.down is None or self.down > 0, f"down: {self.down} steps is no length; write at least 1it")

    @property
    def steps(self) -> Steps:
        return self.up + (self.up if self.down is None else self.down)

    def __call__(self, step: float) -> float:
        length = self.steps
        cycle, t = divmod(step, length)
        height = t / self.up if t <= self.up else (length - t) / (length - self.up)
        if self.mode == "triangular2":
            height *= 0.5**cycle
        elif self.mode == "exp_range":
            height = grown(height, self.gamma, step)
        return self.base + (self.peak - self.base) * height


@kind("one-cycle")
@dataclass(frozen=True)
class OneCycle:
    """Up from `start` to `peak` over the share `pct_start` of `steps`, then down to `end`, which is held.

    `anneal` is the shape of both ways. The peak's step is rounded to a whole one. For momentum write it the other way
    round: `peak` below `start`.
    Source: Smith and Topin, Super-Convergence (arXiv 1708.07120).
    """

    start: float
    peak: float
    end: float
    steps: Steps
    pct_start: float = 0.3
    anneal: Literal["cosine", "linear"] = "cosine"

    def __post_init__(self) -> None:
        require(0 <= self.pct_start <= 1, f"pct_start: {self.pct_start:g} is no share; write a number from 0 to 1")

    def __call__(self, step: float) -> float:
        if step >= self.steps:
            return self.end
        up = round(self.pct_start * self.steps)
        low, high, t, length = (
            (self.start, self.peak, step, up) if step < up else (self.peak, self.end, step - up, self.steps - up)
        )
        if self.anneal == "linear":
            return low + (high - low) * (t / length)
        return high + (low - high) * (1 + math.cos(math.pi * t / length)) / 2
