"""What the trainers of Ultralytics and YOLOv5 have in common: defaults, checks, and the index that a log has."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from yolo_cosine.schedules.curves import Schedule, Steps, kind, require
from yolo_cosine.schedules.native import NativeSchedule, Run

DEFAULTS = {
    "epochs": 100,
    "lr0": 0.01,
    "lrf": 0.01,
    "momentum": 0.937,
    "warmup_epochs": 3.0,
    "warmup_momentum": 0.8,
    "warmup_bias_lr": 0.1,
}
"""Defaults of both (`cfg/default.yaml`, `hyp.scratch-low.yaml`), for what neither the arguments nor the run say."""


@dataclass(frozen=True)
class TrainerGroup:
    """A parameter group of the trainer: its name, what it holds and the learning rate that its factors are of."""

    name: str
    kind: str  # weight, norm, bias or muon; only bias warms up from a rate of its own
    lr0: float


@kind("linear-by-slope")
@dataclass(frozen=True)
class LinearBySlope:
    """`linear` with the slope worked out first, as `numpy.interp` does; past `steps` it holds `end`.

    The two differ in the last bit at most. That bit decides where a ramp of whole numbers meets an exact half.
    """

    start: float
    end: float
    steps: Steps

    def __call__(self, step: float) -> float:
        return self.end if step >= self.steps else self.start + (self.end - self.start) / self.steps * step


@kind("epoch-end")
@dataclass(frozen=True)
class EpochEnd:
    """A schedule over steps, as a schedule over epochs: its value at each epoch's last step, which is what loggers show."""

    schedule: Schedule
    steps_per_epoch: int

    @property
    def steps(self) -> Steps:
        return self.schedule.steps / self.steps_per_epoch

    def __call__(self, epoch: float) -> float:
        return self.schedule((epoch + 1) * self.steps_per_epoch - 1)


def bias_start(group: TrainerGroup, warmup_bias_lr: float) -> float:
    """The factor from which a group warms up: the absolute `warmup_bias_lr` for biases, 0 for all others."""
    if group.kind != "bias" or warmup_bias_lr == 0:
        return 0.0
    require(group.lr0 > 0, f"lr0: {group.lr0:g} has no multiple that is the warmup_bias_lr; write a rate above 0")
    return warmup_bias_lr / group.lr0


def settle(run: Run, **given: Any) -> dict[str, Any]:
    """Every argument's value: the given one, else the run's, else the default of `DEFAULTS`.

    Raises:
        InvalidSchedule: for what is not a finite number.
    """
    settled = {name: run.get(name, DEFAULTS[name]) if value is None else value for name, value in given.items()}
    for name, value in settled.items():
        finite = isinstance(value, int | float) and math.isfinite(value)
        require(finite, f"{name}: {value!r} is no finite number; write one number, which is for all groups")
    return settled


def steps_in_an_epoch(run: Run, iters_per_epoch: int | None) -> int:
    """Batches in an epoch, from the argument or from the run."""
    return whole("iters_per_epoch", run.need("iters_per_epoch") if iters_per_epoch is None else iters_per_epoch)


def is_cosine(schedule: str, cos_lr: bool | None) -> bool:
    """Whether the curve is the cosine: the schedule's name says it, and `cos_lr` may not say otherwise."""
    cosine = schedule == "cosine"
    require(
        cos_lr is None or bool(cos_lr) == cosine,
        f"cos_lr: {cos_lr} is not the schedule {schedule!r}; leave it out, or ask for the other schedule",
    )
    return cosine


def whole(name: str, value: Any) -> int:
    """A whole number of at least 1.

    Raises:
        InvalidSchedule: naming the argument.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    require(number and value >= 1 and value == int(value), f"{name}: {value!r} is no whole number from 1 on; write one")
    return int(value)


def check_resumed(resume_at_epoch: int | None, epochs: int) -> None:
    """Check where a run is resumed: inside it.

    Raises:
        InvalidSchedule: at or past the end, where nothing is left to resume, and before the first saved epoch.
    """
    require(
        resume_at_epoch is None or 0 < resume_at_epoch < epochs,
        f"resume_at_epoch: {resume_at_epoch} is not inside a run of {epochs} epochs; write 1 to {epochs - 1}",
    )


def counts_epochs(run: Run, lrf: float | None) -> bool:
    """Whether the index counts epochs and the values are those that a logger gets at their end.

    The run's `granularity` (`epoch` or `iteration`) says so. Without it, a log is taken to be meant where the run and
    not the arguments bring `lrf`, as beside a table of logged rates, and nothing in the run counts steps.
    """
    granularity = run.get("granularity")
    if granularity is not None:
        return granularity == "epoch"
    counting = ("total_iters", "warmup_iters", "accumulate")
    return lrf is None and run.values.get("lrf") is not None and all(run.values.get(name) is None for name in counting)


def by_epoch(schedule: NativeSchedule, steps_per_epoch: int) -> NativeSchedule:
    """The same schedule with an index that counts epochs: what a logger gets after an epoch's last batch."""
    return replace(
        schedule,
        factors=tuple(EpochEnd(factor, steps_per_epoch) for factor in schedule.factors),
        momenta=tuple(EpochEnd(momentum, steps_per_epoch) for momentum in schedule.momenta),
        accumulation=schedule.accumulation and EpochEnd(schedule.accumulation, steps_per_epoch),
        clock="epoch",
        length=schedule.length and schedule.length / steps_per_epoch,
        notes=(*schedule.notes, "index: it counts epochs; the values are those after an epoch's last batch"),
    )
