"""Shapes of timm that no curve of ours has: bent clocks, cycles of any shape, a share of a moving height, its noise."""

from __future__ import annotations

import functools
import math
import random
import struct
from dataclasses import dataclass
from typing import Literal

from yolo_cosine.schedules.curves import InvalidSchedule, Schedule, Steps, grown, kind, require


@kind("timm-k-decay")
@dataclass(frozen=True)
class KDecay:
    """Another schedule on a bent clock: step `t` reads it at `steps * (t / steps) ** k`, from `steps` on at `t`.

    `k` above 1 stays near the start for longer, below 1 leaves it at once.
    Source: Zhang and Li, k-decay (arXiv 2004.05909).
    """

    schedule: Schedule
    k: float

    def __post_init__(self) -> None:
        require(self.k >= 0, f"k: {self.k:g} is below 0, where the clock would start at infinity; write 1 for no bend")

    @property
    def steps(self) -> Steps:
        return self.schedule.steps

    def __call__(self, step: float) -> float:
        if step >= self.steps:
            return self.schedule(step)
        return self.schedule(self.steps * (step / self.steps) ** self.k)


@kind("timm-cycles")
@dataclass(frozen=True)
class Cycles:
    """Falls of one shape, one after another: cycle `i` takes `T_mult ** i` times the steps of `shape`, and falls from
    `start * decay ** i` towards `end`, which is held after `cycle_limit` cycles (0: no limit).

    `shape` falls from 1 to 0 in its own steps. With `T_mult` below 1 all cycles together take `steps / (1 - T_mult)`;
    later steps are refused. A step within a billionth of a cycle's start belongs to it, so that rounding skips no start.
    """

    shape: Schedule
    start: float
    end: float
    T_mult: float = 1.0
    decay: float = 1.0
    cycle_limit: int = 0

    def __post_init__(self) -> None:
        require(self.shape.steps > 0, f"shape: {self.shape.steps:g} steps are no cycle; give it a length")
        require(self.T_mult > 0, f"T_mult: {self.T_mult:g} leaves no second cycle; write a factor above 0")
        require(self.cycle_limit >= 0, f"cycle_limit: {self.cycle_limit} is below 0; write 0 for no limit")

    @property
    def steps(self) -> Steps:
        return self._start_of(max(1, self.cycle_limit))

    def _start_of(self, cycle: int) -> Steps:
        if self.T_mult == 1:
            return self.shape.steps * cycle
        return self.shape.steps * (grown(1.0, float(self.T_mult), cycle) - 1) / (self.T_mult - 1)

    def cycle(self, step: float) -> int:
        """The number of the cycle that `step` is in, from 0. The logarithm may be off by one; the loops are not."""
        if self.T_mult == 1:
            return int(step // self.shape.steps)
        growth = 1 + step / self.shape.steps * (self.T_mult - 1)
        if growth < 1e-12:
            raise InvalidSchedule(
                f"T_mult: cycles that shrink by {self.T_mult:g} end for good at step "
                f"{self.shape.steps / (1 - self.T_mult):g}, and this is step {step:g}; train for less, or shrink them less"
            )
        i = max(0, int(math.log(growth, self.T_mult)))
        while self._start_of(i + 1) <= step + self._slack(i + 1):
            i += 1
        while i > 0 and self._start_of(i) > step + self._slack(i):
            i -= 1
        return i

    def _slack(self, cycle: int) -> float:
        return 1e-9 * self.shape.steps * self.T_mult**cycle

    def __call__(self, step: float) -> float:
        i = self.cycle(step)
        if self.cycle_limit and i >= self.cycle_limit:
            return self.end
        passed = max(0.0, step - self._start_of(i)) / self.T_mult**i
        return self.end + (self.start * self.decay**i - self.end) * self.shape(passed)


@kind("timm-between")
@dataclass(frozen=True)
class Between:
    """`low + (high(step) - low) * share(step)`: a share of the height above `low`, where the height itself moves."""

    low: float
    high: Schedule
    share: Schedule

    @property
    def steps(self) -> Steps:
        return max(self.high.steps, self.share.steps)

    def __call__(self, step: float) -> float:
        return self.low + (self.high(step) - self.low) * self.share(step)


@kind("timm-inverse-power")
@dataclass(frozen=True)
class InversePower:
    """`start * (1 + step / timescale) ** -power`, for ever; a power of 0.5 is `inverse-sqrt`.

    Source: Shen et al., Power Scheduler (arXiv 2408.13359).
    """

    start: float
    timescale: Steps
    power: float
    steps: Steps = 0

    def __post_init__(self) -> None:
        require(self.timescale > 0, f"timescale: {self.timescale:g} steps is no length; write at least 1it")

    def __call__(self, step: float) -> float:
        return self.start * (1 + step / self.timescale) ** -self.power


@kind("timm-exponential")
@dataclass(frozen=True)
class ExponentialTo:
    """`end + (start - end) * (ratio ** z - ratio) / (1 - ratio)` with `z = step / steps`, then it holds `end`.

    The fall of an exponential to `ratio` of its start, stretched to end at `end` itself, which may be 0.
    """

    start: float
    end: float
    steps: Steps
    ratio: float = 0.1

    def __post_init__(self) -> None:
        require(0 < self.ratio < 1, f"ratio: {self.ratio:g} is not between 0 and 1, both excluded; try 0.1")

    def __call__(self, step: float) -> float:
        if step >= self.steps:
            return self.end
        share = (self.ratio ** (step / self.steps) - self.ratio) / (1 - self.ratio)
        return self.end + (self.start - self.end) * share


@kind("timm-noise")
@dataclass(frozen=True)
class TimmNoise:
    """Another schedule times `1 + noise` in the steps from `begin` to `stop` (0: for ever), timm's own noise to the bit.

    Normal noise has the deviation `std` and is drawn again until it is below `pct`; uniform noise is between `-pct` and
    `pct`. The draw depends on `seed + step` alone. Unlike `noise` it may take a rate below 0, where `pct` is above 1.
    """

    schedule: Schedule
    begin: Steps
    stop: Steps = 0
    pct: float = 0.67
    std: float = 1.0
    seed: int = 42
    draw: Literal["normal", "uniform"] = "normal"

    def __post_init__(self) -> None:
        require(self.pct > 0, f"pct: noise below {self.pct:g} is never drawn; write a limit above 0, as in 0.67")

    @property
    def steps(self) -> Steps:
        return self.schedule.steps

    def __call__(self, step: float) -> float:
        value = self.schedule(step)
        if step < self.begin or (self.stop and step >= self.stop):
            return value
        return value * (1 + _noise(self.draw, self.pct, self.std, int(self.seed + step)))


@functools.lru_cache(maxsize=1024)  # all groups share the draw of a step
def _noise(draw: str, pct: float, std: float, seed: int) -> float:
    twister = _torch_twister(seed)
    if draw == "uniform":
        return 2 * ((twister.getrandbits(32) & (2**24 - 1)) * 2.0**-24 - 0.5) * pct
    while True:
        # a Box-Muller pair gives two draws, the second of which PyTorch's generator keeps for the next call
        angle, length = (_uniform53(twister) for _ in range(2))
        radius = math.sqrt(-2 * math.log1p(-length))
        for z in (radius * math.cos(2 * math.pi * angle), radius * math.sin(2 * math.pi * angle)):
            noise = struct.unpack("f", struct.pack("f", z))[0] * std
            if abs(noise) < pct:
                return noise


def _torch_twister(seed: int) -> random.Random:
    """Python's Mersenne twister in the state of PyTorch's CPU generator after `manual_seed(seed)`.

    Both are MT19937, but Python hashes the seed first. Source of the state: Matsumoto and Nishimura's `init_genrand`.
    """
    state = [seed & 0xFFFFFFFF]
    for i in range(1, 624):
        state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + i) & 0xFFFFFFFF)
    twister = random.Random()
    twister.setstate((3, (*state, 624), None))
    return twister


def _uniform53(twister: random.Random) -> float:
    high, low = twister.getrandbits(32), twister.getrandbits(32)
    return (((high << 32) | low) & (2**53 - 1)) * 2.0**-53
