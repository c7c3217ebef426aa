"""MultimediaTechLab/YOLO (`yolo/utils/model_utils.py` of c4cb5f6, YOLOv9): any PyTorch scheduler, stepped by epoch, with
straight lines inside the epochs.

Epoch `e` goes from the value of epoch `e - 1` to its own, which only its last step has; epoch 0 starts from 0 (biases:
from 0.1). Momentum goes from 0.8 to 0.937 in 3 epochs, whatever the configuration says.

A warmup of `w` epochs gives epoch `e` the factor `(e + 1) / w` (biases: `10 - 9 * (e + 1) / w`). At epoch `w - 1`
PyTorch's SequentialLR changes over to the scheduler, whose own clock starts there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yolo_cosine.schedules.compose import Join, Scale, Shift
from yolo_cosine.schedules.curves import Cosine, Linear, Schedule, Steps, kind, require
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.native import NativeGroup, NativeSchedule, Run, native
from yolo_cosine.schedules.peers.yolo_trainers import steps_in_an_epoch
from yolo_cosine.schedules.presets import from_native

_TYPES = (
    "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR", "LinearLR",
    "MultiStepLR", "OneCycleLR", "PolynomialLR", "StepLR",
)  # fmt: skip
# They set the base rate when they are built, which is before the warmup reads it.
_SETTING_THE_BASE = ("CyclicLR", "OneCycleLR")
# They work every value out from the base rate; the others go on from the rate that they find.
_FROM_THE_BASE = ("CosineAnnealingWarmRestarts", *_SETTING_THE_BASE)
_GROUPS = ("bias", "conv", "norm")
_FIRST_BIAS_LR = 0.1


@kind("epoch-lines")
@dataclass(frozen=True)
class EpochLines:
    """A schedule over epochs, as straight lines between its values: the last step of epoch `e` has `by_epoch(e)`.

    Every epoch's line comes from the value of the epoch before, the first one from `start`.
    """

    start: float
    by_epoch: Schedule
    steps_per_epoch: int

    @property
    def steps(self) -> Steps:
        return self.by_epoch.steps * self.steps_per_epoch

    def __call__(self, step: float) -> float:
        epoch, batch = divmod(step, self.steps_per_epoch)
        before = self.by_epoch(epoch - 1) if epoch else self.start
        return before + (self.by_epoch(epoch) - before) * ((batch + 1) / self.steps_per_epoch)


@native("mtl_yolo", *_TYPES, *(f"{name}+warmup" for name in _TYPES))
def mtl_yolo(
    run: Run,
    *,
    schedule: str,
    scheduler: Mapping[str, Any] | None = None,
    optimizer: Mapping[str, Any] | None = None,
    iters_per_epoch: int | None = None,
) -> NativeSchedule:
    """The peer's configuration.

    Args:
        run: gives `iters_per_epoch` where the arguments do not, and `lr0` where the optimizer has no `lr`.
        schedule: the PyTorch scheduler's name; `+warmup` may follow, but `scheduler` says whether there is one.
        scheduler: `task.scheduler`: `args` of the PyTorch scheduler, by epoch, and `warmup: {epochs: ...}`, in short
            `warmup_epochs`; without it, or with None, there is no warmup. `type` repeats the scheduler's name.
        optimizer: `task.optimizer`, or its `args` alone. Only `lr` counts.
        iters_per_epoch: batches in an epoch.
    """
    per_epoch = steps_in_an_epoch(run, iters_per_epoch)
    name = schedule.removesuffix("+warmup")
    arguments, warmup = _read_scheduler(name, dict(scheduler or {}))
    optimizer = dict(optimizer or {})
    lr0 = optimizer.get("args", optimizer).get("lr")
    lr0 = run.need("lr0") if lr0 is None else lr0
    require(
        _is_number(lr0) and lr0 > 0,
        f"lr: {lr0!r} has no multiple that is the biases' {_FIRST_BIAS_LR}; write a rate above 0",
    )
    return NativeSchedule(
        groups=tuple(NativeGroup(group, lr0) for group in _GROUPS),
        factors=tuple(
            EpochLines(start, values, per_epoch)
            for start, values in zip(
                (_FIRST_BIAS_LR / lr0, 0.0, 0.0), _by_epoch(name, arguments, lr0, warmup), strict=True
            )
        ),
        momenta=(Shift(Linear(0.8, 0.937, 3 * per_epoch), 1),),
        length=run.get("total_iters"),
    )


def _by_epoch(name: str, arguments: Mapping[str, Any], lr0: float, warmup: float) -> list[Schedule]:
    """The factors that the groups have at the end of every epoch."""
    anew = _torch_factors(name, arguments, [lr0] * len(_GROUPS), lr0)
    if warmup <= 1:  # SequentialLR has changed over before epoch 0
        return anew
    begin = math.ceil(warmup - 1)
    ramps: list[Schedule] = [Linear(first, 1.0, warmup - 1) for first in (10 - 9 / warmup, 1 / warmup, 1 / warmup)]
    # SequentialLR starts a scheduler anew at a whole epoch only; otherwise it goes on from the rate that it finds.
    if begin == warmup - 1 or name in _FROM_THE_BASE:
        if name in _SETTING_THE_BASE:
            ramps = [Scale(ramp, factor(0)) for ramp, factor in zip(ramps, anew, strict=True)]
        return [Join((ramp, factor), (0, begin)) for ramp, factor in zip(ramps, anew, strict=True)]
    found = [ramp(begin - 1) for ramp in ramps]
    if name == "CosineAnnealingLR":
        cosines = [_cosine_going_on(arguments["T_max"], arguments.get("eta_min", 0.0) / lr0, rate) for rate in found]
        joints = (0, begin, begin + arguments["T_max"])
        return [Join((ramp, *cosine), joints) for ramp, cosine in zip(ramps, cosines, strict=True)]
    bases = [lr0 * rate * _first_move(name, arguments) for rate in found]
    factors = _torch_factors(name, arguments, bases, lr0)
    return [Join((ramp, factor), (0, begin)) for ramp, factor in zip(ramps, factors, strict=True)]


def _cosine_going_on(T_max: int, end: float, found: float) -> tuple[Schedule, Schedule]:
    """PyTorch's recursive cosine that moves to its own step 0 from a rate that it finds: down to the end, and then.

    It takes what it finds for its value at step -1, which is below its peak. Once it is at the end it turns round by
    adding a share of the base rate, so from there on it is as always.
    """
    before = (1 + math.cos(math.pi / T_max)) / 2
    peak = found + 1 - end if T_max == 1 else end + (found - end) / before
    return Cosine(peak, end, T_max), CosinePeriodic(end, 1.0, T_max)


def _first_move(name: str, arguments: Mapping[str, Any]) -> float:
    """What a scheduler multiplies the rate with, on the way from its step -1 to 0; its own start factor not counted."""
    if name == "ExponentialLR":
        return arguments["gamma"]
    if name == "PolynomialLR":
        total = arguments.get("total_iters", 5)
        return (total / (total + 1)) ** arguments.get("power", 1.0)
    return 1.0


def _torch_factors(name: str, arguments: Mapping[str, Any], bases: list[float], lr0: float) -> list[Schedule]:
    """What PyTorch's scheduler makes of these base rates, as multiples of `lr0`."""
    torch = from_native("torch", name, arguments, {"lr0": bases})
    return [
        factor if group.lr0 == lr0 else Scale(factor, group.lr0 / lr0)
        for group, factor in zip(torch.groups, torch.factors, strict=True)
    ]


def _read_scheduler(name: str, scheduler: dict[str, Any]) -> tuple[Mapping[str, Any], float]:
    """The scheduler's arguments and the epochs of the warmup."""
    named = scheduler.pop("type", name)
    require(
        named == name, f"scheduler.type: {named!r} is not the schedule {name!r}; ask for {named!r}, or leave it out"
    )
    arguments = scheduler.pop("args", None) or {}
    short = scheduler.pop("warmup_epochs", None)
    warmup = (scheduler.pop("warmup", None) or {}).get("epochs", short)
    require(
        not scheduler, f"scheduler.{next(iter(scheduler), '')}: there is no such key; there are type, args and warmup"
    )
    require(
        warmup is None or _is_number(warmup),
        f"scheduler.warmup.epochs: {warmup!r} is no finite number; write how many epochs, or no warmup",
    )
    return arguments, warmup or 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
