"""An evaluation in a run, and what follows from how good the weights are."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from yolo_cosine import events
from yolo_cosine.engine.mishaps import is_out_of_memory
from yolo_cosine.errors import TrainingFailed, first_line
from yolo_cosine.evaluate import Detections, Report
from yolo_cosine.schedules.plateau import PlateauState

if TYPE_CHECKING:
    from yolo_cosine.engine.trainer import Trainer


def evaluate(trainer: Trainer, step: int, epoch: int) -> bool:
    """Evaluate the averaged weights; returns whether they are better than all before.

    Raises:
        EvaluationAbandoned: if it was left in the middle.
        TrainingFailed: if there is no memory for it.
    """
    progress, model = trainer.progress, trainer.ema.model
    trainer.emit(events.EvaluationStarted(step, epoch, len(trainer.evaluator.store.index)))
    trainer.world.share_buffers(model)  # each rank's norms have seen its own images; one network is evaluated
    report, found, shown, progress.evaluation_seconds = _evaluated(trainer, step)
    scalars = {**report.scalars, events.EVAL_SECONDS: progress.evaluation_seconds}
    progress.last_evaluated = epoch
    # NaN (no boxes at all) never counts as better; the first evaluation always does
    best = progress.best_epoch is None or scalars[events.MAP] > progress.best
    if best:
        progress.best, progress.best_epoch, progress.last_improved = scalars[events.MAP], epoch, epoch
        progress.best_scalars, progress.best_per_class = scalars, dict(report.per_class)
        progress.best_step = step
    trainer.emit(events.Evaluated(step, epoch, scalars, report.per_class, report.recall, report.precision, best, shown))
    _observe_plateau(trainer, scalars[events.MAP], step)
    trainer.last_detections = found
    if best:
        trainer.best_detections = found
    return best


def _evaluated(trainer: Trainer, step: int) -> tuple[Report, Detections, tuple[events.Sample, ...], float]:
    """What the evaluator says of the averaged weights, with fewer images at a time where memory runs out."""
    evaluator = trainer.evaluator
    while True:
        try:
            return evaluator(trainer.ema.model)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            text = first_line(error)
        where = f"step {step}: out of memory in the evaluation ({text})"
        if trainer.world.size > 1 or evaluator.batch == 1:
            raise TrainingFailed(f"{where}; write a smaller batch (now {evaluator.batch}) or a smaller imgsz")
        evaluator.batch //= 2
        trainer.emit(events.Incident("memory", f"{where}: {evaluator.batch} image(s) at a time from here on", step))


def _observe_plateau(trainer: Trainer, metric: float, step: int) -> None:
    """Let a plateau schedule see an evaluation; its factor holds from the next step on."""
    plateau, progress = trainer.schedule.plateau, trainer.progress
    if plateau is None:
        return
    before = PlateauState(**progress.plateau) if progress.plateau else plateau.start()
    after = plateau.observe(before, metric)
    progress.plateau = asdict(after)
    if after.factor != before.factor:
        trainer.set_factor()
        trainer.emit(
            events.Notice(
                f"no better mAP50-95 for {plateau.patience + 1} evaluations: the learning rates are multiplied with "
                f"{after.factor:.4g} from step {step + 1} on",
                step=step,
            )
        )
