"""Combinators: schedules made of schedules."""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from yolo_cosine.schedules.curves import (
    Constant,
    Cosine,
    Geometric,
    Linear,
    OneMinusSqrt,
    Polynomial,
    Power,
    Rex,
    Schedule,
    Steps,
    Tanh,
    kind,
    require,
)


@kind("join")
@dataclass(frozen=True)
class Join:
    """Pieces one after another, each in its own local time that starts at 0; the last one goes on for ever."""

    pieces: tuple[Schedule, ...]
    starts: tuple[Steps, ...]  # global step at which each piece starts

    def __post_init__(self) -> None:
        require(
            len(self.pieces) == len(self.starts) > 0,
            f"starts: {len(self.starts)} for {len(self.pieces)} pieces; each piece has one start",
        )
        require(
            list(self.starts) == sorted(self.starts),
            f"starts: {list(self.starts)} are not in order; put the pieces in the order of their starts",
        )

    @property
    def steps(self) -> Steps:
        return self.starts[-1] + self.pieces[-1].steps

    def __call__(self, step: float) -> float:
        k = max(0, bisect_right(self.starts, step) - 1)
        return self.pieces[k](step - self.starts[k])


def join(*pieces: Schedule) -> Schedule:
    """Put pieces one after another; a piece of no steps is left out, unless it is the last."""
    kept = tuple(piece for piece in pieces[:-1] if piece.steps > 0) + pieces[-1:]
    if len(kept) == 1:
        return kept[0]
    return Join(kept, tuple(accumulate((piece.steps for piece in kept[:-1]), initial=0)))


@kind("scale")
@dataclass(frozen=True)
class Scale:
    """`factor` times another schedule."""

    schedule: Schedule
    factor: float

    @property
    def steps(self) -> Steps:
        return self.schedule.steps

    def __call__(self, step: float) -> float:
        return self.factor * self.schedule(step)


@kind("shift")
@dataclass(frozen=True)
class Shift:
    """Another schedule, entered `by` steps after its start (before it, where `by` is negative: its first value)."""

    schedule: Schedule
    by: Steps

    @property
    def steps(self) -> Steps:
        return max(0, self.schedule.steps - self.by)

    def __call__(self, step: float) -> float:
        return self.schedule(max(0, step + self.by))


@kind("clip")
@dataclass(frozen=True)
class Clip:
    """Another schedule, kept between `low` and `high`; either may be left out."""

    schedule: Schedule
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        require(
            self.low is None or self.high is None or self.low <= self.high,
            f"low: {self.low} is above high={self.high}; exchange them",
        )

    @property
    def steps(self) -> Steps:
        return self.schedule.steps

    def __call__(self, step: float) -> float:
        value = self.schedule(step)
        if self.low is not None and value < self.low:
            return self.low
        if self.high is not None and value > self.high:
            return self.high
        return value


@kind("repeat")
@dataclass(frozen=True)
class Repeat:
    """Another schedule over and over, `times` times (0: for ever), then as it is past its end, which most hold."""

    schedule: Schedule
    times: int = 0

    def __post_init__(self) -> None:
        require(self.schedule.steps > 0, "repeat: what is repeated has no steps; give it a length")
        require(self.times >= 0, f"times: {self.times} is below 0; write 0 for ever")

    @property
    def steps(self) -> Steps:
        return self.schedule.steps * max(1, self.times)

    def __call__(self, step: float) -> float:
        if self.times and step >= self.steps:
            return self.schedule(self.schedule.steps + step - self.steps)
        return self.schedule(step % self.schedule.steps)


@kind("product")
@dataclass(frozen=True)
class Product:
    """The product of schedules that run side by side on one clock; it is as long as the longest."""

    schedules: tuple[Schedule, ...]

    def __post_init__(self) -> None:
        require(len(self.schedules) > 0, "schedules: there is none; write at least one")

    @property
    def steps(self) -> Steps:
        return max(schedule.steps for schedule in self.schedules)

    def __call__(self, step: float) -> float:
        return math.prod(schedule(step) for schedule in self.schedules)


@kind("epoch-wise")
@dataclass(frozen=True)
class EpochWise:
    """A schedule over epochs, as a schedule over steps: its value changes at the start of each epoch."""

    by_epoch: Schedule
    steps_per_epoch: int

    def __post_init__(self) -> None:
        require(self.steps_per_epoch >= 1, f"steps_per_epoch: {self.steps_per_epoch} is no epoch; write 1 or more")

    @property
    def steps(self) -> Steps:
        return self.by_epoch.steps * self.steps_per_epoch

    def __call__(self, step: float) -> float:
        return self.by_epoch(step // self.steps_per_epoch)


@kind("ramp-into")
@dataclass(frozen=True)
class RampInto:
    """A warmup towards a moving target: `start + (target(step) - start) * step / warmup` for `step < warmup`.

    The target's clock runs during the warmup, where `join` starts it afterwards.
    """

    start: float
    target: Schedule
    warmup: Steps

    @property
    def steps(self) -> Steps:
        return self.target.steps

    def __call__(self, step: float) -> float:
        value = self.target(step)
        if step >= self.warmup:
            return value
        return self.start + (value - self.start) * (step / self.warmup)


@kind("rounded")
@dataclass(frozen=True)
class Rounded:
    """Whole numbers, at least 1: the schedule rounded half to even."""

    schedule: Schedule

    @property
    def steps(self) -> Steps:
        return self.schedule.steps

    def __call__(self, step: float) -> float:
        value = self.schedule(step)
        return max(1, round(value)) if math.isfinite(value) else max(1, value)  # growth without end stays that


@kind("noise")
@dataclass(frozen=True)
class Noise:
    """Another schedule times `1 + std * z`, with `z` normal and cut at two deviations, so never a negative rate for
    `std` up to 0.5. A pure function of (seed, step): the same in every process and after a resume.

    `every` steps share one draw; the noise lives in the steps from `begin` to `stop` (0: to the end).
    """

    schedule: Schedule
    std: float = 0.1
    seed: int = 0
    every: Steps = 1
    begin: Steps = 0
    stop: Steps = 0

    def __post_init__(self) -> None:
        require(0 <= self.std <= 0.5, f"std: {self.std:g} is not from 0 to 0.5, where a rate could fall below 0")
        require(self.every > 0, f"every: {self.every:g} steps is no length; write at least 1it")

    @property
    def steps(self) -> Steps:
        return self.schedule.steps

    def __call__(self, step: float) -> float:
        value = self.schedule(step)
        if step < self.begin or (self.stop and step >= self.stop):
            return value
        z = random.Random(f"{self.seed}/{int(step // self.every)}").gauss(0.0, 1.0)
        return value * (1 + self.std * min(2.0, max(-2.0, z)))


# Curves with an `end`, which is held unless `after` says otherwise.
_HOLDING = (Linear, Cosine, Polynomial, Power, Geometric, Tanh, OneMinusSqrt, Rex)


def segment(schedule: Schedule, step: float) -> tuple[Schedule, Steps, Steps]:
    """The piece that speaks for `schedule` at `step`: (piece, its start, the first step where another one may).

    `piece(k - start) == schedule(k)` for every `k` from `step` up to that step. For callers that ask at every step and
    want to pay for the joints once only.
    """
    if isinstance(schedule, Join):
        k = max(0, bisect_right(schedule.starts, step) - 1)
        start = schedule.starts[k]
        until = schedule.starts[k + 1] if k + 1 < len(schedule.starts) else math.inf
        piece, inner, inner_until = segment(schedule.pieces[k], step - start)
        return piece, start + inner, min(until, start + inner_until)
    if isinstance(schedule, RampInto):
        if step >= schedule.warmup:
            return segment(schedule.target, step)
        return schedule, 0, schedule.warmup
    if isinstance(schedule, EpochWise):
        epoch = step // schedule.steps_per_epoch
        return Constant(schedule(step)), step, (epoch + 1) * schedule.steps_per_epoch
    if getattr(schedule, "after", "hold") == "hold" and isinstance(schedule, _HOLDING) and step >= schedule.steps:
        return Constant(schedule.end), step, math.inf
    if isinstance(schedule, _HOLDING):
        return schedule, 0, schedule.steps if getattr(schedule, "after", "hold") == "hold" else math.inf
    return schedule, 0, math.inf
