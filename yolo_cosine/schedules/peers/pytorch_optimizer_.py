"""pytorch_optimizer 4.1.0 (`pytorch_optimizer/lr_scheduler/`), index = calls of `step()` before.

Two conventions meet here. `get_wsd_schedule` and `get_chebyshev_schedule` are factors of each group's base rate. The
classes with `max_lr` and `min_lr` know absolute rates only, the same for all groups, and their constructor leaves every
group at `min_lr`: so index 0 has `min_lr`, whatever the warmup, and the schedule's own first value comes at index 1
(restarts and REX: it is never used).

PyTorch's own schedulers, which the package exports too, are those of `torch_.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import accumulate

from yolo_cosine.schedules.compose import Join, Shift, join
from yolo_cosine.schedules.curves import (
    Constant,
    Cosine,
    InvalidSchedule,
    Linear,
    OneMinusSqrt,
    Power,
    Rex,
    Schedule,
    require,
)
from yolo_cosine.schedules.cycles import CosinePeriodic, CosineRestarts
from yolo_cosine.schedules.native import BUILDERS, NativeGroup, NativeSchedule, Run, call, native
from yolo_cosine.schedules.peers import torch_  # noqa: F401 (it registers PyTorch's own schedulers)
from yolo_cosine.schedules.peers.pytorch_optimizer_curves import Affine, Chebyshev, PowerLaw, WholeCycles
from yolo_cosine.schedules.peers.torch_part import as_factor
from yolo_cosine.schedules.peers.undefined import Undefined

# PyTorch's own schedulers that the package exports under their names, and its `load_lr_scheduler` under others.
_TORCH = {
    "ConstantLR": "constant",
    "StepLR": "step",
    "MultiStepLR": "multi_step",
    "MultiplicativeLR": "multiplicative",
    "CyclicLR": "cyclic",
    "OneCycleLR": "one_cycle",
    "CosineAnnealingLR": "cosine_annealing",
    "CosineAnnealingWarmRestarts": "cosine_annealing_with_warm_restart",
}
for _name, _loaded in _TORCH.items():
    native("pytorch_optimizer", _name, _loaded)(BUILDERS["torch"][_name])


@native("pytorch_optimizer", "LinearScheduler", "linear")
def linear(run: Run, *, t_max, max_lr, min_lr=0.0, init_lr=0.0, warmup_steps=0) -> NativeSchedule:
    """Down a straight line that reaches `min_lr` at count `t_max`, and on below it."""
    _check_warmup(t_max, max_lr, min_lr, init_lr, warmup_steps)
    rest = t_max - warmup_steps

    def build(unit: float) -> Schedule:
        high, low = as_factor(max_lr, unit), as_factor(min_lr, unit)
        if rest == 0:
            return _after_warmup(_no_length(high, t_max), unit, max_lr, min_lr, init_lr, warmup_steps)
        # a run that is shorter than its warmup goes up the same line, the other way
        end = low if rest > 0 else 2 * high - low
        fall = Linear(high, end, abs(rest), after="continue")
        return _after_warmup(fall, unit, max_lr, min_lr, init_lr, warmup_steps)

    return _absolute(run, max_lr, build, t_max, _past_end_note("falls below it"))


@native("pytorch_optimizer", "CosineScheduler", "cosine")
def cosine(run: Run, *, t_max, max_lr, min_lr=0.0, init_lr=0.0, warmup_steps=0) -> NativeSchedule:
    """Half a cosine that reaches `min_lr` at count `t_max`, and rises again."""
    _check_warmup(t_max, max_lr, min_lr, init_lr, warmup_steps)
    rest = abs(t_max - warmup_steps)

    def build(unit: float) -> Schedule:
        high, low = as_factor(max_lr, unit), as_factor(min_lr, unit)
        fall = CosinePeriodic(high, low, rest) if rest else _no_length(high, t_max)
        return _after_warmup(fall, unit, max_lr, min_lr, init_lr, warmup_steps)

    return _absolute(run, max_lr, build, t_max, _past_end_note("rises again"))


@native("pytorch_optimizer", "PolyScheduler", "poly")
def poly(
    run: Run, *, poly_order=0.5, t_max, max_lr, min_lr=0.0, init_lr=0.0, warmup_steps=0
) -> NativeSchedule:  # fmt: skip
    """After the warmup `min_lr + (max_lr - min_lr) * n ** poly_order` with `n` steps since: it grows, for ever."""
    _check_warmup(t_max, max_lr, min_lr, init_lr, warmup_steps)
    require(poly_order > 0, f"poly_order: {poly_order} is not above 0; 1 is a straight line")

    def build(unit: float) -> Schedule:
        high, low = as_factor(max_lr, unit), as_factor(min_lr, unit)
        growth = PowerLaw(low, high - low, poly_order)
        if float(warmup_steps).is_integer():
            growth = Join((Constant(high, 1), Shift(growth, 1)), (0, 1))  # the warmup's end has max_lr by decree
        return _after_warmup(growth, unit, max_lr, min_lr, init_lr, warmup_steps)

    note = "poly_order: after the warmup this schedule grows with every step, without a bound; it is no decay"
    return _absolute(run, max_lr, build, t_max, note)


@native("pytorch_optimizer", "CosineAnnealingWarmupRestarts", "cosine_annealing_with_warmup")
def cosine_warmup_restarts(
    run: Run, *, first_cycle_steps, cycle_mult=1.0, max_lr=1e-4, min_lr=1e-6, warmup_steps=0, gamma=0.9, last_epoch=-1
) -> NativeSchedule:
    """Cycles of a linear warmup from `min_lr` and half a cosine back to it.

    Cycle `i` has the peak `max_lr * gamma ** i`; `cycle_mult` stretches what follows the warmup, cut to whole steps.
    """
    _check_fresh(last_epoch)
    require(
        0 <= warmup_steps < first_cycle_steps,
        f"warmup_steps: {warmup_steps} is not from 0 to below first_cycle_steps={first_cycle_steps}; shorten the warmup",
    )
    whole = float(first_cycle_steps).is_integer() and float(warmup_steps).is_integer()

    def build(unit: float) -> Schedule:
        high, low = as_factor(max_lr, unit), as_factor(min_lr, unit)
        if whole and cycle_mult == 1:
            cycles = CosineRestarts(high, low, first_cycle_steps, decay=gamma, warmup=warmup_steps, warmup_start=low)
        else:
            cycles = WholeCycles(high, low, first_cycle_steps, cycle_mult, gamma, warmup_steps)
        return Join((Constant(low, 1), Shift(cycles, 1)), (0, 1))

    return _absolute(run, max_lr, build)


@native("pytorch_optimizer", "REXScheduler", "rex")
def rex(run: Run, *, total_steps, max_lr=1.0, min_lr=0.0) -> NativeSchedule:
    """REX from `max_lr` (of which index 0 has nothing) to `min_lr` at `total_steps`, then `min_lr`."""

    def build(unit: float) -> Schedule:
        low = as_factor(min_lr, unit)
        if total_steps <= 1:
            return Constant(low)
        return Join((Constant(low, 1), Shift(Rex(as_factor(max_lr, unit), low, total_steps), 1)), (0, 1))

    return _absolute(run, max_lr, build, total_steps)


@native("pytorch_optimizer", "get_wsd_schedule", "warmup_stable_decay")
def wsd(
    run: Run, *, num_warmup_steps, num_stable_steps, num_decay_steps, min_lr_ratio=0.0, num_cycles=0.5,
    cooldown_type="1-sqrt", last_epoch=-1,
) -> NativeSchedule:  # fmt: skip
    """Warmup from 0, a stable phase, a cooldown, then `min_lr_ratio` for ever.

    Only the cosine cools down to `min_lr_ratio`; the others make for 0 and jump up to it at the end.
    """
    _check_fresh(last_epoch)
    for name, steps in (
        ("num_warmup_steps", num_warmup_steps), ("num_stable_steps", num_stable_steps),
        ("num_decay_steps", num_decay_steps),
    ):  # fmt: skip
        require(steps >= 0, f"{name}: {steps} is below 0; write 0 for none")
    falls: dict[str, Schedule] = {
        "cosine": _cosine_cooldown(num_decay_steps, min_lr_ratio, abs(num_cycles)),
        "1-sqrt": OneMinusSqrt(1.0, 0.0, num_decay_steps),
        "1-square": Power(1.0, 0.0, num_decay_steps, 2.0),
        "linear": Linear(1.0, 0.0, num_decay_steps),
    }
    require(cooldown_type in falls, f"cooldown_type: {cooldown_type!r} is none of {', '.join(falls)}")
    lengths = (num_warmup_steps, num_stable_steps, num_decay_steps)
    pieces = (Linear(0.0, 1.0, num_warmup_steps), Constant(1.0, num_stable_steps), falls[cooldown_type])
    kept = [(piece, steps) for piece, steps in zip(pieces, lengths, strict=True) if steps > 0]
    last = kept[-1][0] if kept else None
    if isinstance(last, CosinePeriodic) or getattr(last, "end", None) != min_lr_ratio:  # else it holds that already
        kept.append((Constant(min_lr_ratio), 0))
    starts = accumulate((steps for _, steps in kept[:-1]), initial=0)
    factor = Join(tuple(piece for piece, _ in kept), tuple(starts)) if len(kept) > 1 else kept[0][0]
    notes = ()
    if cooldown_type != "cosine" and min_lr_ratio > 0:
        notes = (
            f"min_lr_ratio: only the cosine stops there; {cooldown_type} makes for 0 and jumps up to it at the end",
        )
    return _same_for_all(run, factor, sum(lengths), notes)


@native("pytorch_optimizer", "get_chebyshev_schedule", "chebyshev")
def chebyshev(run: Run, *, num_epochs, is_warmup=False, last_epoch=-1) -> NativeSchedule:
    """Fractal Chebyshev steps, from the third index on; the first step is used three times, the last for ever."""
    _check_fresh(last_epoch)
    if is_warmup:
        return _same_for_all(run, Constant(1.0), num_epochs)
    nodes = 2 ** (int(math.log2(num_epochs - 1)) + 1) if num_epochs > 1 else 1
    # of 2 and 4 nodes the package takes the order for 1 and 2
    fractal = Chebyshev(nodes, order=max(1, nodes // 2) if nodes <= 4 else nodes)
    return _same_for_all(run, Join((Constant(fractal(0), 2), fractal), (0, 2)), num_epochs)


@native("pytorch_optimizer", "ProportionScheduler", "proportion")
def proportion(
    run: Run, *, lr_scheduler, max_lr, min_lr=0.0, max_value=2.0, min_value=2.0
) -> NativeSchedule:  # fmt: skip
    """A value (GSAM's rho) that moves with a learning rate, as `lr(index)`: `max_value` at `max_lr`.

    `lr_scheduler` is one of this package's schedules as a mapping, `{type: CosineScheduler, t_max: 100, ...}`, and the
    value follows its first group.
    """
    if not isinstance(lr_scheduler, Mapping) or lr_scheduler.get("type") not in BUILDERS["pytorch_optimizer"]:
        raise InvalidSchedule(f"lr_scheduler: {lr_scheduler!r} is no schedule; write {{type: CosineScheduler, ...}}")
    name = lr_scheduler["type"]
    arguments = {key: value for key, value in lr_scheduler.items() if key != "type"}
    rates = call(BUILDERS["pytorch_optimizer"][name], name, arguments, run)
    slope = (max_value - min_value) / (max_lr - min_lr) if max_lr > min_lr else 0.0
    offset = min_value - slope * min_lr if max_lr > min_lr else max_value
    value = Affine(rates.factors[0], slope * rates.groups[0].lr0, offset)
    return NativeSchedule((NativeGroup("all", 1.0),), (value,), clock="update", length=rates.length)


def _absolute(
    run: Run, peak: float, build: Callable[[float], Schedule], length: float | None = None, *notes: str
) -> NativeSchedule:
    """One absolute rate for all groups, as multiples of each group's own lr0 (of the peak where the run has none)."""
    groups = run.groups() if run.get("lr0") is not None else (NativeGroup("all", peak),)
    groups = tuple(NativeGroup(group.name, group.lr0 or 1.0) for group in groups)
    return NativeSchedule(groups, tuple(build(g.lr0) for g in groups), clock="update", length=length, notes=notes)


def _same_for_all(run: Run, factor: Schedule, length: float, notes: tuple[str, ...] = ()) -> NativeSchedule:
    groups = run.groups()
    return NativeSchedule(groups, (factor,) * len(groups), clock="update", length=length, notes=notes)


def _after_warmup(
    decay: Schedule, unit: float, max_lr: float, min_lr: float, init_lr: float, warmup: float
) -> Schedule:  # fmt: skip
    """`min_lr` at index 0, then the warmup, then the decay, which starts at the warmup's end."""
    first = Constant(as_factor(min_lr, unit), 1)
    if isinstance(decay, Join):
        return join(first, Linear(as_factor(init_lr, unit), as_factor(max_lr, unit), warmup), *decay.pieces)
    return join(first, Linear(as_factor(init_lr, unit), as_factor(max_lr, unit), warmup), decay)


def _no_length(high: float, t_max: float) -> Schedule:
    """What follows a warmup as long as the run: its end, and then nothing, as the package divides by 0."""
    nothing = Undefined(f"t_max: {t_max} leaves no step after the warmup; raise t_max, or stop the run there")
    return Join((Constant(high, 1), nothing), (0, 1)) if float(t_max).is_integer() else nothing


def _cosine_cooldown(steps: float, low: float, cycles: float) -> Schedule:
    """`cycles` whole waves from 1 to `low` and back; half a wave is the usual cooldown."""
    if cycles == 0.5 and steps >= 1:
        return Cosine(1.0, low, steps)
    return CosinePeriodic(1.0, low, max(1, steps) / (2 * cycles)) if cycles else Constant(1.0)


def _check_warmup(t_max: float, max_lr: float, min_lr: float, init_lr: float, warmup_steps: float) -> None:
    for name, rate in (("max_lr", max_lr), ("min_lr", min_lr), ("init_lr", init_lr)):
        require(rate >= 0, f"{name}: {rate} is below 0; write a rate, or 0")
    for name, steps in (("t_max", t_max), ("warmup_steps", warmup_steps)):
        require(steps >= 0, f"{name}: {steps} is below 0; write a number of steps")


def _check_fresh(last_epoch: int) -> None:
    require(last_epoch == -1, f"last_epoch: {last_epoch} is a resume; leave it at -1 and ask for the later index")


def _past_end_note(what: str) -> str:
    return f"t_max: past it the rate does not stay at min_lr but {what}; stop the run there"
