"""Keras (`keras/src/optimizers/schedules/learning_rate_schedule.py` of 3.15.1): rates by `optimizer.iterations`, from 0.

A minimum is a share `alpha` of the rate that decays. The end value belongs to step `decay_steps`, which does not
include a warmup, and is held. Keras computes in `floatx`, some of it in float32 always; here it is always float64.
`name` is accepted and not used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from yolo_cosine.schedules.compose import join
from yolo_cosine.schedules.curves import (
    Constant,
    Cosine,
    Exponential,
    InverseTime,
    Linear,
    Piecewise,
    Polynomial,
    Schedule,
    Steps,
    kind,
    require,
)
from yolo_cosine.schedules.cycles import CosineRestarts
from yolo_cosine.schedules.native import NativeSchedule, Run, native
from yolo_cosine.schedules.peers.absolute import of_rates


@kind("keras-polynomial-stretched")
@dataclass(frozen=True)
class StretchedPolynomial:
    """A polynomial whose length grows by `steps` each time it is over: `end` at every multiple of `steps`, for ever.

    After each it rises at once, but not to `start`: it goes on as a polynomial from step 0 to the next multiple.
    Source: Keras, `PolynomialDecay` with `cycle=True`.
    """

    start: float
    end: float
    steps: Steps
    power: float = 1.0

    def __call__(self, step: float) -> float:
        length = self.steps * max(1, math.ceil(step / self.steps))
        return self.end + (self.start - self.end) * (1 - min(1, step / length)) ** self.power


@kind("keras-cosine-restarts")
@dataclass(frozen=True)
class HeightRestarts:
    """`cosine-restarts` where `decay` multiplies the height above `end`, not the peak, and cycles may shrink.

    Cycle `i` is `T_0 * T_mult ** i` steps long and falls from `end + (start - end) * decay ** i`. With `T_mult` below 1
    all cycles together last `T_0 / (1 - T_mult)` steps; there is no value after them.
    Source: Keras, `CosineDecayRestarts`.
    """

    start: float
    end: float
    T_0: Steps
    T_mult: float = 1.0
    decay: float = 1.0

    def __post_init__(self) -> None:
        require(self.T_0 > 0, f"T_0: {self.T_0:g} steps is no cycle; write at least 1it")
        require(self.T_mult > 0, f"T_mult: {self.T_mult:g} gives the second cycle no steps; write a number above 0")

    @property
    def steps(self) -> Steps:
        return self.T_0

    def __call__(self, step: float) -> float:
        cycle, share = self._position(step / self.T_0)
        return self.end + (self.start - self.end) * self.decay**cycle * (1 + math.cos(math.pi * share)) / 2

    def _position(self, first_cycles: float) -> tuple[int, float]:
        """The cycle, and the share of it that has passed, after so many times the first cycle's length."""
        if self.T_mult == 1:
            return math.floor(first_cycles), first_cycles % 1
        growth = 1 + first_cycles * (self.T_mult - 1)
        require(
            growth > 0,
            f"T_mult: {self.T_mult:g} has shrunk the cycles to nothing at step {first_cycles * self.T_0:g}; "
            "write 1 or more",
        )
        cycle = math.floor(math.log(growth) / math.log(self.T_mult))
        cycle += self._start_of(cycle + 1) <= first_cycles  # the logarithm may be off by one
        cycle -= self._start_of(cycle) > first_cycles
        return cycle, (first_cycles - self._start_of(cycle)) / self.T_mult**cycle

    def _start_of(self, cycle: int) -> float:
        return (self.T_mult**cycle - 1) / (self.T_mult - 1)


def _schedule(run: Run, schedule: Schedule, initial_learning_rate: float, *notes: str) -> NativeSchedule:
    if isinstance(initial_learning_rate, int):
        notes += (
            f"initial_learning_rate={initial_learning_rate} is a whole number, in whose type keras computes all the "
            "others; here it is a float, write it with a point for keras",
        )
    return of_rates(run, schedule, notes)


def _check_decay_steps(decay_steps: Steps, name: str = "decay_steps") -> None:
    require(decay_steps > 0, f"{name}: {decay_steps:g} is not above 0; write the number of steps")


@native("keras", "ExponentialDecay")
def exponential(
    run: Run,
    *,
    initial_learning_rate: float,
    decay_steps: Steps,
    decay_rate: float,
    staircase: bool = False,
    name: str = "ExponentialDecay",
) -> NativeSchedule:
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`, for ever; in whole steps with `staircase`."""
    _check_decay_steps(decay_steps)
    require(decay_rate >= 0, f"decay_rate: {decay_rate:g} is below 0, which makes rates below 0; write 0 or more")
    schedule = Exponential(initial_learning_rate, decay_rate, decay_steps, staircase)
    return _schedule(run, schedule, initial_learning_rate)


@native("keras", "PiecewiseConstantDecay")
def piecewise_constant(
    run: Run, *, boundaries: Sequence[Steps], values: Sequence[float], name: str = "PiecewiseConstant"
) -> NativeSchedule:
    """`values[k]` up to and including `boundaries[k]`: the next value comes one step later than in most libraries."""
    require(bool(boundaries), "boundaries: there is none, and keras fails at the first step; write at least one")
    require(
        list(boundaries) == sorted(boundaries),
        f"boundaries: {list(boundaries)} are not in order, and keras adds the values up; sort them",
    )
    # keras casts boundaries to the type of the step, a whole number
    return of_rates(run, Piecewise(tuple(values), tuple(int(boundary) + 1 for boundary in boundaries)))


@native("keras", "PolynomialDecay")
def polynomial(
    run: Run,
    *,
    initial_learning_rate: float,
    decay_steps: Steps,
    end_learning_rate: float = 0.0001,
    power: float = 1.0,
    cycle: bool = False,
    name: str = "PolynomialDecay",
) -> NativeSchedule:
    """A polynomial from `initial_learning_rate` to `end_learning_rate`; with `cycle`, stretched each time it is over."""
    _check_decay_steps(decay_steps)
    require(power >= 0, f"power: {power:g} is below 0, which makes the end infinite; write a number above 0")
    if power == 0:
        return _schedule(run, Constant(initial_learning_rate), initial_learning_rate)
    if cycle:
        schedule = StretchedPolynomial(initial_learning_rate, end_learning_rate, decay_steps, power)
    elif power == 1:
        schedule = Linear(initial_learning_rate, end_learning_rate, decay_steps)
    else:
        schedule = Polynomial(initial_learning_rate, end_learning_rate, decay_steps, power)
    return _schedule(run, schedule, initial_learning_rate)


@native("keras", "InverseTimeDecay")
def inverse_time(
    run: Run,
    *,
    initial_learning_rate: float,
    decay_steps: Steps,
    decay_rate: float,
    staircase: bool = False,
    name: str = "InverseTimeDecay",
) -> NativeSchedule:
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`, for ever; in whole steps with `staircase`."""
    _check_decay_steps(decay_steps)
    require(decay_rate >= 0, f"decay_rate: {decay_rate:g} is below 0, which passes infinity; write 0 or more")
    schedule = InverseTime(initial_learning_rate, decay_rate, decay_steps, staircase)
    return _schedule(run, schedule, initial_learning_rate)


@native("keras", "CosineDecay")
def cosine(
    run: Run,
    *,
    initial_learning_rate: float,
    decay_steps: Steps,
    alpha: float = 0.0,
    name: str = "CosineDecay",
    warmup_target: float | None = None,
    warmup_steps: Steps = 0,
) -> NativeSchedule:
    """A line to `warmup_target` in `warmup_steps`, then a cosine to `alpha` times it in `decay_steps` more.

    Without a `warmup_target` there is no warmup, whatever `warmup_steps` says, and `initial_learning_rate` decays.
    """
    _check_decay_steps(decay_steps)
    if warmup_target is None:
        unused = (f"warmup_steps={warmup_steps:g} is not used: keras warms up only with a warmup_target",)
        decay = Cosine(initial_learning_rate, alpha * initial_learning_rate, decay_steps)
        return _schedule(run, decay, initial_learning_rate, *(unused if warmup_steps else ()))
    require(warmup_steps >= 0, f"warmup_steps: {warmup_steps:g} is below 0; write 0 for no warmup")
    warmup = Linear(initial_learning_rate, warmup_target, warmup_steps)
    decay = Cosine(warmup_target, alpha * warmup_target, decay_steps)
    return _schedule(run, join(warmup, decay), initial_learning_rate)


@native("keras", "CosineDecayRestarts")
def cosine_restarts(
    run: Run,
    *,
    initial_learning_rate: float,
    first_decay_steps: Steps,
    t_mul: float = 2.0,
    m_mul: float = 1.0,
    alpha: float = 0.0,
    name: str = "SGDRDecay",
) -> NativeSchedule:
    """Cosines to `alpha * initial_learning_rate`, each `t_mul` times as long and `m_mul` times as high as the last.

    `m_mul` is of the height above the minimum, so that peaks stay above it.
    """
    _check_decay_steps(first_decay_steps, "first_decay_steps")
    require(t_mul > 0, f"t_mul: {t_mul:g} gives the second cycle no steps; write 1 or more")
    end = alpha * initial_learning_rate
    same = t_mul >= 1 and (m_mul == 1 or end == 0)
    curve = CosineRestarts if same else HeightRestarts
    schedule = curve(initial_learning_rate, end, first_decay_steps, t_mul, m_mul)
    return _schedule(run, schedule, initial_learning_rate)
