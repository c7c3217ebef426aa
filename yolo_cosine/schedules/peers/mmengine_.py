"""MMEngine 0.10.7 (and MMDetection 3, which trains with it): `param_scheduler` lists, RTMDet, and MMDetection's 1x, 2x, 20e.

Every scheduler of a list acts in its own window `begin <= t < end`, in epochs or in iterations, on the value that the
others have left. The index counts epochs where all of the list does, and iterations otherwise.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from yolo_cosine.schedules.curves import Constant, InvalidSchedule, Schedule, require
from yolo_cosine.schedules.native import NativeSchedule, Run, call, native
from yolo_cosine.schedules.peers.mmengine_rules import Rule, Window, trace
from yolo_cosine.schedules.peers.mmengine_schedulers import SCHEDULERS
from yolo_cosine.schedules.peers.mmengine_scope import INF, Scope, Stretch

_TARGETS = {"LR": "lr", "Momentum": "momentum", "ParamScheduler": None}
_NEED_AN_END = ("Linear", "Poly", "CosineAnnealing", "OneCycle")
_PARAMETERS = ("lr", "momentum", "weight_decay")


@dataclass(frozen=True)
class Entry:
    """One scheduler of a list: what it schedules, when, and its own arguments."""

    run: Run  # for messages
    name: str  # without LR, Momentum or ParamScheduler
    target: str
    begin: float
    end: float
    by_epoch: bool  # once built: an epoch-based one that was converted is by iteration
    per_epoch: int  # iterations in an epoch where it was converted, else 1
    arguments: Mapping[str, Any]


def _entry(
    run: Run,
    *,
    schedule: str,
    begin: float = 0,
    end: float = INF,
    by_epoch: bool = True,
    convert_to_iter_based: bool = False,
    epoch_length: int | None = None,
    last_step: int = -1,
    verbose: bool = False,
    param_name: str | None = None,
    **arguments: Any,
) -> Entry:
    """The arguments that all schedulers have, read; `convert_to_iter_based` multiplies, and truncates the window."""
    name, target = _KNOWN[schedule]
    target = target or param_name
    require(
        target in _PARAMETERS, f"param_name: {target!r} is none of {', '.join(_PARAMETERS)}; these are scheduled here"
    )
    require(
        last_step == -1,
        f"last_step: {last_step}: a schedule here is a function of the index, with nothing to resume; leave it out",
    )
    require(
        by_epoch or not convert_to_iter_based,
        "convert_to_iter_based: needs by_epoch=True; what counts iterations is not converted",
    )
    plateau = name == "ReduceOnPlateau"
    require(
        not plateau or (by_epoch and not convert_to_iter_based),
        "by_epoch: a plateau schedule follows the epochs' metrics; leave by_epoch and convert_to_iter_based out",
    )
    require(name != "OneCycle" or target == "lr", f"param_name: OneCycle schedules lr alone, not {target}")
    per_epoch = 1
    if convert_to_iter_based:
        per_epoch = run.need("iters_per_epoch") if epoch_length is None else epoch_length
        require(per_epoch > 0, f"epoch_length: {per_epoch} is not above 0; write the iterations of an epoch")
        whole = (lambda steps: steps) if name == "QuadraticWarmup" else int
        begin, end = whole(begin * per_epoch), end if end == INF else whole(end * per_epoch)
        by_epoch = False
    require(end > begin, f"end: {end} is not above begin={begin}; the window of a scheduler has at least one step")
    return Entry(run, name, target, begin, end, by_epoch, per_epoch, arguments)


_COMMON = [
    p
    for p in inspect.signature(_entry).parameters.values()
    if p.kind is p.KEYWORD_ONLY and p.name not in ("schedule", "param_name")
]
_KNOWN = {
    name + suffix: (name, target)
    for name in SCHEDULERS
    for suffix, target in _TARGETS.items()
    if (name, suffix) != ("OneCycle", "Momentum")
}


def _signature(known: str) -> inspect.Signature:
    """The arguments of a scheduler: its own, all schedulers', and what a general one schedules."""
    name, target = _KNOWN[known]
    run, schedule = list(inspect.signature(_entry).parameters.values())[:2]
    own = [p for p in inspect.signature(SCHEDULERS[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    named = [] if target else [inspect.Parameter("param_name", inspect.Parameter.KEYWORD_ONLY)]
    return inspect.Signature([run, *named, *own, *_COMMON, schedule])


def _read(run: Run, scheduler: Any, where: str) -> Entry:
    run = replace(run, where=f"{run.where}{where}")
    if not isinstance(scheduler, Mapping):
        raise run.error(f"{scheduler!r} is no scheduler; write {{type: CosineAnnealingLR, ...}}")
    arguments = dict(scheduler)
    known = str(arguments.pop("type", None)).rpartition(".")[2]  # mmdet.QuadraticWarmupLR
    if known not in _KNOWN:
        near = difflib.get_close_matches(known, _KNOWN, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_KNOWN)}"
        raise run.error(f"type: {known!r} is no scheduler; {hint}")

    def build(run: Run, **arguments: Any) -> Entry:
        return _entry(run, **arguments)

    build.__signature__ = _signature(known)
    return call(build, known, arguments, run)


@native("mmengine", "*")
def param_scheduler_list(
    run: Run,
    *,
    schedule: str,
    param_scheduler: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
    metrics: Sequence[Any] | None = None,
) -> NativeSchedule:
    """What a `param_scheduler` list makes of the learning rates and the momentum; the name may be any.

    `metrics` are the epochs' metrics, for ReduceOnPlateau.
    """
    if param_scheduler is None:
        near = difflib.get_close_matches(schedule, _KNOWN, n=1)
        hint = f"did you mean {near[0]}?" if near else "write one"
        raise run.error(f"param_scheduler: missing, and {schedule!r} is no scheduler; {hint}")
    schedulers = [param_scheduler] if isinstance(param_scheduler, Mapping) else list(param_scheduler)
    entries = [_read(run, scheduler, f".param_scheduler[{k}]") for k, scheduler in enumerate(schedulers)]
    return _schedule(run, entries, metrics)


def _schedule(run: Run, entries: Sequence[Entry], metrics: Sequence[Any] | None = None) -> NativeSchedule:
    by_epoch = bool(entries) and all(entry.by_epoch for entry in entries)
    per_epoch = run.need("iters_per_epoch") if not by_epoch and any(e.by_epoch for e in entries) else 1
    notes: list[str] = []
    if sum(entry.name == "OneCycle" for entry in entries) > 1:
        notes.append("each OneCycleLR has its own eta_max; MMEngine itself would use the last one's for all of them")
    for entry in entries:
        if entry.end >= INF and not {"T_max", "total_steps"} & set(entry.arguments) and entry.name in _NEED_AN_END:
            notes.append(
                f"{entry.name} goes by the end of its window, which is missing: MMEngine's Runner would take the run's"
            )
    # a frozen group has lr0 0, of which nothing is a multiple
    groups = tuple(replace(group, lr0=group.lr0 or 1.0) for group in run.groups())

    def traces(target: str, initial: Sequence[float], units: Sequence[float]) -> tuple[Schedule, ...]:
        found = [entry for entry in entries if entry.target == target]
        return tuple(
            _trace(found, Scope(0, INF, x / unit, unit, 1, g, len(groups), metrics, notes), per_epoch)
            for g, (x, unit) in enumerate(zip(initial, units, strict=True))
        )

    ones = [1.0] * len(groups)
    momenta: tuple[Schedule, ...] = ()
    if any(entry.target == "momentum" for entry in entries):
        momentum = run.need("momentum")
        momenta = traces("momentum", momentum if isinstance(momentum, list | tuple) else [momentum] * len(groups), ones)
        momenta = momenta if len(set(momenta)) > 1 else momenta[:1]
    weight_decay = None
    if any(entry.target == "weight_decay" for entry in entries):
        weight_decay = traces("weight_decay", [run.need("weight_decay")] * len(groups), ones)[0]
    return NativeSchedule(
        groups,
        traces("lr", run.lr0s(), [group.lr0 for group in groups]),
        "epoch" if by_epoch else "step",
        momenta,
        weight_decay=weight_decay,
        length=run.get("epochs" if by_epoch else "total_iters"),
        notes=tuple(dict.fromkeys(notes)),
    )


def _trace(entries: Sequence[Entry], start: Scope, per_epoch: int) -> Schedule:
    """One group's value under the schedulers of one parameter, in the order of the list."""
    if not entries:
        return Constant(1.0)
    windows: list[Window] = []
    x = base = start.base
    for entry in entries:
        scope = replace(start, begin=entry.begin, end=entry.end, base=base, per_epoch=entry.per_epoch)
        try:
            rules = SCHEDULERS[entry.name](scope, **entry.arguments)
        except InvalidSchedule as error:
            raise entry.run.error(str(error)) from None
        except TypeError as error:
            raise entry.run.error(f"an argument has the wrong type: {error}") from None
        if entry.name == "OneCycle":  # it overwrites the initial value that the schedulers after it go by
            base = scope.of_group("eta_max", entry.arguments.get("eta_max", 0)) / entry.arguments.get(
                "div_factor", 25.0
            )
        every = per_epoch if entry.by_epoch else 1
        for stretch in [Stretch(rules)] if isinstance(rules, Rule) else rules:
            first, last = scope.first + stretch.first, min(scope.first + stretch.stop - 1, scope.first + scope.last)
            if entry.name == "ReduceOnPlateau":  # the window is one of metrics, and in the rule
                first, last = 0, math.inf
            if last >= first:
                windows.append(Window(stretch.rule, first * every, (last + 1) * every, every, entry.by_epoch))
    return trace(windows, x) if windows else Constant(x)


def _alone(known: str) -> None:
    """Register a scheduler under its own name, with its own arguments or with a list that it is in."""

    def build(run: Run, *, schedule: str, **arguments: Any) -> NativeSchedule:
        metrics = arguments.pop("metrics", None)
        if arguments.get("param_scheduler") is not None:
            if len(arguments) > 1:
                raise run.error(f"{next(n for n in arguments if n != 'param_scheduler')}: put it into param_scheduler")
            return param_scheduler_list(run, schedule=schedule, metrics=metrics, **arguments)
        arguments.pop("param_scheduler", None)
        return _schedule(run, [_read(run, {"type": known, **arguments}, "")], metrics)

    signature = _signature(known)
    whole = inspect.signature(param_scheduler_list).parameters
    # nothing is required where a list may be given instead
    own = [p.replace(default=None) if p.default is p.empty else p for p in list(signature.parameters.values())[1:-1]]
    parameters = [*list(signature.parameters.values())[:1], *own, whole["param_scheduler"], whole["metrics"]]
    build.__signature__ = inspect.Signature([*parameters, whole["schedule"]])
    build.__doc__ = SCHEDULERS[_KNOWN[known][0]].__doc__
    native("mmengine", known)(build)


for _name in _KNOWN:
    _alone(_name)


def _with_base(run: Run, lr: float | None, default: float) -> Run:
    """The run with this base rate, or else its own, or else the default."""
    lr0 = run.get("lr0", default) if lr is None else lr
    return replace(run, values={**run.values, "lr0": lr0})


@native("rtmdet", "RTMDet")
def rtmdet(
    run: Run,
    *,
    base_lr: float | None = None,
    max_epochs: int | None = None,
    warmup_iters: int = 1000,
    lr_start_factor: float = 1e-5,
    eta_min_ratio: float = 0.05,
) -> NativeSchedule:
    """RTMDet's: a linear warmup of 1000 iterations, the base rate to half of the run, a cosine in the other half.

    `base_lr` and `max_epochs` are by default the run's, or else RTMDet's 0.004 and 300. Source: MMDetection,
    `configs/rtmdet/rtmdet_l_8xb32-300e_coco.py`; the factor 0.05 stands there as a number.
    """
    run = _with_base(run, base_lr, 0.004)
    epochs = run.get("epochs", 300) if max_epochs is None else max_epochs
    run = replace(run, values={**run.values, "epochs": epochs, "total_iters": None})
    half = epochs // 2
    warmup = {"type": "LinearLR", "start_factor": lr_start_factor, "by_epoch": False, "begin": 0, "end": warmup_iters}
    cosine = {"type": "CosineAnnealingLR", "eta_min": run.lr0s()[0] * eta_min_ratio, "begin": half, "end": epochs}
    cosine |= {"T_max": half, "by_epoch": True, "convert_to_iter_based": True}
    found = param_scheduler_list(run, schedule="RTMDet", param_scheduler=[warmup, cosine])
    if half == 0 or epochs % 2 == 0:
        return found
    return replace(
        found, notes=(f"max_epochs={epochs} is odd: the lowest rate is an epoch before the end", *found.notes)
    )


_MMDETECTION = {"schedule_1x": ((8, 11), 12), "schedule_2x": ((16, 22), 24), "schedule_20e": ((16, 19), 20)}


@native("mmengine", *_MMDETECTION)
def mmdetection(
    run: Run,
    *,
    schedule: str,
    lr: float | None = None,
    start_factor: float = 0.001,
    end: int = 500,
    milestones: Sequence[int] | None = None,
    gamma: float = 0.1,
    max_epochs: int | None = None,
) -> NativeSchedule:
    """MMDetection's `configs/_base_/schedules`: `end` iterations of warmup, and two steps down near the end.

    `lr` is by default the run's, or else 0.02.
    """
    their_milestones, their_epochs = _MMDETECTION[schedule]
    run = _with_base(run, lr, 0.02)
    epochs = their_epochs if max_epochs is None else max_epochs
    warmup = {"type": "LinearLR", "start_factor": start_factor, "by_epoch": False, "begin": 0, "end": end}
    steps = {"type": "MultiStepLR", "begin": 0, "end": epochs, "by_epoch": True, "gamma": gamma}
    steps["milestones"] = list(their_milestones if milestones is None else milestones)
    return param_scheduler_list(run, schedule=schedule, param_scheduler=[warmup, steps])
