"""When a run that gets no better stops, and how."""

from __future__ import annotations

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.engine.progress import Progress


def out_of_patience(progress: Progress, config: RunConfig, epoch: int) -> bool:
    """Whether the run has gone `config.patience` epochs without a better evaluation."""
    if config.patience == 0 or progress.ending or epoch + 1 >= config.epochs:
        return False
    # only what was evaluated can have failed to improve
    return progress.last_evaluated == epoch and epoch - progress.last_improved >= config.patience


def end_early(progress: Progress, config: RunConfig, epoch: int, steps_per_epoch: int) -> str:
    """Let a run stop after `epoch`, or skip to its mosaic-free end where there is one to come; returns what to say."""
    close = config.epochs - config.close_mosaic  # the epoch from which mosaic is off
    said = f"no better mAP50-95 for {config.patience} epochs, since epoch {progress.last_improved + 1}"
    if config.close_mosaic == 0 or not config.combines:
        progress.stopped = True
        return f"{said}; stopping early"
    if epoch + 1 > close:
        progress.stopped = True
        return f"{said}; stopping early, {epoch + 1 - close} of {config.close_mosaic} mosaic-free epochs done"
    progress.step, progress.ending = close * steps_per_epoch, True
    skipping = f"skipping epochs {epoch + 2} to {close} and " if epoch + 1 < close else ""
    return f"{said}; {skipping}ending with the {config.close_mosaic} mosaic-free epochs and their learning rates"
