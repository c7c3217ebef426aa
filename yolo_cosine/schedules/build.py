"""From a configuration to the schedule of a run: every group's learning rate, momentum, weight decay, accumulation."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math

from yolo_cosine.config.duration import parse_duration
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.schedules.compose import EpochWise, RampInto, Repeat, Scale, join
from yolo_cosine.schedules.curves import Constant, InvalidSchedule, Linear, Schedule
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.decays import DECAYS, WARMUPS
from yolo_cosine.schedules.expression import Clock, read_phases
from yolo_cosine.schedules.extend import extended
from yolo_cosine.schedules.peer_runs import peer_schedule
from yolo_cosine.schedules.plateau import Plateau
from yolo_cosine.schedules.run import Group, RunSchedule, nominal_accumulation


def build_schedule(config: RunConfig, groups: tuple[Group, ...], steps_per_epoch: int) -> RunSchedule:
    """The schedule that `config` asks for, over `config.epochs` of `steps_per_epoch` batches.

    Raises:
        InvalidSchedule: naming the key, its value, the rule and the remedy.
    """
    if config.extensions:
        factors = {g.name: g.factor for g in groups}
        return extended(config, lambda c: build_schedule(c, groups, steps_per_epoch), steps_per_epoch, factors)
    schedule = _base(config, groups, steps_per_epoch)
    clock = Clock(steps_per_epoch, schedule.steps)
    lr = dict(schedule.lr)
    for name, phases in config.group_phases.items():
        place = f"group_phases.{name}"
        members = [g for g in groups if name in (g.name, g.kind)]
        if not members:
            raise InvalidSchedule(f"{place}: there is no such group{_nearest(name, [g.name for g in groups])}")
        lr |= {g.name: read_phases(phases, clock, place) for g in members}
    lr |= {g.name: Scale(lr[g.name], g.factor) for g in groups if g.factor != 1}
    changes: dict[str, object] = {"lr": lr}
    if config.momentum_phases is not None:
        changes["momentum"] = read_phases(config.momentum_phases, clock, "momentum_phases", config.momentum)
        changes["beta1"] = True
    if config.weight_decay_phases is not None:
        changes["weight_decay"] = read_phases(config.weight_decay_phases, clock, "weight_decay_phases")
    if config.plateau is not None:
        changes["plateau"] = Plateau(mode="max", **config.plateau.model_dump())
    schedule = dataclasses.replace(schedule, **changes)
    _check_values(schedule)
    return schedule


def _check_values(schedule: RunSchedule) -> None:
    """A schedule that has no value somewhere, as some peers' have none past their end, is told before the run and not in
    it. Some steps are asked, the last one first."""
    last = schedule.steps - 1
    steps = (last, *range(0, last, max(1, last // 8)))
    series = {f"learning rate of {name}": lr for name, lr in schedule.lr.items()}
    series |= {
        "momentum": schedule.momentum,
        "weight decay": schedule.weight_decay,
        "accumulation": schedule.accumulate,
    }
    for (name, values), step in itertools.product(series.items(), steps):
        try:
            value = values(step)
            if math.isfinite(value):
                continue
        except InvalidSchedule:
            raise
        except (ArithmeticError, TypeError, ValueError) as error:  # the latter two: of a complex number, of None
            value = f"none ({error})"
        where = f"the run's last step, {step}" if step == last else f"step {step} of the run"
        raise InvalidSchedule(f"the {name} is {value} at {where}; let it grow less, or train shorter")


def _base(config: RunConfig, groups: tuple[Group, ...], steps_per_epoch: int) -> RunSchedule:
    if config.preset != "yolo-cosine":
        if config.phases is not None:
            raise InvalidSchedule(
                f"phases: there are phases and preset: {config.preset}, and only one can give the learning rate; "
                "take one away"
            )
        return peer_schedule(config, groups, steps_per_epoch)
    if config.preset_args:
        raise InvalidSchedule(
            "preset_args: are the arguments of a peer's schedule, and preset: yolo-cosine is none; name it, as in "
            "preset: transformers.cosine"
        )
    return (_short_form if config.phases is None else _composed)(config, groups, steps_per_epoch)


def _composed(config: RunConfig, groups: tuple[Group, ...], steps_per_epoch: int) -> RunSchedule:
    steps = config.epochs * steps_per_epoch
    lr = read_phases(config.phases, Clock(steps_per_epoch, steps), "phases")
    unused = _not_default(
        config, "curve", "lrf", "lr_update", "period", "after_period", "warmup_epochs", "warmup_curve", "warmup_start",
        "warmup_bias_lr", "warmup_momentum",
    )  # fmt: skip
    return RunSchedule(
        steps=steps,
        lr={g.name: lr for g in groups},
        momentum=Constant(config.momentum, steps),
        accumulate=_constant_accumulation(config, steps),
        notes=(f"the learning rate comes from phases; not used: {', '.join(unused)}",) if unused else (),
    )


def _short_form(config: RunConfig, groups: tuple[Group, ...], steps_per_epoch: int) -> RunSchedule:
    """Warmup, then a decay with its own clock: lr0 is reached at the warmup's end, lr0*lrf at the last step.

    A decay by epoch is over whole epochs, so there its clock counts the warmup; the last epoch has lr0*lrf.
    """
    steps = config.epochs * steps_per_epoch
    warmup = min(round(config.warmup_epochs * steps_per_epoch), steps - 1)
    by_step = config.lr_update == "step"
    decay, notes = _decay(config, steps - 1 - warmup if by_step else config.epochs - 1, steps_per_epoch)
    if not by_step:
        decay = EpochWise(decay, steps_per_epoch)
    lr = {}
    for g in groups:
        start = config.warmup_bias_lr / g.lr0 if g.kind == "bias" else config.warmup_start
        if by_step:
            lr[g.name] = join(_warmup(config, start, warmup), decay)
        elif config.warmup_curve == "linear":
            lr[g.name] = RampInto(start, decay, warmup)
        else:
            raise InvalidSchedule(
                f"warmup_curve: {config.warmup_curve} does not go with lr_update: epoch, whose warmup aims at a moving "
                "value along a line; write lr_update: step, or warmup_curve: linear"
            )
    return RunSchedule(
        steps=steps,
        lr=lr,
        momentum=Linear(config.warmup_momentum, config.momentum, warmup),
        accumulate=_constant_accumulation(config, steps),
        notes=notes,
    )


def _warmup(config: RunConfig, start: float, steps: int) -> Schedule:
    if not steps:
        return Constant(1.0, 0)
    if config.warmup_curve == "exponential" and start == 0:
        raise InvalidSchedule(
            "warmup_start: 0 is where an exponential warmup never leaves; write a small share of lr0, as in "
            "warmup_start: 0.001, and warmup_bias_lr above 0"
        )
    return WARMUPS[config.warmup_curve](start, 1.0, steps)


def _decay(config: RunConfig, rest: int, steps_per_epoch: int) -> tuple[Schedule, tuple[str, ...]]:
    """The decay over what `rest`s, in steps or, by epoch, in epochs, and what is to be said about it."""
    if config.curve == "exponential" and config.lrf == 0:
        raise InvalidSchedule("lrf: 0 is where an exponential decay never gets; write a small share, as in lrf: 0.001")
    curve, after = DECAYS[config.curve], config.after_period
    if config.period is None:
        if after is not None:
            raise InvalidSchedule(
                f"after_period: {after} follows a period, and there is none; write one (period: 80%), or leave it out"
            )
        return curve(1.0, config.lrf, rest), ()
    total = config.epochs * steps_per_epoch
    unit = 1 if config.lr_update == "step" else steps_per_epoch
    period = parse_duration(config.period).exact(steps_per_epoch, total) / unit
    period = int(period) if float(period).is_integer() else period
    if period < rest and after is None and config.curve != "constant":
        raise InvalidSchedule(
            f"period: {config.period} ends before the run does; say what follows: after_period: hold, rise or restart"
        )
    if after == "rise" and config.curve != "cosine":
        raise InvalidSchedule(
            f"after_period: rise is for curve: cosine, and this is {config.curve}; write hold or restart"
        )
    decay = curve(1.0, config.lrf, period)
    if after == "rise":
        decay = CosinePeriodic(1.0, config.lrf, period)
    elif after == "restart":
        decay = Repeat(decay)
    notes = ()
    if period > rest:
        notes = (
            f"period: {config.period} is longer than what the run leaves for it; the decay stops on the way, at "
            f"{decay(rest):.3g} of lr0 and not at lrf={config.lrf:g}",
        )
    return decay, notes


def _constant_accumulation(config: RunConfig, steps: int) -> Schedule:
    return Constant(min(nominal_accumulation(config), steps), steps)  # else a short run would never update


def _not_default(config: RunConfig, *keys: str) -> list[str]:
    fields = type(config).model_fields
    return [f"{key}={getattr(config, key)}" for key in keys if getattr(config, key) != fields[key].default]


def _nearest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"
