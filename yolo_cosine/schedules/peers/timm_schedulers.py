"""The scheduler classes of timm 1.0.31 (`timm/scheduler/*.py`): stateless functions of the epoch or update `t`.

The constructor writes the rate of `t = 0` (the warmup's start, or the base rate), and nothing asks the formula for it.
`lr_min` and `warmup_lr_init` are absolute and shared by the groups; `lr_scale`, which timm reads from each parameter
group, multiplies all of a group's rates. The last cycle's `lr_min` belongs to the step after it.

With `warmup_prefix` the clock of the decay starts after the warmup, without it at 0: cosine and poly then jump down
where the warmup ends, and the base rate is never used.
"""

from __future__ import annotations

import math

from yolo_cosine.schedules.compose import Clip, Join, Scale, join
from yolo_cosine.schedules.curves import (
    Constant,
    Cosine,
    InverseSqrt,
    Linear,
    MultiStep,
    OneMinusSqrt,
    Polynomial,
    Power,
    Schedule,
    Step,
    Tanh,
    require,
)
from yolo_cosine.schedules.cycles import CosineRestarts
from yolo_cosine.schedules.native import NativeSchedule, Run, native
from yolo_cosine.schedules.peers.timm_build import (
    bent,
    check_choice,
    check_cycles,
    check_warmup,
    first_cycle,
    in_cycles,
    jump_note,
    natives,
    noisy,
    with_warmup,
)
from yolo_cosine.schedules.peers.timm_curves import Between, ExponentialTo, InversePower
from yolo_cosine.schedules.plateau import Plateau


@native("timm", "CosineLRScheduler")
def cosine(
    run: Run, *, t_initial=None, lr_min=0.0, cycle_mul=1.0, cycle_decay=1.0, cycle_limit=1, warmup_t=0,
    warmup_lr_init=0.0, warmup_prefix=False, t_in_epochs=True, noise_range_t=None, noise_pct=0.67, noise_std=1.0,
    noise_seed=42, k_decay=1.0, initialize=True, lr_scale=None,
) -> NativeSchedule:  # fmt: skip
    """Half a cosine from the base rate to `lr_min` in each cycle.

    `t_initial` is by default what the run has left after a warmup prefix, here and in all schedulers below.
    """
    t_initial = first_cycle(run, t_initial, warmup_t, warmup_prefix, t_in_epochs)
    check_cycles(t_initial, lr_min, warmup_t, cycle_mul)

    def build(base: float, low: float, init: float, _: float) -> Schedule:
        if k_decay == 1 and cycle_limit > 1 and cycle_mul >= 1 and float(cycle_mul).is_integer():
            decay = CosineRestarts(base, low, t_initial, cycle_mul, cycle_decay, cycle_limit)
        else:
            decay = in_cycles(
                lambda start, end: bent(Cosine(start, end, t_initial), k_decay),
                base, low, cycle_mul, cycle_decay, cycle_limit,
            )  # fmt: skip
        return with_warmup(decay, base, init, warmup_t, warmup_prefix)

    return natives(
        run, build, lr_min, warmup_lr_init, t_in_epochs, lr_scale,
        noisy(noise_range_t, noise_pct, noise_std, noise_seed),
        cycle_length(t_initial, cycle_mul, cycle_limit, warmup_t, warmup_prefix),
        jump_note(warmup_t, warmup_prefix),
    )  # fmt: skip


@native("timm", "TanhLRScheduler")
def tanh(
    run: Run, *, t_initial=None, lb=-7.0, ub=3.0, lr_min=0.0, cycle_mul=1.0, cycle_decay=1.0, cycle_limit=1,
    warmup_t=0, warmup_lr_init=0.0, warmup_prefix=False, t_in_epochs=True, noise_range_t=None, noise_pct=0.67,
    noise_std=1.0, noise_seed=42, initialize=True, lr_scale=None,
) -> NativeSchedule:  # fmt: skip
    """A hyperbolic tangent, read from `lb` to `ub`, in each cycle.

    Without `warmup_prefix` the warmup aims at the value that the decay has where it takes over, so nothing jumps.
    """
    t_initial = first_cycle(run, t_initial, warmup_t, warmup_prefix, t_in_epochs)
    check_cycles(t_initial, lr_min, warmup_t, cycle_mul)
    require(lb < ub, f"lb: {lb} is not below ub={ub}; exchange them")
    require(cycle_limit >= 0, f"cycle_limit: {cycle_limit} is below 0; write how many cycles there are")
    require(warmup_lr_init >= 0, f"warmup_lr_init: {warmup_lr_init} is below 0; write a rate, or 0")

    def build(base: float, low: float, init: float, _: float) -> Schedule:
        decay = in_cycles(
            lambda start, end: Tanh(start, end, t_initial, lb, ub), base, low, cycle_mul, cycle_decay, cycle_limit
        )
        target = base if warmup_prefix or not warmup_t else decay(warmup_t)
        return with_warmup(decay, base, init, warmup_t, warmup_prefix, target)

    return natives(
        run, build, lr_min, warmup_lr_init, t_in_epochs, lr_scale,
        noisy(noise_range_t, noise_pct, noise_std, noise_seed),
        cycle_length(t_initial, cycle_mul, cycle_limit, warmup_t, warmup_prefix),
    )  # fmt: skip


@native("timm", "PolyLRScheduler")
def poly(
    run: Run, *, t_initial=None, power=0.5, lr_min=0.0, cycle_mul=1.0, cycle_decay=1.0, cycle_limit=1, warmup_t=0,
    warmup_lr_init=0.0, warmup_prefix=False, t_in_epochs=True, noise_range_t=None, noise_pct=0.67, noise_std=1.0,
    noise_seed=42, k_decay=1.0, initialize=True, lr_scale=None,
) -> NativeSchedule:  # fmt: skip
    """A polynomial of `power` in each cycle."""
    t_initial = first_cycle(run, t_initial, warmup_t, warmup_prefix, t_in_epochs)
    check_cycles(t_initial, lr_min, warmup_t, cycle_mul)

    def build(base: float, low: float, init: float, _: float) -> Schedule:
        decay = in_cycles(
            lambda start, end: bent(Polynomial(start, end, t_initial, power), k_decay),
            base, low, cycle_mul, cycle_decay, cycle_limit,
        )  # fmt: skip
        return with_warmup(decay, base, init, warmup_t, warmup_prefix)

    return natives(
        run, build, lr_min, warmup_lr_init, t_in_epochs, lr_scale,
        noisy(noise_range_t, noise_pct, noise_std, noise_seed),
        cycle_length(t_initial, cycle_mul, cycle_limit, warmup_t, warmup_prefix),
        jump_note(warmup_t, warmup_prefix),
    )  # fmt: skip


@native("timm", "StepLRScheduler")
def step(
    run: Run, *, decay_t, decay_rate=1.0, warmup_t=0, warmup_lr_init=0.0, warmup_prefix=True, t_in_epochs=True,
    noise_range_t=None, noise_pct=0.67, noise_std=1.0, noise_seed=42, initialize=True, lr_scale=None,
) -> NativeSchedule:  # fmt: skip
    """A factor `decay_rate` every `decay_t`, which may be a fraction."""
    require(decay_t > 0, f"decay_t: {decay_t} is no interval; write after how long the rate falls, as in 30")
    check_warmup(warmup_t)

    def build(base: float, low: float, init: float, _: float) -> Schedule:
        decay = Constant(base) if decay_rate == 1 else Step(base, decay_rate, decay_t)
        return with_warmup(decay, base, init, warmup_t, warmup_prefix)

    noise = noisy(noise_range_t, noise_pct, noise_std, noise_seed)
    return natives(run, build, 0.0, warmup_lr_init, t_in_epochs, lr_scale, noise)


@native("timm", "MultiStepLRScheduler")
def multistep(
    run: Run, *, decay_t, decay_rate=1.0, warmup_t=0, warmup_lr_init=0.0, warmup_prefix=True, t_in_epochs=True,
    noise_range_t=None, noise_pct=0.67, noise_std=1.0, noise_seed=42, initialize=True, lr_scale=None,
) -> NativeSchedule:  # fmt: skip
    """A factor `decay_rate` at each milestone `m`, which takes effect at `t = m - 1`, one before PyTorch's."""
    require(list(decay_t) == sorted(decay_t), f"decay_t: {list(decay_t)} are not in order; sort the milestones")
    check_warmup(warmup_t)
    milestones = tuple(max(0, m - 1) for m in decay_t)

    def build(base: float, low: float, init: float, _: float) -> Schedule:
        return with_warmup(MultiStep(base, milestones, decay_rate), base, init, warmup_t, warmup_prefix)

    noise = noisy(noise_range_t, noise_pct, noise_std, noise_seed)
    notes = ("decay_t: a milestone m takes effect at t = m - 1 in timm, one earlier than in PyTorch",)
    return natives(run, build, 0.0, warmup_lr_init, t_in_epochs, lr_scale, noise, notes=notes)


@native("timm", "WSDLRScheduler")
def wsd(
    run: Run, *, t_initial=None, decay_t, lr_min=0.0, stable_fn="constant", stable_timescale=None, stable_power=0.5,
    decay_fn="1-sqrt", decay_power=0.5, decay_ratio=0.1, warmup_t=0, warmup_lr_init=0.0, t_in_epochs=True,
    noise_range_t=None, noise_pct=0.67, noise_std=1.0, noise_seed=42, initialize=True, lr_scale=None,
) -> NativeSchedule:  # fmt: skip
    """Warmup, a stable phase, and a decay over the last `decay_t` of `t_initial`; the warmup is always a prefix.

    A stable phase that falls by itself (`rsqrt`, `power`) goes on falling in the decay, and not below `lr_min`.
    """
    t_initial = first_cycle(run, t_initial, warmup_t, True, t_in_epochs)
    require(t_initial > 0, f"t_initial: {t_initial} is not above 0; write the length of the stable phase and the decay")
    require(0 < decay_t <= t_initial, f"decay_t: {decay_t} is not above 0 and at most t_initial={t_initial}")
    require(lr_min >= 0, f"lr_min: {lr_min} is below 0; write a rate, or 0")
    check_choice("stable_fn", stable_fn, ("constant", "rsqrt", "power"))
    check_choice("decay_fn", decay_fn, ("linear", "1-sqrt", "cosine", "power", "exp"))
    require(0 < decay_ratio < 1, f"decay_ratio: {decay_ratio} is not between 0 and 1, both excluded; try 0.1")
    require(decay_power > 0, f"decay_power: {decay_power} is not above 0; 1 is a straight line")
    require(stable_power > 0, f"stable_power: {stable_power} is not above 0; write stable_fn='constant' for no fall")
    check_warmup(warmup_t)
    timescale = warmup_t if stable_timescale is None else stable_timescale
    require(
        stable_fn == "constant" or timescale > 0,
        f"stable_timescale: {timescale} (by default the warmup) is not above 0, and stable_fn={stable_fn!r} needs one",
    )

    def fall(start: float, end: float) -> Schedule:
        if decay_fn == "linear":
            return Linear(start, end, decay_t)
        if decay_fn == "1-sqrt":
            return OneMinusSqrt(start, end, decay_t)
        if decay_fn == "cosine":
            return Cosine(start, end, decay_t)
        if decay_fn == "power":
            return Power(start, end, decay_t, decay_power)
        return ExponentialTo(start, end, decay_t, decay_ratio)

    def build(base: float, low: float, init: float, _: float) -> Schedule:
        if low >= base:
            decay = Constant(low)
        elif stable_fn == "constant":
            decay = join(Constant(base, t_initial - decay_t), fall(base, low))
        else:
            power = stable_fn == "power"
            stable = InversePower(base, timescale, stable_power) if power else InverseSqrt(base, timescale)
            share = join(Constant(1.0, t_initial - decay_t), fall(1.0, 0.0))
            decay = Between(low, Clip(stable, low=low) if low > 0 else stable, share)
        return with_warmup(decay, base, init, warmup_t, prefix=True)

    noise = noisy(noise_range_t, noise_pct, noise_std, noise_seed)
    return natives(run, build, lr_min, warmup_lr_init, t_in_epochs, lr_scale, noise, warmup_t + t_initial)


@native("timm", "PlateauLRScheduler")
def plateau(
    run: Run, *, decay_rate=0.1, patience_t=10, threshold=1e-4, cooldown_t=0, warmup_t=0, warmup_lr_init=0.0, lr_min=0.0,
    mode="max", noise_range_t=None, noise_type="normal", noise_pct=0.67, noise_std=1.0, noise_seed=None,
    initialize=True, metrics=None, lr_scale=None,
) -> NativeSchedule:  # fmt: skip
    """PyTorch's reduction on a plateau, after a warmup during which no metric counts; deprecated in timm.

    `metrics[i]` is what epoch `i` is judged by; without them the schedule is that of a metric that always gets better.
    The warmup includes `warmup_t`, a fractional one never gets to the base rate, and `lr_scale` does not move `lr_min`.
    """
    require(decay_rate < 1, f"decay_rate: {decay_rate} lowers nothing; write a factor below 1")
    check_warmup(warmup_t)
    begin = math.floor(warmup_t)

    def build(base: float, low: float, init: float, rate: float) -> Schedule:
        ramp = Linear(init, base, warmup_t) if warmup_t else Constant(base)
        reached = ramp(begin)
        highest = reached * rate or 1.0  # a rate of 0 stays there, whatever its limits
        rule = Plateau(
            mode,
            decay_rate,
            patience_t,
            threshold,
            cooldown=cooldown_t,
            min_factor=lr_min / highest,
            eps=1e-8 / highest,
        )
        after = rule.replay(metrics[begin:]) if metrics else Constant(1.0)
        after = after if reached == 1 else Scale(after, reached)
        return Join((ramp, after), (0, begin)) if begin else after

    draw = "normal" if noise_type == "normal" else "uniform"
    noise = noisy(noise_range_t, noise_pct, noise_std, noise_seed, draw, first=begin + 1)
    notes = () if metrics else ("metrics: known only in the run, so this is the rate while the metric gets better",)
    length = len(metrics) if metrics else run.get("epochs")
    return natives(run, build, lr_min, warmup_lr_init, True, lr_scale, noise, length, notes)


def cycle_length(t_initial, cycle_mul, cycle_limit, warmup_t, warmup_prefix) -> float:
    """Length of a cosine, tanh or poly schedule in its own clock, as timm's `get_cycle_length()` tells it."""
    cycles = max(1, cycle_limit)
    if cycle_mul == 1:
        length = t_initial * cycles
    else:
        length = math.floor(t_initial * (float(cycle_mul) ** cycles - 1) / (cycle_mul - 1))
    return length + warmup_t if warmup_prefix else length
