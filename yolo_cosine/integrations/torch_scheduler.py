"""Any schedule as a scheduler of PyTorch: for a training loop, Lightning, a transformers' Trainer, ...

scheduler = ScheduleLR.from_phases(optimizer, [{"curve": "cosine", "end": 0.01, "for": "rest"}], steps=1000)
for batch in loader:
    ...
    optimizer.step()
    scheduler.step()
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import optim
from torch.optim.lr_scheduler import LRScheduler

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.integrations.groups import config_for, groups_of
from yolo_cosine.schedules.build import build_schedule
from yolo_cosine.schedules.compose import Scale
from yolo_cosine.schedules.curves import Constant, InvalidSchedule, Schedule
from yolo_cosine.schedules.expression import Clock, read_phases
from yolo_cosine.schedules.native import NativeSchedule
from yolo_cosine.schedules.presets import from_native

# Below this share of the base rate a schedule counts as 0: a rate that was set by hand would be taken for a huge factor.
_NOTHING = 1e-9


class ScheduleLR(LRScheduler):
    """Sets each group's learning rate to its initial one times the schedule, at every call of `step`.

    The value is `base * schedule(k) * outside` and never computed from the one before, so it does not drift. `outside`
    is what others have done to the rate since: the other schedulers of a chain, `ReduceLROnPlateau`, a hand. It is seen
    as the difference between the rate that is there and the one that this scheduler wrote, and kept. Two limits: a
    factor that is applied while the schedule is at 0 cannot be seen, and `step(epoch)`, which is also what
    `SequentialLR` enters a scheduler with, starts from the initial rates, as PyTorch's own schedulers do.

    The schedule is not part of the state; a scheduler that loads a state was made with the same schedule.

    Args:
        optimizer: its groups' present rates are the initial ones (a group's `initial_lr`, where it has one).
        schedule: a multiplier of the initial rate by step, one for all groups or a list with one for each.
        last_epoch: the step that was the last before, to go on without a state; -1 for a new run.
        momentum: the momentum itself (Adam: beta1) by step, one for all groups or a list; by default left alone.

    Raises:
        InvalidSchedule: where schedules and groups do not fit.
    """

    def __init__(
        self,
        optimizer: optim.Optimizer,
        schedule: Schedule | Sequence[Schedule],
        last_epoch: int = -1,
        *,
        momentum: Schedule | Sequence[Schedule] | None = None,
    ) -> None:
        groups = optimizer.param_groups
        self.schedules = _one_for_each(schedule, len(groups), "schedule")
        self.momenta = () if momentum is None else _one_for_each(momentum, len(groups), "momentum")
        if self.momenta and not all("momentum" in group or "betas" in group for group in groups):
            raise InvalidSchedule(
                f"momentum: {type(optimizer).__name__} has neither momentum nor betas; leave the argument out"
            )
        super().__init__(optimizer, last_epoch)

    @classmethod
    def from_phases(
        cls,
        optimizer: optim.Optimizer,
        phases: Sequence[Mapping[str, Any]],
        steps: int,
        steps_per_epoch: int = 1,
        *,
        momentum: Sequence[Mapping[str, Any]] | None = None,
        last_epoch: int = -1,
    ) -> ScheduleLR:
        """From phases as in YAML, `[{"curve": "linear", "start": 0, "end": 1, "for": "5%"}, ...]`.

        Args:
            optimizer: as in the constructor.
            phases: of the learning rate, in multiples of the initial one.
            steps: calls of `step` in the run.
            steps_per_epoch: what `3ep` is in steps.
            momentum: phases of the momentum itself.
            last_epoch: as in the constructor.

        Raises:
            InvalidSchedule: naming the phase, the key, its value, the rule and the remedy.
        """
        for name, value in (("steps", steps), ("steps_per_epoch", steps_per_epoch)):
            if value < 1:
                raise InvalidSchedule(f"{name}: {value} is below 1; write how many there are")
        clock = Clock(steps_per_epoch, steps)
        lr = read_phases(phases, clock, "phases")
        momenta = None
        if momentum is not None:
            momenta = [read_phases(momentum, clock, "momentum", _momentum(g)) for g in optimizer.param_groups]
        return cls(optimizer, lr, last_epoch, momentum=momenta)

    @classmethod
    def from_native(
        cls,
        optimizer: optim.Optimizer,
        peer: str,
        schedule: str,
        native: Mapping[str, Any],
        common: Mapping[str, Any] | None = None,
        *,
        last_epoch: int = -1,
    ) -> ScheduleLR:
        """From a peer's own schedule and arguments, as in `"transformers", "cosine", {"num_warmup_steps": 500}`.

        What `step` counts is what the peer's scheduler counts: steps, updates or epochs.

        Args:
            optimizer: as in the constructor; its initial rates are the peer's.
            peer, schedule, native, common: as in `yolo_cosine.schedules.presets.from_native`, but for `lr0`.
            last_epoch: as in the constructor.

        Raises:
            InvalidSchedule: where the peer raises, or where the peer's groups are not the optimizer's.
        """
        lr0s = _initial(optimizer)
        natives = _natives(peer, schedule, native, common or {}, lr0s)
        for found in natives:
            if len(found.factors) not in (1, len(lr0s)):
                names = ", ".join(group.name for group in found.groups)
                raise InvalidSchedule(
                    f"{peer}.{schedule}: has the groups {names}, and the optimizer has {len(lr0s)}; give it as many, in "
                    "this order"
                )
        factors = [_share(found, k % len(found.factors), lr0s[k]) for k, found in enumerate(natives)]
        momenta = [found.momenta[k % len(found.momenta)] for k, found in enumerate(natives) if found.momenta]
        return cls(optimizer, factors, last_epoch, momentum=momenta or None)

    @classmethod
    def from_config(
        cls,
        optimizer: optim.Optimizer,
        path: str | os.PathLike | RunConfig,
        epochs: int,
        steps_per_epoch: int,
        *,
        last_epoch: int = -1,
    ) -> ScheduleLR:
        """From the schedule of a run's YAML, as in `configs/schedules/wsd.yaml`; a step is a batch.

        The initial rates are the optimizer's, not the file's `lr0`. A group whose `name` has bias or norm in it is
        scheduled as one. Momentum is scheduled where the optimizer has some; Adam's beta1 only by `momentum_phases`.

        Raises:
            UserError: naming file, key, value, rule and remedy.
        """
        config = config_for(path, epochs=epochs)
        for key in ("plateau", "weight_decay_phases"):
            if getattr(config, key) is not None:
                remedy = "chain ReduceLROnPlateau" if key == "plateau" else "set it in the loop"
                raise InvalidSchedule(
                    f"{key}: is nothing that a scheduler of PyTorch can do; {remedy}, and leave it out"
                )
        groups = groups_of(optimizer, config, [lr0 or config.lr0 for lr0 in _initial(optimizer)])
        run = build_schedule(config, groups, steps_per_epoch)
        scheduled = config.momentum_phases is not None or all(g.get("momentum") for g in optimizer.param_groups)
        lrs = [run.lr[group.name] for group in groups]
        return cls(optimizer, lrs, last_epoch, momentum=run.momentum if scheduled else None)

    def get_lr(self) -> list[float]:
        """The rates of this step. To read what is applied, call `get_last_lr`."""
        if not self._get_lr_called_within_step:
            warnings.warn("get_lr: called outside of step; get_last_lr gives the last rates", UserWarning, stacklevel=2)
            return self.get_last_lr()
        self._notice_others()
        return self._values()

    def _get_closed_form_lr(self) -> list[float]:
        self.outside = [1.0] * len(self.base_lrs)
        return self._values()

    def _values(self) -> list[float]:
        self._set_momentum()
        k = self.last_epoch
        return [
            float(base) * schedule(k) * outside
            for base, schedule, outside in zip(self.base_lrs, self.schedules, self.outside, strict=True)
        ]

    def _initial_step(self) -> None:
        # Also called by SequentialLR, which puts the initial rates back before. What differs from them in a new run is
        # the work of schedulers that were made before this one.
        lrs = _rates(self.optimizer)
        new = self.last_epoch < 0
        self.outside = [lr / float(base) if new and base else 1.0 for lr, base in zip(lrs, self.base_lrs, strict=True)]
        self._last_lr = lrs
        super()._initial_step()

    def _notice_others(self) -> None:
        lrs = _rates(self.optimizer)
        if len(lrs) != len(self.schedules):
            raise InvalidSchedule(
                f"schedule: was made for {len(self.schedules)} groups, and the optimizer now has {len(lrs)}; make a new "
                "scheduler after adding a group"
            )
        for k, (lr, written) in enumerate(zip(lrs, self._last_lr, strict=True)):
            if lr != float(written):
                share = self.schedules[k](max(0, self.last_epoch - 1))
                own = float(self.base_lrs[k]) * share
                self.outside[k] = lr / own if own and abs(share) > _NOTHING else self.outside[k]

    def _set_momentum(self) -> None:
        for group, schedule in zip(self.optimizer.param_groups, self.momenta, strict=False):
            value = schedule(self.last_epoch)
            if "momentum" in group:
                group["momentum"] = value
            else:
                group["betas"] = (value, *group["betas"][1:])

    def state_dict(self) -> dict[str, Any]:
        """Numbers and lists of numbers, with the optimizer's present rates; not the schedules."""
        return {
            "last_epoch": self.last_epoch,
            "_step_count": self._step_count,
            "base_lrs": [float(lr) for lr in self.base_lrs],
            "_last_lr": [float(lr) for lr in self._last_lr],
            "outside": list(self.outside),
            "lr": _rates(self.optimizer),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a state, and put the optimizer's rates back as they were, should its own state not be loaded.

        A state of PyTorch's LambdaLR will do.

        Raises:
            InvalidSchedule: for a state of another number of groups, or of no scheduler.
        """
        missing = {"last_epoch", "base_lrs", "_last_lr"} - set(state_dict)
        if missing:
            raise InvalidSchedule(f"state_dict: has no {min(missing)}; give it the state of a scheduler")
        n = len(state_dict["base_lrs"])
        if n != len(self.schedules):
            raise InvalidSchedule(
                f"state_dict: is of {n} groups, and the optimizer has {len(self.schedules)}; make the same optimizer"
            )
        self.last_epoch = state_dict["last_epoch"]
        self._step_count = state_dict.get("_step_count", self.last_epoch + 1)
        self.base_lrs = list(state_dict["base_lrs"])
        self._last_lr = list(state_dict["_last_lr"])
        self.outside = list(state_dict.get("outside", [1.0] * n))
        for group, lr in zip(self.optimizer.param_groups, state_dict.get("lr", self._last_lr), strict=True):
            if isinstance(group["lr"], torch.Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        if self.last_epoch >= 0:
            self._set_momentum()


def _one_for_each(schedule: Any, n: int, name: str) -> tuple[Schedule, ...]:
    many = isinstance(schedule, list | tuple)
    schedules = tuple(schedule) if many else (schedule,) * n
    for one in schedules:
        if not callable(one):
            raise InvalidSchedule(f"{name}: {one!r} is no schedule; give a curve, as in Cosine(1.0, 0.01, 1000)")
    if len(schedules) != n:
        raise InvalidSchedule(f"{name}: {len(schedules)} for {n} groups; give one for all, or one for each")
    return schedules


def _rates(optimizer: optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


def _initial(optimizer: optim.Optimizer) -> list[float]:
    return [float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]


def _momentum(group: Mapping[str, Any]) -> float:
    return float(group["momentum"] if "momentum" in group else group.get("betas", (0.0,))[0])


def _natives(
    peer: str, schedule: str, native: Mapping[str, Any], common: Mapping[str, Any], lr0s: list[float]
) -> list[NativeSchedule]:
    """For each group the peer's schedule in which it stands, at its place or as the only one.

    Where a peer takes one rate only, each rate has a schedule of its own: an absolute minimum is another share of it.
    """

    def made(lr0: float | list[float]) -> NativeSchedule:
        return from_native(peer, schedule, native, {**common, "lr0": lr0})

    if len(set(lr0s)) > 1:
        try:
            together = made(lr0s)
        except InvalidSchedule:  # of the rates or of the arguments: the latter is raised again
            together = None
        if together is not None and len(together.factors) == len(lr0s):
            return [together] * len(lr0s)
    by_rate = {lr0: made(lr0) for lr0 in dict.fromkeys(lr0s)}
    return [by_rate[lr0] for lr0 in lr0s]


def _share(native: NativeSchedule, position: int, lr0: float) -> Schedule:
    """A group's factor as a share of `lr0`, where a peer's arguments may have another base."""
    base, factor = native.groups[position].lr0, native.factors[position]
    if base == lr0:
        return factor
    if lr0 == 0:
        return Constant(0.0)
    return Scale(factor, base / lr0)
