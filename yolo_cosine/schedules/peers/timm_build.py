"""What timm's schedulers have in common: cycles, a warmup, groups with a scale of their own, and noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from yolo_cosine.schedules.compose import Join, Scale, Shift
from yolo_cosine.schedules.curves import Constant, Linear, Schedule, require
from yolo_cosine.schedules.native import NativeGroup, NativeSchedule, Run
from yolo_cosine.schedules.peers.timm_curves import Cycles, KDecay, TimmNoise
from yolo_cosine.schedules.peers.torch_part import as_factor

Build = Callable[[float, float, float, float], Schedule]
"""Of a group: (its base rate, lr_min, warmup_lr_init), in units of its own lr0, and that unit as it ends up in the
optimizer, to the schedule of its rates."""

Shape = Callable[[float, float], Schedule]
"""(start, end) to a fall between them over the first cycle."""

Wrap = Callable[[Schedule], Schedule]


def natives(
    run: Run, build: Build, lr_min: float, warmup_lr_init: float, t_in_epochs: bool, lr_scale: Any,
    noise: Wrap, length: float | None = None, notes: tuple[str, ...] = (),
) -> NativeSchedule:  # fmt: skip
    """The schedule of every group of the run, each with its own scale, and noise on top."""
    groups, factors = [], []
    for group, scale in zip(run.groups(), scales_of(run, lr_scale), strict=True):
        unit = group.lr0 or 1.0  # a group at rest rises to lr_min too, and that is no multiple of 0
        rates = (as_factor(rate, unit) for rate in (group.lr0, lr_min, warmup_lr_init))
        factor = noise(build(*rates, unit * scale))
        groups.append(NativeGroup(group.name, unit))
        factors.append(factor if scale == 1 else Scale(factor, scale))
    clock = "epoch" if t_in_epochs else "update"
    return NativeSchedule(tuple(groups), tuple(factors), clock=clock, length=length, notes=notes)


def scales_of(run: Run, lr_scale: Any) -> tuple[float, ...]:
    """The groups' `lr_scale`: a number for all, or one for each (None where a group has none).

    Raises:
        InvalidSchedule: if there are not as many as groups.
    """
    n = len(run.groups())
    given = run.get("lr_scale", 1.0) if lr_scale is None else lr_scale
    scales = given if isinstance(given, Sequence) else [given] * n
    require(len(scales) == n, f"lr_scale: {len(scales)} for {n} groups; write one number, or one for each group")
    return tuple(1.0 if scale is None else scale for scale in scales)


def in_cycles(shape: Shape, start: float, end: float, mult: float, decay: float, limit: int) -> Schedule:
    """`limit` falls of one shape, or `end` at once where there are none."""
    if limit <= 0:
        return Constant(end)
    if limit == 1 and mult >= 1:
        return shape(start, end)
    return Cycles(shape(1.0, 0.0), start, end, mult, decay, limit)


def bent(schedule: Schedule, k: float) -> Schedule:
    """A schedule with k-decay."""
    return schedule if k == 1 else KDecay(schedule, k)


def with_warmup(
    decay: Schedule, base: float, init: float, warmup: float, prefix: bool, target: float | None = None
) -> Schedule:
    """The line from `init` to `target` (by default `base`) and the decay, or the decay alone, after the base rate at 0.

    Without a prefix the decay takes over at the first whole step: indices are whole, and a fractional joint would round
    its clock.
    """
    if not warmup:
        return decay if decay(0) == base else Join((Constant(base, 1), _entered(decay, 1)), (0, 1))
    ramp = Linear(init, base if target is None else target, warmup)
    if not prefix:
        begin = math.ceil(warmup)
        return Join((ramp, _entered(decay, begin)), (0, begin))
    if isinstance(decay, Join):
        return Join((ramp, *decay.pieces), (0, *(warmup + begin for begin in decay.starts)))
    return Join((ramp, decay), (0, warmup))


def _entered(decay: Schedule, step: int) -> Schedule:
    return decay if isinstance(decay, Constant) else Shift(decay, step)


def noisy(range_t: Any, pct: float, std: float, seed: int | None, draw: str = "normal", first: int = 1) -> Wrap:
    """What adds timm's noise to a schedule, from the step `first` on: no scheduler is asked for step 0.

    Raises:
        InvalidSchedule: for a range without an end.
    """
    if range_t is None:
        return lambda schedule: schedule
    begin, stop = range_t, 0
    if isinstance(range_t, Sequence):
        require(len(range_t) >= 2, f"noise_range_t: {list(range_t)} has no end; write [begin, end], or one number")
        begin, stop = range_t[:2]
        if stop <= max(first, begin):
            return lambda schedule: schedule
    return lambda schedule: TimmNoise(schedule, max(first, begin), stop, pct, std, 42 if seed is None else seed, draw)


def first_cycle(run: Run, t_initial: float | None, warmup_t: float, prefix: bool, t_in_epochs: bool) -> float:
    """`t_initial`, by default what the run has left after a prefix.

    Raises:
        InvalidSchedule: if neither is known.
    """
    if t_initial is not None:
        return t_initial
    total = run.get("epochs" if t_in_epochs else "total_iters")
    require(total is not None, "t_initial is missing; write t_initial=..., the length of the first cycle")
    return total - warmup_t if prefix else total


def check_cycles(t_initial: float, lr_min: float, warmup_t: float, cycle_mul: float) -> None:
    """The rules that cosine, tanh and poly share."""
    require(t_initial > 0, f"t_initial: {t_initial} is not above 0; write the length of the first cycle")
    require(lr_min >= 0, f"lr_min: {lr_min} is below 0; write a rate, or 0")
    require(cycle_mul > 0, f"cycle_mul: {cycle_mul} is not above 0; write 1 for cycles of one length")
    check_warmup(warmup_t)


def check_warmup(warmup_t: float) -> None:
    """A warmup has a length, or none."""
    require(warmup_t >= 0, f"warmup_t: {warmup_t} is below 0; write 0 for no warmup")


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """A word out of several."""
    require(value in choices, f"{name}: {value!r} is none of {', '.join(choices)}")


def jump_note(warmup_t: float, prefix: bool) -> tuple[str, ...]:
    """What to say about a warmup that the decay does not wait for."""
    if not warmup_t or prefix:
        return ()
    return (
        "warmup_prefix: without it the decay's clock runs during the warmup, so the rate jumps down where the warmup "
        "ends, and the base rate is never used; warmup_prefix=True has no jump",
    )
