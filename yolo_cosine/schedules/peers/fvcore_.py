"""fvcore's ParamSchedulers (`fvcore/common/param_scheduler.py` of 0.1.5) and detectron2's schedules made of them.

A ParamScheduler is a function of `where`, the share of the run that is over: `step / total`. Its value is the rate
itself, so lr0 is the highest value here and the factors are shares of it. Nothing is clamped: past `where` 1 a cosine
rises again, a line goes on, a constant and the steps raise. Boundaries are compared with `where + 1e-6`, so in a run of
more than a million steps they come early; here they are the steps at which fvcore's own comparison turns.

detectron2 (`detectron2/solver/build.py` and `lr_scheduler.py`) multiplies the base rates by such a value.
"""

from __future__ import annotations

import inspect
import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

from yolo_cosine.schedules.compose import Join
from yolo_cosine.schedules.curves import (
    Constant,
    Cosine,
    Exponential,
    InvalidSchedule,
    Linear,
    MultiStep,
    Piecewise,
    Polynomial,
    Schedule,
    require,
)
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.native import NativeGroup, NativeSchedule, Run, call, native
from yolo_cosine.schedules.peers.fvcore_place import EPSILON, Place
from yolo_cosine.schedules.peers.undefined import Undefined

Scheduler = Callable[..., Schedule]
SCHEDULERS: dict[str, Scheduler] = {}
"""By fvcore's name, the function that gives a scheduler at its place in a run."""
_VALUES = ("value", "start_value", "end_value", "base_value", "values")


def _fvcore(build: Scheduler) -> Scheduler:
    """Offer a function under its own name in camel case, alone and as a part of a composite."""
    name = "".join(word.capitalize() for word in build.__name__.split("_")) + "ParamScheduler"

    def whole(run: Run, *, type: str = name, **arguments: Any) -> NativeSchedule:
        unit = max((v for v in _values(arguments) if 0 < v < math.inf), default=1.0)
        total, clock = _total(run, arguments)
        factor = build(Place(run.where, run.values, total=total, unit=unit), **arguments)
        groups = tuple(replace(group, lr0=float(unit)) for group in run.groups())
        return NativeSchedule(groups, (factor,) * len(groups), clock, length=total)

    signature, kind = inspect.signature(build), inspect.signature(whole).parameters["type"]
    whole.__signature__ = signature.replace(parameters=[*signature.parameters.values(), kind])
    whole.__doc__ = build.__doc__
    SCHEDULERS[name] = build
    native("fvcore", name)(whole)
    return build


def _values(arguments: Mapping[str, Any]) -> Iterator[float]:
    for name in _VALUES:
        value = arguments.get(name, ())
        yield from value if isinstance(value, Sequence) else (value,)
    for scheduler in arguments.get("schedulers", ()):
        yield from _values(scheduler) if isinstance(scheduler, Mapping) else ()


def _total(run: Run, arguments: Mapping[str, Any]) -> tuple[float, str]:
    """Length of the run, and what it is counted in."""
    clock = "epoch" if run.get("total_iters") is None and run.get("epochs") is not None else "step"
    total = run.get("total_iters", run.get("epochs", arguments.get("num_updates")))
    if total is None:
        total = run.need("total_iters")
    require(total > 0, f"total_iters: {total} steps are no run; there is no share of it that could be over")
    return total, clock


@_fvcore
def constant(place: Place, *, value: float) -> Schedule:
    """The same value as long as the run lasts; it raises from `where` 1 on."""
    return place.until(
        Constant(value / place.unit), lambda where: where >= 1, "a constant ends with the run; stop there"
    )


@_fvcore
def cosine(place: Place, *, start_value: float, end_value: float) -> Schedule:
    """Half a cosine from `start_value` to `end_value` at `where` 1, one step past the run; then it comes back."""
    curve = Cosine if place.is_cut_off else CosinePeriodic
    return place.entered(curve(start_value / place.unit, end_value / place.unit, place.span))


@_fvcore
def exponential(place: Place, *, start_value: float, decay: float) -> Schedule:
    """`start_value * decay ** where`: `decay` is the factor over the whole run."""
    require(decay >= 0, f"decay: {decay} to a fractional power is no number; write a factor above 0")
    return place.entered(Exponential(start_value / place.unit, decay, place.span))


@_fvcore
def linear(place: Place, *, start_value: float, end_value: float) -> Schedule:
    """A line from `start_value` to `end_value` at `where` 1, which goes on past it."""
    after = "hold" if place.is_cut_off else "continue"
    return place.entered(Linear(start_value / place.unit, end_value / place.unit, place.span, after))


@_fvcore
def polynomial_decay(place: Place, *, base_value: float, power: float) -> Schedule:
    """`base_value * (1 - where) ** power`; past `where` 1 only a whole power is a number.

    One below 0 is infinite at `where` 1 and ends there.
    """
    goes_on = power >= 0 and float(power).is_integer()
    after = "continue" if goes_on and not place.is_cut_off else "hold"
    curve = place.entered(Polynomial(base_value / place.unit, 0.0, place.span, power, after))
    if goes_on:
        return curve
    over = (lambda where: where >= 1) if power < 0 else (lambda where: where > 1)
    return place.until(curve, over, f"power: {power} of what is left is no number there; stop with the run")


@_fvcore
def multi_step(
    place: Place,
    *,
    values: Sequence[float],
    num_updates: float | None = None,
    milestones: Sequence[float] | None = None,
) -> Schedule:
    """`values[k]` after `k` milestones, counted in updates of which `num_updates` are the run, whatever its length."""
    require(
        num_updates is not None or milestones is not None,
        "num_updates: missing, and so are milestones; give one of them",
    )
    require(len(values) > 0, "values: the list is empty; write at least one")
    if milestones is None:
        width = math.ceil(num_updates / len(values))
        milestones = [width * k for k in range(1, len(values))]
    else:
        n = len(values) - (num_updates is not None)
        require(
            isinstance(milestones, Sequence) and len(milestones) == n,
            f"milestones: {milestones} for {len(values)} values; write {n}, the last of them the end of the run"
            if num_updates is None
            else f"milestones: {milestones} for {len(values)} values; write {n}",
        )
    if num_updates is None:
        *milestones, num_updates = milestones
    require(
        num_updates >= len(values),
        f"num_updates: {num_updates} is less than the {len(values)} values; each needs an update of its own",
    )
    for before, milestone in zip([0, *milestones], milestones, strict=False):
        require(
            before < milestone < num_updates,
            f"milestones: {milestone} is not above {before} and below the end {num_updates}; write them in order",
        )
    return place.until(
        _staircase(place, values, [lambda where, m=m: int((where + EPSILON) * num_updates) >= m for m in milestones]),
        lambda where: where > 1,
        "steps end with the run, one step later they raise; stop there",
    )


@_fvcore
def step(place: Place, *, num_updates: float, values: Sequence[float]) -> Schedule:
    """`values` in equal shares of the run; it raises when they are used up."""
    require(num_updates > 0, f"num_updates: {num_updates} is not above 0; write the length of the run")
    require(
        isinstance(values, Sequence) and len(values) > 0,
        f"values: {values!r} is no list of rates; write at least one, as in [0.1, 0.01]",
    )
    passed = [lambda where, k=k: int((where + EPSILON) * len(values)) >= k for k in range(1, len(values) + 1)]
    return place.until(_staircase(place, values, passed[:-1]), passed[-1], "the values are used up; stop with the run")


@_fvcore
def step_with_fixed_gamma(
    place: Place, *, base_value: float, num_decays: int, gamma: float, num_updates: int
) -> Schedule:
    """`base_value`, times `gamma` at `num_decays` equally spaced points of the run."""
    for name, value in (("base_value", base_value), ("gamma", gamma)):
        require(isinstance(value, int | float) and value > 0, f"{name}: {value!r} is no number above 0; write one")
    for name, value in (("num_decays", num_decays), ("num_updates", num_updates)):
        require(isinstance(value, int) and value > 0, f"{name}: {value!r} is no whole number above 0; write one")
    require(num_decays <= 10_000, f"num_decays: {num_decays} steps make a curve; write an exponential one")
    passed = [lambda where, k=k: int((where + EPSILON) * (num_decays + 1)) >= k for k in range(1, num_decays + 2)]
    falls = tuple(place.first + place.first_step(reached) for reached in passed[:-1])
    curve = MultiStep(base_value / place.unit, falls, gamma)
    return place.until(
        replace(place, parent=None).entered(curve), passed[-1], "the decays are used up; stop with the run"
    )


def _staircase(place: Place, values: Sequence[float], reached: Sequence[Callable[[float], bool]]) -> Schedule:
    """Values that change at the steps at which `reached` turn true; the boundaries are steps of the run."""
    boundaries = tuple(place.first + place.first_step(holds) for holds in reached)
    return replace(place, parent=None).entered(Piecewise(tuple(v / place.unit for v in values), boundaries))


@_fvcore
def composite(
    place: Place, *, schedulers: Sequence[Mapping[str, Any]], lengths: Sequence[float], interval_scaling: Sequence[str]
) -> Schedule:
    """Schedulers one after another, each for its share of the run.

    A `rescaled` one has its own `where` from 0 to 1 in its share; a `fixed` one goes by the run's. The shares may be off
    1 by less than 0.001; the last one takes the rest.
    """
    require(len(schedulers) > 0, "schedulers: the list is empty; write at least one")
    require(
        len(schedulers) == len(lengths),
        f"lengths: {len(lengths)} for {len(schedulers)} schedulers; each has one length",
    )
    require(
        abs(sum(lengths) - 1.0) < 1e-3, f"lengths: they add up to {sum(lengths):g}, not to 1; the shares are of one run"
    )
    for scaling in interval_scaling:
        require(scaling in ("rescaled", "fixed"), f"interval_scaling: {scaling!r} is neither 'rescaled' nor 'fixed'")
    lengths = list(lengths)
    if sum(lengths) != 1.0:
        lengths[-1] = 1.0 - sum(lengths[:-1])
    ends = list(accumulate(lengths))
    asked = [0]  # first step at which each part is asked, counted like `first`
    for reached in accumulate(ends[:-1], max):
        asked.append(place.first_step(lambda where, reached=reached: where + EPSILON > reached))
    pieces: list[Schedule] = []
    starts: list[int] = []
    for k, (arguments, length) in enumerate(zip(schedulers, lengths, strict=True)):
        stop = min(place.first + asked[k + 1], place.stop) if k + 1 < len(asked) else place.stop
        own = replace(place, where=f"{place.where}.schedulers[{k}]", first=place.first + asked[k], stop=stop)
        if k >= len(interval_scaling):
            _part(own, arguments)  # for its own mistakes
            piece = Undefined(f"{place.where}: interval_scaling is missing for schedulers[{k}]; write 'rescaled'")
        elif interval_scaling[k] == "fixed":
            piece = _part(own, arguments)
        elif length > 0:
            piece = _part(replace(own, parent=place, start=ends[k] - length, length=length), arguments)
        else:
            _part(own, arguments)
            piece = Undefined(f"{own.where}: its length is {length:g}, so it has no `where`; end with the one before")
        if own.first < stop or (not pieces and k == len(schedulers) - 1):
            inner = piece if isinstance(piece, Join) and piece.starts[0] == 0 else Join((piece,), (0,))
            pieces += inner.pieces
            starts += [asked[k] + start for start in inner.starts]
    return Join(tuple(pieces), tuple(starts)) if len(pieces) > 1 else pieces[0]


def _part(place: Place, scheduler: Mapping[str, Any]) -> Schedule:
    require(isinstance(scheduler, Mapping), f"{place.where}: {scheduler!r} is no scheduler; write {{type: ..., ...}}")
    arguments = dict(scheduler)
    name = arguments.pop("type", None)
    if name not in SCHEDULERS:
        raise InvalidSchedule(f"{place.where}.type: {name!r} is none of {', '.join(SCHEDULERS)}")
    return call(SCHEDULERS[name], name, arguments, place)


@native("detectron2", "WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")
def warmup_lr(
    run: Run,
    *,
    schedule: str,
    BASE_LR: float | None = None,
    BASE_LR_END: float = 0.0,
    MAX_ITER: int | None = None,
    STEPS: Sequence[int] = (30000,),
    GAMMA: float = 0.1,
    NUM_DECAYS: int = 3,
    WARMUP_FACTOR: float = 0.001,
    WARMUP_ITERS: float = 1000,
    WARMUP_METHOD: str = "linear",
    RESCALE_INTERVAL: bool = False,
    LR_SCHEDULER_NAME: str | None = None,
) -> NativeSchedule:
    """The schedule `LR_SCHEDULER_NAME` of a `cfg.SOLVER`, after a warmup; keys of the other two are not used.

    The warmup rises to what the schedule is at its end, or, with `RESCALE_INTERVAL`, to the start of a schedule that
    waits for it. `MAX_ITER` and `BASE_LR` are by default the run's, or else detectron2's 40000 and 0.001; several base
    rates of the run (a group each) stand above `BASE_LR`.
    """
    total = run.get("total_iters", 40000) if MAX_ITER is None else MAX_ITER
    require(total > 0, f"MAX_ITER: {total} is not above 0; write the length of the run")
    share, notes = min(WARMUP_ITERS / total, 1.0), ()
    if schedule == "WarmupMultiStepLR":
        milestones = [m for m in STEPS if m <= total]
        if len(milestones) < len(STEPS):
            notes = (f"STEPS: {[m for m in STEPS if m > total]} are past MAX_ITER={total} and ignored",)
        values = [GAMMA**k for k in range(len(milestones) + 1)]
        main = {"type": "MultiStepParamScheduler", "values": values, "milestones": milestones, "num_updates": total}
        after_warmup = values[bisect_right(milestones, int((share + EPSILON) * total))]
    elif schedule == "WarmupCosineLR":
        base = float(run.lr0s()[0] if run.get("lr0") else 0.001) if BASE_LR is None else BASE_LR
        end = BASE_LR_END / base
        require(0 <= end <= 1, f"BASE_LR_END: {BASE_LR_END} is not between 0 and BASE_LR={base}; write a lower end")
        main = {"type": "CosineParamScheduler", "start_value": 1.0, "end_value": end}
        after_warmup = end + (1 - end) * (1 + math.cos(math.pi * share)) / 2
    else:
        main = {"type": "StepWithFixedGammaParamScheduler", "base_value": 1.0, "gamma": GAMMA}
        main |= {"num_decays": NUM_DECAYS, "num_updates": total}
        passed = int((share + EPSILON) * (NUM_DECAYS + 1))
        require(
            RESCALE_INTERVAL or passed <= NUM_DECAYS,
            f"WARMUP_ITERS: {WARMUP_ITERS} are all of MAX_ITER={total}, where no step is left to warm up to; shorten it",
        )
        after_warmup = GAMMA**passed
    if RESCALE_INTERVAL:
        after_warmup = 1.0
    warmups = {
        "constant": {"type": "ConstantParamScheduler", "value": WARMUP_FACTOR},
        "linear": {"type": "LinearParamScheduler", "start_value": WARMUP_FACTOR, "end_value": after_warmup},
    }
    require(WARMUP_METHOD in warmups, f"WARMUP_METHOD: {WARMUP_METHOD!r} is neither 'linear' nor 'constant'")
    factor = composite(
        Place(run.where, run.values, total=total),
        schedulers=[warmups[WARMUP_METHOD], main],
        lengths=[share, 1 - share],
        interval_scaling=["rescaled", "rescaled" if RESCALE_INTERVAL else "fixed"],
    )
    groups = run.groups() if run.get("lr0") else (NativeGroup("all", 0.001),)
    if len(groups) == 1 and BASE_LR is not None:
        groups = (NativeGroup("all", float(BASE_LR)),)
    return NativeSchedule(groups, (factor,) * len(groups), length=total, notes=notes)
