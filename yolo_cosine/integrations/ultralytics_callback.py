"""A schedule in Ultralytics' own trainer, in place of the trainer's.

model = YOLO("yolo11n.yaml")
attached = attach(model, "configs/schedules/wsd.yaml")
model.train(data="coco8.yaml", epochs=100)
attached.applied  # what every optimizer.step() was done with
"""

from __future__ import annotations

import math
import os
from array import array
from typing import TYPE_CHECKING

from torch.optim import Optimizer
from ultralytics.utils import LOGGER

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.engine.apply import AppliedSchedule
from yolo_cosine.integrations.groups import config_for, groups_of
from yolo_cosine.schedules.build import build_schedule
from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.run import Group, RunSchedule

if TYPE_CHECKING:
    from ultralytics import YOLO
    from ultralytics.engine.trainer import BaseTrainer

_EVENTS = (
    "on_pretrain_routine_start", "on_pretrain_routine_end", "on_train_start", "on_train_epoch_start",
    "on_train_batch_start", "on_fit_epoch_end",
)  # fmt: skip


def attach(model: YOLO, schedule: str | os.PathLike | RunConfig) -> AttachedSchedule:
    """Let a schedule give the learning rates, momentum, weight decay and accumulation of `model.train(...)`.

    Of the configuration only the keys of the schedule count (`lr0`, `phases`, `warmup_epochs`, `momentum`, ...), and
    the same arguments of `train` do not. Length, batch size, `nbs`, `weight_decay` and optimizer are those of `train`;
    only where it leaves the optimizer open (`auto`, which would choose a learning rate too), it is the configuration's.

    Args:
        model: an Ultralytics model, not yet in training.
        schedule: a YAML file, as in `configs/schedules/`, or a configuration.

    Returns:
        What tells, during and after training, which schedule was applied and how.

    Raises:
        UserError: naming file, key, value, rule and remedy. What only the length of the run can tell is raised by
            `model.train`, before the first step.
    """
    attached = AttachedSchedule(config_for(schedule))
    for event in _EVENTS:
        model.add_callback(event, getattr(attached, event))
    return attached


class AttachedSchedule:
    """A schedule that drives Ultralytics' trainer, and the record of what it applied.

    A step is a batch, counted from the start of the run, also after a resume. Everything is set as the batch comes in,
    and once more right before the optimizer's step.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config = config  # as given
        self.groups: tuple[Group, ...] = ()
        self.schedule: RunSchedule | None = None  # of the training that began last
        self._record = array("d")

    @property
    def applied(self) -> list[tuple[int, dict[str, float]]]:
        """For every step of the optimizer the batch at which it was done and `lr/<group>` and `momentum`, read back from
        the optimizer."""
        names = [*(f"lr/{group.name}" for group in self.groups), "momentum"]
        width = 1 + len(names)
        rows = (self._record[k : k + width] for k in range(0, len(self._record), width))
        return [(int(row[0]), dict(zip(names, row[1:], strict=True))) for row in rows]

    def on_pretrain_routine_start(self, trainer: BaseTrainer) -> None:
        """Choose the optimizer where `train` was not told which."""
        if str(trainer.args.optimizer).lower() == "auto":
            trainer.args.optimizer = self.config.optimizer

    def on_pretrain_routine_end(self, trainer: BaseTrainer) -> None:
        """Switch the trainer's own warmup off, which would write over the schedule."""
        trainer.args.warmup_epochs = 0.0

    def on_train_start(self, trainer: BaseTrainer) -> None:
        """Build the schedule, now that the length of the run is known."""
        if trainer.args.time:
            raise InvalidSchedule(
                f"time: a schedule is over a number of steps, and {trainer.args.time:g} hours have none that is known; "
                "give train epochs instead"
            )
        for settings in trainer.optimizer.param_groups:  # the checkpoints keep it, and a resume finds it
            settings.setdefault("initial_weight_decay", settings["weight_decay"])
        self._record = array("d")
        self._factor = 1.0
        self._build(trainer)
        if self.schedule.plateau is not None:
            _check_plateau(trainer)
            self._state = self.schedule.plateau.start()
        for note in self.schedule.notes:
            LOGGER.info(f"yolo-cosine: {note}")
        rates = ", ".join(f"{group.name} {group.lr0 * group.factor:g}" for group in self.groups)
        LOGGER.info(f"yolo-cosine: a schedule of {self.schedule.steps} steps; base learning rates: {rates}")
        trainer.optimizer.register_step_pre_hook(lambda *_: self._apply())
        trainer.optimizer.register_step_post_hook(lambda optimizer, *_: self._note(optimizer))

    def on_train_epoch_start(self, trainer: BaseTrainer) -> None:
        """Find the place in the schedule. A trainer that ran out of memory begins anew, with smaller batches."""
        if self._built_for != _size(trainer):
            for settings in trainer.optimizer.param_groups:
                if settings.get("param_group") in ("weight", "muon"):  # the trainer has just scaled it anew
                    settings["initial_weight_decay"] = settings["weight_decay"]
            self._build(trainer)
        self._next = trainer.epoch * len(trainer.train_loader)

    def on_train_batch_start(self, trainer: BaseTrainer) -> None:
        """Set what this batch is to have."""
        self._step, self._next = self._next, self._next + 1
        self._apply()
        trainer.accumulate = round(self.schedule.accumulate(self._step))

    def on_fit_epoch_end(self, trainer: BaseTrainer) -> None:
        """Let a plateau schedule see the evaluation."""
        if self.schedule.plateau is not None:
            self._state = self.schedule.plateau.observe(self._state, float(trainer.fitness))
            self._factor = self._state.factor

    def _build(self, trainer: BaseTrainer) -> None:
        optimizer = trainer.optimizer
        config = config_for(
            self.config,
            epochs=trainer.epochs,
            batch=trainer.batch_size,
            nominal_batch=trainer.args.nbs,
            close_mosaic=trainer.args.close_mosaic,
            optimizer="AdamW" if "betas" in optimizer.param_groups[0] else type(optimizer).__name__,
        )
        for settings in optimizer.param_groups:
            settings["weight_decay"] = settings["initial_weight_decay"]
        # under MuSGD the class branch of the head has groups of its own, with three times the rate
        boosts = [settings["initial_lr"] / trainer.args.lr0 for settings in optimizer.param_groups]
        heads = ["head_" if math.isclose(boost, 3) else "" for boost in boosts]
        self.groups = groups_of(optimizer, config, [config.lr0 * boost for boost in boosts], heads)
        self.schedule = build_schedule(config, self.groups, len(trainer.train_loader))
        self._applied_schedule = AppliedSchedule(optimizer, self.groups, self.schedule)
        self._built_for = _size(trainer)

    def _apply(self) -> None:
        # anew each time: the trainer's own scheduler writes to the optimizer too, at the start of each epoch
        self._applied_schedule.reset(self._factor)
        self._applied_schedule(self._step)

    def _note(self, optimizer: Optimizer) -> None:
        first = optimizer.param_groups[0]
        momentum = first["momentum"] if "momentum" in first else first["betas"][0]
        self._record.extend([self._step, *(settings["lr"] for settings in optimizer.param_groups), momentum])


def _size(trainer: BaseTrainer) -> tuple[int, int]:
    return len(trainer.train_loader), trainer.batch_size


def _check_plateau(trainer: BaseTrainer) -> None:
    problems = {
        "val=False leaves its metric out; train with val=True": not trainer.args.val,
        "Ultralytics' checkpoints do not keep its state, so it cannot be resumed; begin anew": trainer.start_epoch > 0,
        "only the first of several processes evaluates; train on one device": trainer.world_size > 1,
    }
    for problem, there in problems.items():
        if there:
            raise InvalidSchedule(f"plateau: {problem}, or leave it out")
