"""Lightning (2.6.6): PyTorch's schedulers, and when Lightning steps them.

An index is an update of the weights. `interval: epoch` steps the scheduler after every epoch, also after the last;
`interval: step` after every update. `frequency` lets only every so many-th epoch or batch count: the batches are counted
within the epoch, so the count starts anew with each epoch. An epoch's last batch makes an update, however few batches
have been accumulated. Source: `TrainingEpochLoop.update_lr_schedulers` and `_should_accumulate`.
"""

from __future__ import annotations

import difflib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from yolo_cosine.schedules.compose import EpochWise, Repeat
from yolo_cosine.schedules.curves import Constant, InvalidSchedule, Piecewise, Schedule, Steps, kind, require
from yolo_cosine.schedules.native import BUILDERS, NativeSchedule, Run, call, native
from yolo_cosine.schedules.peers import torch_  # noqa: F401 (it registers the schedulers)


@kind("counted-in-epoch")
@dataclass(frozen=True)
class CountedInEpoch:
    """Another schedule on a slower clock, which goes on by one when so many steps of an epoch are done as `counts` lists,
    and starts over with the list in every epoch."""

    schedule: Schedule
    steps_per_epoch: int
    counts: tuple[Steps, ...]

    def __post_init__(self) -> None:
        require(
            list(self.counts) == sorted(self.counts) and all(0 < n <= self.steps_per_epoch for n in self.counts),
            f"counts: {list(self.counts)} are not in order, or not from 1 to {self.steps_per_epoch}; sort them",
        )

    @property
    def steps(self) -> Steps:
        return self.schedule.steps * self.steps_per_epoch / max(1, len(self.counts))

    def __call__(self, step: float) -> float:
        epoch, done = divmod(step, self.steps_per_epoch)
        return self.schedule(epoch * len(self.counts) + bisect_right(self.counts, done))


@dataclass(frozen=True)
class Stepping:
    """The keys of Lightning's configuration of a scheduler, and of its Trainer, that decide when it is stepped."""

    interval: str = "epoch"
    frequency: int = 1
    accumulate_grad_batches: int = 1
    max_epochs: int | None = None
    max_steps: int | None = None
    name: str | None = None
    monitor: str | None = None
    strict: bool = True
    reduce_on_plateau: bool | None = None

    def __post_init__(self) -> None:
        require(self.interval in ("step", "epoch"), f"interval: {self.interval!r} is not known; write step or epoch")
        for key in ("frequency", "accumulate_grad_batches"):
            value = getattr(self, key)
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            require(whole, f"{key}: {value!r} is no whole number from 1 on; write one")

    def updates_per_epoch(self, batches: int) -> int:
        """Updates of the weights in an epoch of so many batches."""
        return -(-batches // self.accumulate_grad_batches)

    def clocked(self, schedule: Schedule, run: Run) -> Schedule:
        """A schedule over the scheduler's steps as one over the updates."""
        if self.interval == "step" and self.frequency == 1:
            return schedule
        batches = run.need("iters_per_epoch")
        updates = self.updates_per_epoch(batches)
        if self.interval == "epoch":
            return EpochWise(schedule, updates * self.frequency)
        at_batch = [min(update * self.accumulate_grad_batches, batches) for update in range(1, updates + 1)]
        counts = tuple(n for n, batch in enumerate(at_batch, start=1) if batch % self.frequency == 0)
        return CountedInEpoch(schedule, updates, counts)

    def accumulation(self, run: Run) -> Schedule:
        """Batches in each update; the last one of an epoch takes what is left."""
        most, batches = self.accumulate_grad_batches, run.get("iters_per_epoch")
        left = batches % most if batches else 0
        if not left:
            return Constant(most)
        if batches < most:
            return Constant(batches)
        updates = self.updates_per_epoch(batches)
        return Repeat(Piecewise((most, left), (updates - 1,), steps=updates))


@native("lightning", *BUILDERS["torch"])
def torch_scheduler(run: Run, schedule: str, *, scheduler: Any, lightning: Any = None) -> NativeSchedule:
    """A scheduler of PyTorch under Lightning's Trainer.

    `scheduler` are the scheduler's own arguments (its `type` may stand there too; OneCycleLR's `max_lr` is by default
    the groups' lr0), `lightning` the keys of the scheduler's configuration and of the Trainer. ReduceLROnPlateau's
    `metrics` are those that it is stepped with.
    """
    if not isinstance(scheduler, Mapping):
        raise run.error(f"scheduler: {scheduler!r} are no arguments; write {{T_max: 10}}")
    arguments = dict(scheduler)
    if arguments.pop("type", schedule) != schedule:
        raise run.error(f"scheduler.type: {scheduler['type']!r} is another scheduler than {schedule}; write one name")
    if schedule == "OneCycleLR":
        arguments.setdefault("max_lr", list(run.lr0s()) if isinstance(run.get("lr0"), list | tuple) else run.lr0s()[0])
    stepping = _stepping(run, lightning)
    found = call(BUILDERS["torch"][schedule], schedule, arguments, replace(run, where=f"{run.where}: scheduler"))
    batches = run.get("iters_per_epoch")
    length = stepping.max_steps
    if length is None and stepping.max_epochs and batches:
        length = stepping.max_epochs * stepping.updates_per_epoch(batches)
    notes = found.notes
    if stepping.interval == "step" and stepping.frequency > 1 and batches and batches % stepping.frequency:
        notes += (f"frequency={stepping.frequency} counts the {batches} batches of each epoch anew",)
    return replace(
        found,
        clock="update",
        factors=tuple(stepping.clocked(factor, run) for factor in found.factors),
        momenta=tuple(stepping.clocked(momentum, run) for momentum in found.momenta),
        accumulation=stepping.accumulation(run),
        length=length,
        notes=notes,
    )


def _stepping(run: Run, lightning: Any) -> Stepping:
    given = {} if lightning is None else lightning
    if not isinstance(given, Mapping):
        raise run.error(f"lightning: {lightning!r} are no keys; write {{interval: step}}")
    keys = Stepping.__dataclass_fields__
    for key in given:
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(keys)}"
            raise run.error(f"lightning.{key}: there is no such key; {hint}")
    try:
        return Stepping(**{"accumulate_grad_batches": run.get("accumulate", 1)} | dict(given))
    except InvalidSchedule as error:
        raise run.error(f"lightning.{error}") from None
