"""What the schedules of YOLOX and LibreYOLO are built of: parts by their first step, and checks of the arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence

from yolo_cosine.schedules.compose import Join, Shift
from yolo_cosine.schedules.curves import Constant, Cosine, InvalidSchedule, Linear, Power, Schedule, Steps, require
from yolo_cosine.schedules.native import FromRun, NativeGroup, NativeSchedule, Run

LR = FromRun("lr0")
"""Default of the argument `lr`: the run's base rate."""

Part = tuple[Steps, Schedule]
"""A schedule and the step, perhaps between two whole ones, at which it starts to be in force."""


def total_steps(lr: float, iters_per_epoch: int, total_epochs: int, **shares: float) -> float:
    """Steps of the run.

    Raises:
        InvalidSchedule: if there are none, or one of the arguments is below 0 or no number.
    """
    for name, value in {"lr": lr, **shares}.items():
        if not 0 <= value < math.inf:
            raise InvalidSchedule(f"{name}: {value:g} is not a number from 0 on; write one")
    for name, value in {"iters_per_epoch": iters_per_epoch, "total_epochs": total_epochs}.items():
        require(0 < value < math.inf, f"{name}: {value:g} makes no run; write at least 1")
    return iters_per_epoch * total_epochs


def reference(lr: float) -> tuple[float, float]:
    """The group's lr0 and the factor of it that is `lr`. A rate of 0 has no multiples, so 1 stands in for it."""
    return (float(lr), 1.0) if lr else (1.0, 0.0)


def rise(start: float, peak: float, warmup: Steps, power: int = 1) -> Part:
    """The warmup: a line or another power; without one, the peak."""
    if not warmup:
        return 0, Constant(peak)
    return 0, Linear(start, peak, warmup) if power == 1 else Power(start, peak, warmup, power)


def step_after(warmup: Steps) -> int:
    """The first whole step after the one that the warmup ends with, which both peers count to it."""
    return math.floor(warmup) + 1


def fall_until(flat: Steps, peak: float, low: float, warmup: Steps, after: int) -> Part:
    """Half a cosine between the warmup and the step `flat`, then its minimum; only that where there is no between."""
    return (warmup, Cosine(peak, low, flat - warmup)) if flat > warmup else (after, Constant(low))


def entered(schedule: Schedule, by: Steps) -> Schedule:
    """A schedule entered `by` steps after its start."""
    return Shift(schedule, by) if by else schedule


def by_start(parts: Sequence[Part]) -> Schedule:
    """Parts in the order of their starts, the first at 0; those that no whole step falls into are left out."""
    starts = [math.ceil(start) for start, _ in parts] + [math.inf]
    kept = [part for k, part in enumerate(parts) if starts[k] < starts[k + 1]]
    if len(kept) == 1:
        return kept[0][1]
    return Join(tuple(schedule for _, schedule in kept), tuple(start for start, _ in kept))


def with_first(first: float, parts: Sequence[Part]) -> list[Part]:
    """The same parts, but for step 0, which has the value `first`."""
    if by_start(parts)(0) == first:
        return list(parts)
    later = [(start, part) if start >= 1 else (1, entered(part, 1 - start)) for start, part in parts]
    return [(0, Constant(first)), *later]


def one_rate(
    run: Run,
    lr0: float,
    factor: Schedule,
    length: float,
    notes: Sequence[str] = (),
    momenta: tuple[Schedule, ...] = (),
) -> NativeSchedule:
    """One rate for all groups of the run, whatever their own lr0."""
    groups = tuple(NativeGroup(group.name, lr0) for group in run.groups())
    return NativeSchedule(groups, (factor,) * len(groups), momenta=momenta, length=length, notes=tuple(notes))


def cut_notes(warmup: Steps, flat: Steps, argument: str) -> tuple[str, ...]:
    """What to say where the last epochs at the minimum leave no room for the cosine."""
    if flat > warmup:
        return ()
    return (f"{argument}: they leave nothing between the warmup and themselves; the rate drops to its minimum there",)
