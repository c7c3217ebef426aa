"""transformers' schedules that are functions of the step (`transformers/optimization.py` of 5.23), by update.

The value of the current step is `lr0 * factor(step)`, with one factor for all groups. A warmup rises from 0 at step 0 to
1 at `num_warmup_steps`, and a decay's end value belongs to `num_training_steps`, one past the last step. An absolute
minimum is turned into a share of the optimizer's default rate, the first group's here; the other groups keep the share.
"""

from __future__ import annotations

import math
from functools import partial

from yolo_cosine.schedules.compose import Clip, Join, Shift, join
from yolo_cosine.schedules.curves import (
    Constant,
    Cosine,
    InvalidSchedule,
    InverseSqrt,
    Linear,
    OneMinusSqrt,
    Polynomial,
    Schedule,
    require,
)
from yolo_cosine.schedules.cycles import CosinePeriodic, CosineRestarts
from yolo_cosine.schedules.native import RUN_STEPS, NativeSchedule, Run, native
from yolo_cosine.schedules.peers.undefined import Undefined


def _same_for_all(run: Run, factor: Schedule, length: float | None, notes: tuple[str, ...] = ()) -> NativeSchedule:
    groups = run.groups()
    return NativeSchedule(groups, (factor,) * len(groups), clock="update", length=length, notes=notes)


@native("transformers", "constant", "get_constant_schedule")
def constant(run: Run, *, num_warmup_steps=None, num_training_steps=None) -> NativeSchedule:
    """The base rate, always; both arguments are accepted and not used, as by `get_scheduler`."""
    return _same_for_all(run, Constant(1.0), num_training_steps)


@native("transformers", "constant_with_warmup", "get_constant_schedule_with_warmup")
def constant_with_warmup(run: Run, *, num_warmup_steps: float, num_training_steps=None) -> NativeSchedule:
    """0 to 1 over the warmup, then 1."""
    _check(num_warmup_steps=num_warmup_steps)
    return _same_for_all(run, _warmed(num_warmup_steps, Constant(1.0)), num_training_steps)


@native("transformers", "linear", "get_linear_schedule_with_warmup")
def linear(run: Run, *, num_warmup_steps: float, num_training_steps: float = RUN_STEPS) -> NativeSchedule:
    """0 to 1 over the warmup, then 1 to 0 at `num_training_steps`, and 0 for ever.

    With a warmup as long as the run or longer, nothing is left to fall: at the warmup's end the factor drops to 0.
    """
    _check(num_warmup_steps=num_warmup_steps, num_training_steps=num_training_steps)
    rest = num_training_steps - num_warmup_steps
    decay = Linear(min(1.0, rest), 0.0, rest) if rest > 0 else Constant(0.0)
    return _same_for_all(run, _warmed(num_warmup_steps, decay), num_training_steps)


@native("transformers", "cosine", "get_cosine_schedule_with_warmup")
def cosine(
    run: Run, *, num_warmup_steps: float, num_training_steps: float = RUN_STEPS, num_cycles: float = 0.5
) -> NativeSchedule:
    """0 to 1 over the warmup, then `num_cycles` whole waves between 1 and 0 (0.5: half a wave, so only down).

    Past `num_training_steps` the wave goes on: it rises again.
    """
    return _waves(run, num_warmup_steps, num_training_steps, num_cycles, 0.0)


@native("transformers", "cosine_with_min_lr", "get_cosine_with_min_lr_schedule_with_warmup")
def cosine_with_min_lr(
    run: Run,
    *,
    num_warmup_steps: float,
    num_training_steps: float = RUN_STEPS,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> NativeSchedule:
    """`cosine` down to `min_lr` (for the default rate) or to the share `min_lr_rate`; one of both is to be given."""
    return _waves(run, num_warmup_steps, num_training_steps, num_cycles, _min_rate(run, min_lr, min_lr_rate))


@native("transformers", "cosine_warmup_with_min_lr", "get_cosine_with_min_lr_schedule_with_warmup_lr_rate")
def cosine_warmup_with_min_lr(
    run: Run,
    *,
    num_warmup_steps: float,
    num_training_steps: float = RUN_STEPS,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> NativeSchedule:
    """`cosine_with_min_lr`, one step ahead: 1 at the warmup's last step, the minimum at the run's last step.

    The warmup starts from the share `warmup_lr_rate` (by default `1 / num_warmup_steps`), so never from 0.
    """
    _check(num_warmup_steps=num_warmup_steps, num_training_steps=num_training_steps)
    rest = max(1, num_training_steps - num_warmup_steps)
    decay = Shift(_wave(rest, num_cycles, _min_rate(run, min_lr, min_lr_rate)), 1)
    if num_warmup_steps == 0:
        return _same_for_all(run, decay, num_training_steps)
    rise: Schedule = Constant(1.0)
    # a fractional warmup's last step is not at its end: its line goes on above 1
    if warmup_lr_rate is None and num_warmup_steps > 1:
        rise = Linear(1 / num_warmup_steps, 1.0, num_warmup_steps - 1, after="continue")
    elif warmup_lr_rate is not None:
        require(
            warmup_lr_rate >= 0, f"warmup_lr_rate: {warmup_lr_rate:g} is below 0; write a share to start from, as 0.1"
        )
        rise = Linear(warmup_lr_rate, 1.0, max(1, num_warmup_steps - 1), after="continue")
    return _same_for_all(run, Join((rise, decay), (0, num_warmup_steps)), num_training_steps)


@native("transformers", "cosine_with_restarts", "get_cosine_with_hard_restarts_schedule_with_warmup")
def cosine_with_restarts(
    run: Run, *, num_warmup_steps: float, num_training_steps: float = RUN_STEPS, num_cycles: float = 1
) -> NativeSchedule:
    """0 to 1 over the warmup, then `num_cycles` times from 1 to 0, and 0 for ever from `num_training_steps` on.

    A fraction of a cycle at the end is cut off.
    """
    _check(num_warmup_steps=num_warmup_steps, num_training_steps=num_training_steps)
    require(0 <= num_cycles < math.inf, f"num_cycles: {num_cycles:g} is no number of cosines; write one, as 3")
    rest = max(1, num_training_steps - num_warmup_steps)
    if num_cycles > 0 and float(num_cycles).is_integer():
        decay: Schedule = CosineRestarts(1.0, 0.0, rest / num_cycles, cycle_limit=int(num_cycles))
    else:
        decay = _cut(CosineRestarts(1.0, 0.0, rest / num_cycles) if num_cycles else Constant(1.0), rest, 0.0)
    notes = _missed_restarts(rest, num_cycles, num_warmup_steps)
    return _same_for_all(run, _warmed(num_warmup_steps, decay), num_training_steps, notes)


@native("transformers", "polynomial", "get_polynomial_decay_schedule_with_warmup")
def polynomial(
    run: Run,
    *,
    num_warmup_steps: float,
    num_training_steps: float = RUN_STEPS,
    lr_end: float = 1e-7,
    power: float = 1.0,
) -> NativeSchedule:
    """0 to 1 over the warmup, then a polynomial down to `lr_end` (for the default rate), which is held.

    With a warmup as long as the run the peer divides by zero at its end: there is no value at that step.
    """
    _check(num_warmup_steps=num_warmup_steps, num_training_steps=num_training_steps)
    lr0 = run.lr0s()[0]
    require(
        lr0 > lr_end, f"lr_end: {lr_end:g} is not below the default rate {lr0:g}; write a lower one, or use constant"
    )
    require(lr0 > 0, f"lr0: {lr0:g} is not above 0; lr_end is turned into a share of it")
    require(power >= 0, f"power: {power:g} is below 0, and the decay would rise without a bound; write 1 for a line")
    end, rest = lr_end / lr0, num_training_steps - num_warmup_steps
    past = math.floor(num_training_steps) + 1 - num_warmup_steps
    decay: Schedule = Polynomial(1.0, end, rest, power) if rest > 0 else Constant(end)
    if rest > 0 and power == 0:
        decay = _cut(Constant(1.0), past, end)
    elif rest == 0:
        reason = f"num_warmup_steps: {num_warmup_steps:g} is the whole run, so there is no value at its end; shorten it"
        require(num_warmup_steps > 0, reason)
        decay = _cut(Undefined(reason), past, end)
    return _same_for_all(run, _warmed(num_warmup_steps, decay), num_training_steps)


@native("transformers", "inverse_sqrt", "get_inverse_sqrt_schedule")
def inverse_sqrt(
    run: Run, *, num_warmup_steps: float, num_training_steps=None, timescale: float | None = None
) -> NativeSchedule:
    """0 to 1 over the warmup, then `1 / sqrt(1 + t / timescale)`, for ever.

    `timescale` is by default the warmup's length, or 10000 where there is none.
    """
    _check(num_warmup_steps=num_warmup_steps)
    scale = (num_warmup_steps or 10_000) if timescale is None else timescale
    return _same_for_all(run, _warmed(num_warmup_steps, InverseSqrt(1.0, scale)), num_training_steps)


@native("transformers", "warmup_stable_decay", "get_wsd_schedule")
def warmup_stable_decay(
    run: Run,
    *,
    num_warmup_steps: float,
    num_decay_steps: float,
    num_training_steps: float | None = None,
    num_stable_steps: float | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0,
    num_cycles: float = 0.5,
) -> NativeSchedule:
    """A warmup from `min_lr_ratio` to 1, 1 for `num_stable_steps`, and a decay back to `min_lr_ratio`, which is held.

    The stable phase is by default what `num_training_steps` leaves; where that is less than nothing, the decay is entered
    on its way. `num_cycles` counts the whole waves of a cosine decay.
    """
    if num_stable_steps is None and num_training_steps is None:
        num_training_steps = run.get("total_iters")
    if num_stable_steps is None and num_training_steps is None:
        raise InvalidSchedule("num_stable_steps is missing, and num_training_steps too; give one of them")
    _check(num_warmup_steps=num_warmup_steps, num_decay_steps=num_decay_steps)
    require(
        min_lr_ratio >= 0, f"min_lr_ratio: {min_lr_ratio:g} is below 0, where a rate cannot end; write 0 or a share"
    )
    stable = num_stable_steps
    if stable is None:
        _check(num_training_steps=num_training_steps)
        stable = num_training_steps - num_warmup_steps - num_decay_steps

    rises = {"linear": Linear, "cosine": Cosine, "1-sqrt": partial(Polynomial, power=0.5)}
    decays = {"linear": Linear, "cosine": Cosine, "1-sqrt": OneMinusSqrt}
    for name, value in (("warmup_type", warmup_type), ("decay_type", decay_type)):
        require(value in decays, f"{name}: {value!r} is unknown; write one of {', '.join(decays)}")
    rise = rises[warmup_type](min_lr_ratio, 1.0, num_warmup_steps)
    decay = decays[decay_type](1.0, min_lr_ratio, num_decay_steps) if num_decay_steps > 0 else Constant(min_lr_ratio)
    if decay_type == "cosine" and num_cycles != 0.5:
        decay = _cut(_wave(max(1, num_decay_steps), num_cycles, min_lr_ratio), num_decay_steps, min_lr_ratio)
    if stable < 0:
        decay = Shift(decay, -stable)
    factor = _in_a_row(rise, Constant(1.0, max(0, stable)), decay)
    return _same_for_all(run, factor, num_warmup_steps + stable + num_decay_steps)


def _check(**steps: float | None) -> None:
    """Numbers of steps, none of them missing or below 0."""
    for name, value in steps.items():
        require(value is not None, f"{name} is None, and this schedule needs it; write a number of updates")
        require(0 <= value < math.inf, f"{name}: {value:g} is no number of steps; write 0 or more")


def _min_rate(run: Run, min_lr: float | None, min_lr_rate: float | None) -> float:
    require(
        min_lr is None or min_lr_rate is None,
        f"min_lr: {min_lr} stands beside min_lr_rate={min_lr_rate}; leave one out",
    )
    require(min_lr is not None or min_lr_rate is not None, "min_lr is missing, and min_lr_rate too; give one of them")
    if min_lr is None:
        return min_lr_rate
    lr0 = run.lr0s()[0]
    require(
        lr0 != 0, f"lr0: {lr0:g} has no shares, and min_lr is turned into one; write a rate above 0, or min_lr_rate"
    )
    return min_lr / lr0


def _waves(run: Run, warmup: float, total: float, cycles: float, end: float) -> NativeSchedule:
    _check(num_warmup_steps=warmup, num_training_steps=total)
    return _same_for_all(run, _warmed(warmup, _wave(max(1, total - warmup), cycles, end)), total)


def _wave(steps: float, cycles: float, end: float) -> Schedule:
    """`cycles` whole waves between 1 and `end` in so many steps, and on; never below 0."""
    if cycles == 0:
        return Constant(1.0)
    wave = CosinePeriodic(1.0, end, steps / (2 * abs(cycles)))
    return Clip(wave, low=0.0) if end < 0 else wave


def _missed_restarts(rest: float, cycles: float, warmup: float) -> tuple[str, ...]:
    """The steps at which the peer's remainder, which it takes of a rounded product, misses a restart; of more restarts than
    anyone looks at, none."""
    if cycles > 10_000:
        return ()
    on_a_step = [k * rest / cycles for k in range(1, math.ceil(cycles)) if (k * rest / cycles).is_integer()]
    missed = [f"{warmup + t:g}" for t in on_a_step if (cycles * (t / rest)) % 1.0 != 0]
    if not missed:
        return ()
    return (
        f"transformers misses the restart at step {', '.join(missed)} by rounding and gives about 0 there; not imitated",
    )


def _cut(schedule: Schedule, steps: float, end: float) -> Schedule:
    """A schedule for so many steps, then `end`."""
    return Join((schedule, Constant(end)), (0, steps)) if steps > 0 else Constant(end)


def _warmed(warmup: float, decay: Schedule) -> Schedule:
    return _in_a_row(Linear(0.0, 1.0, warmup), decay)


def _in_a_row(*pieces: Schedule) -> Schedule:
    """`join`, without a join in the join: one list is read more easily."""
    row, last = join(*pieces), pieces[-1]
    if row is last or not isinstance(last, Join):
        return row
    start = row.starts[-1]
    return Join((*row.pieces[:-1], *last.pieces), (*row.starts[:-1], *(start + s for s in last.starts)))
