"""The learning-rate range test: the loss while the rate grows from far too low to far too high.

Source: Smith, Cyclical Learning Rates for Training Neural Networks (arXiv 1506.01186), section 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo_cosine import events
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.engine.build import build_trainer
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.precision import resolve_device, resolve_precision
from yolo_cosine.model import detector

_BETA = 0.9  # of the moving average over the updates
_EXPLODED = 3.0  # the smoothed loss, relative to the best so far, at which the test ends
_LEAST_FALL = 0.02  # of the first loss: less is noise
_EDGE = 3  # points at either end of the smoothed curve that no slope is read from


@dataclass(frozen=True)
class Point:
    """An update of the test."""

    lr: float
    loss: float  # sum of the losses, mean over the update's images
    smoothed: float


@dataclass(frozen=True)
class Suggestion:
    """What the curve says."""

    lr: float | None  # None where it says nothing
    reason: str
    steepest: float | None = None
    lowest: float | None = None
    exploded: float | None = None


def lr_range_test(
    config: RunConfig, lowest: float, highest: float, updates: int, progress: Callable[[Point, int], None]
) -> list[Point]:
    """Train for up to `updates` updates, the learning rate growing geometrically from `lowest` to `highest`.

    Everything is as in the run that `config` describes: weights, order of images, augmentation, batch and accumulation,
    momentum (without its warmup). Nothing is saved, so the run itself begins from the same weights and data afterwards.

    Args:
        progress: told every point and its number.

    Returns:
        The points up to where the loss exploded or was no number.
    """
    precision = resolve_precision(config.precision, resolve_device(config.device))
    quiet: Callable[[events.Event], None] = lambda event: None  # noqa: E731
    trainer = build_trainer(config, lambda: Path("."), quiet, precision, World(), brief=True)
    detector.train_mode(trainer.model, config.freeze)
    trainer.loss.start_epoch(0)
    per_update = round(trainer.schedule.accumulate(trainer.schedule.steps - 1))
    points: list[Point] = []
    average = 0.0
    batches = _endless(trainer)
    for k in range(updates):
        lr = lowest * (highest / lowest) ** (k / max(updates - 1, 1))
        for settings, group in zip(trainer.optimizer.param_groups, trainer.groups, strict=True):
            settings["lr"] = lr * group.lr0 / config.lr0 * group.factor
        trainer.learner.sums.zero_()
        for _ in range(per_update):
            # any step at which an update closes after `per_update` batches
            trainer.train_step(next(batches), trainer.schedule.steps - 1)
        if not all(update.finite for update in trainer.learner.verdicts.heard(everything=True)):
            break
        loss = trainer.learner.sums[0, :-1].sum().item() / per_update
        average = _BETA * average + (1 - _BETA) * loss
        points.append(Point(lr, loss, average / (1 - _BETA ** (k + 1))))
        progress(points[-1], k)
        if len(points) > 2 * _EDGE and points[-1].smoothed > _EXPLODED * min(p.smoothed for p in points):
            break
    return points


def _endless(trainer):
    epoch = 0
    while True:
        yield from trainer.loader.epoch(epoch, mosaic=trainer.config.close_mosaic < trainer.config.epochs)
        epoch += 1


def suggest(points: Sequence[Point], complete: bool) -> Suggestion:
    """The rate at which the smoothed loss falls fastest, with the reason in words.

    Args:
        complete: whether the test came to its highest rate; else the loss exploded on the way.
    """
    exploded = None if complete or not points else points[-1].lr
    if len(points) < 4 * _EDGE:
        return Suggestion(
            None, f"only {len(points)} updates before the loss exploded; start lower (--from)", exploded=exploded
        )
    curve = [p.smoothed for p in points]
    low = min(range(len(curve)), key=curve.__getitem__)
    fall = (max(curve[: low + 1]) - curve[low]) / max(curve[: low + 1])
    if low < 2 * _EDGE or fall < _LEAST_FALL:
        return Suggestion(
            None,
            f"the loss never falls by more than {fall:.1%}, so no rate is better than another here; take more updates, or "
            "another range",
            lowest=points[low].lr,
            exploded=exploded,
        )
    # the steepest fall per factor of the rate, over a window so that noise does not decide
    slopes = {k: (curve[k + _EDGE] - curve[k - _EDGE]) for k in range(_EDGE, low - _EDGE + 1)}
    steep = min(slopes, key=slopes.__getitem__)
    rate, at_lowest = points[steep].lr, points[low].lr
    end = f"explodes at {exploded:.2g}" if exploded else "has not exploded at the highest rate"
    reason = (
        f"the smoothed loss falls fastest at {rate:.2g}, is lowest at {at_lowest:.2g} (where a schedule's peak would be on the "
        f"edge) and {end}"
    )
    return Suggestion(rate, reason, rate, at_lowest, exploded)
