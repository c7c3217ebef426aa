"""How long a run with a time budget can be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from yolo_cosine import events
from yolo_cosine.config.duration import parse_time
from yolo_cosine.engine.apply import applied
from yolo_cosine.errors import UserError
from yolo_cosine.schedules.build import build_schedule

if TYPE_CHECKING:
    from yolo_cosine.engine.trainer import Trainer

_JUMP = 0.1  # of the learning rate, from which a jump is said


def fitting_epochs(
    done: int, *, budget: float, elapsed: float, epoch: float, evaluation: float, per_evaluation: float
) -> int:
    """The most epochs that a run of `budget` seconds can have, at least one more than are done.

    Args:
        done: epochs trained so far, with their evaluations.
        elapsed: seconds that the run took so far.
        epoch: seconds of an epoch of training.
        evaluation: seconds of an evaluation. One more is kept in reserve, for what is written at the end.
        per_evaluation: epochs from one evaluation to the next.
    """
    left = budget - elapsed - evaluation
    return done + max(1, math.floor(left / (epoch + evaluation / per_evaluation)))


def replan(trainer: Trainer, step: int, epoch: int) -> None:
    """Give a run with a time budget the length that fits, by the speed of the epoch that it has just trained."""
    config, progress, group = trainer.config, trainer.progress, trainer.groups[0]
    train, evaluation = progress.epoch_seconds, progress.evaluation_seconds
    fitting = fitting_epochs(
        epoch + 1, budget=parse_time(config.time or "") or 0.0, elapsed=trainer.tick(), epoch=train, evaluation=evaluation,
        per_evaluation=trainer.eval_every / trainer.steps_per_epoch,
    )  # fmt: skip
    epochs = trainer.world.from_main(fitting)  # one clock decides for all ranks
    before = applied(trainer.optimizer)[events.LR + group.name]
    try:
        _set_epochs(trainer, epochs)
        so = f"the schedule ends with epoch {epochs} (planned: {config.epochs})"
    except UserError as error:
        so = f"a schedule of {epochs} epochs cannot be: {error}; the run keeps its {config.epochs}"
        _set_epochs(trainer, config.epochs)
    text = f"time: {config.time}: an epoch takes {train:.1f} s and an evaluation {evaluation:.1f} s: {so}"
    after = trainer.schedule.lr[group.name](step + 1) * group.lr0 * trainer.apply_schedule.factor
    if abs(after - before) > _JUMP * before:
        text += f"; the learning rate goes from {before:.3g} to {after:.3g} at once"
    trainer.emit(events.Replanned(step, epoch, trainer.config.epochs, text))


def _set_epochs(trainer: Trainer, epochs: int) -> None:
    """Let the run be `epochs` long, and its configuration say so, so that it repeats the run.

    Raises:
        UserError: if its schedule cannot be that long.
    """
    config = trainer.config.model_copy(update={"epochs": epochs, "time": None})
    schedule = build_schedule(config, trainer.groups, trainer.steps_per_epoch)
    trainer.config, trainer.schedule = config, schedule
    trainer.apply_schedule.follow(schedule)
    trainer.loss.plan(epochs)
    trainer.set_intervals()
