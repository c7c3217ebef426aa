"""What can go wrong in the middle of a run, and can be mended there."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from yolo_cosine import events
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.engine.progress import Progress
from yolo_cosine.engine.snapshot import restore
from yolo_cosine.engine.verdicts import Update
from yolo_cosine.errors import TrainingFailed, some_of

if TYPE_CHECKING:
    from yolo_cosine.engine.trainer import Trainer


class NonFinite(TrainingFailed):
    """A loss or a gradient is no finite number; nothing of it has reached the weights."""


class EvaluationAbandoned(Exception):
    """An evaluation was left in the middle; nothing of it is kept."""


class GoBack(Exception):
    """The run goes on from its last checkpoint."""

    def __init__(self, kind: str, text: str, **changes: float):
        super().__init__(text)
        self.kind, self.text = kind, text
        self.changes = changes  # what of the progress is set after going back


_OUT_OF_MEMORY = (
    "DefaultCPUAllocator: can't allocate", "CUDA out of memory", "CUDA error: out of memory", "MPS backend out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED", "CUDNN_STATUS_ALLOC_FAILED", "DEVICE_ALLOCATION_FAILED",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU (where PyTorch has no class for it)."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and (any(words in str(error) for words in _OUT_OF_MEMORY))


def describe_nonfinite(
    items: Tensor, window: Sequence[Sequence[str]], names: Sequence[str], first_step: int, steps_per_epoch: int
) -> str:
    """Where a number was not finite: step, losses and images.

    Args:
        items: (W, L) float32, the losses of the W batches of the update.
        window: the image files of each of these batches.
        names: (L) names of the losses.
        first_step: the step of the first batch.
    """
    bad = ~torch.isfinite(items).all(1)
    k = int(bad.nonzero()[0]) if bad.any() else len(items) - 1
    losses = ", ".join(f"{n} {v:.4g}" for n, v in zip(names, items[k].tolist(), strict=True))
    what = "the loss" if bad.any() else "the norm of the gradients"
    step = first_step + k
    images = some_of(window[k], most=16)
    return (
        f"step {step} (epoch {step // steps_per_epoch + 1}): {what} is no finite number; the weights were not touched by "
        f"it. Losses: {losses}. Images: {images}"
    )


def hear(trainer: Trainer, everything: bool = False) -> bool:
    """Learn what became of the updates; returns whether none was left out. A left out one is told and counted.

    Args:
        everything: wait for the latest as well.

    Raises:
        GoBack, NonFinite: if there were too many in a row.
    """
    all_finite = True
    for update in trainer.learner.verdicts.heard(everything):
        if update.finite:
            trainer.progress.skipped = 0
        else:
            all_finite = False
            text = leave_out(_describe(trainer, update), trainer.progress, trainer.config)
            trainer.emit(events.Incident("nonfinite", text, update.step))
    return all_finite


def _describe(trainer: Trainer, update: Update) -> str:
    """What was not finite, and the images of all ranks that it may come from."""
    files, shares = trainer.loader.store.index.files, trainer.world.gather(update.images)
    window = [[files[i] for i in np.concatenate(images)] for images in zip(*shares, strict=True)]
    first = update.step - len(window) + 1
    return describe_nonfinite(update.losses, window, trainer.loss.names, first, trainer.steps_per_epoch)


def leave_out(text: str, progress: Progress, config: RunConfig) -> str:
    """Count an update that is left out, and say so.

    Args:
        text: what was not finite.

    Raises:
        GoBack: after `config.nonfinite.skips` of them in a row.
        NonFinite: where the run went back for that often enough.
    """
    limits = config.nonfinite
    progress.skipped += 1
    if progress.skipped <= limits.skips:
        return f"{text}. This update is left out, the {progress.skipped}. of at most {limits.skips} in a row"
    if progress.rewinds >= limits.rewinds:
        raise NonFinite(
            f"{text}. It was the {progress.skipped}. in a row, and the run went back for that {progress.rewinds} time(s), "
            f"as often as nonfinite.rewinds allows. Lower lr0 (now {config.lr0:g}), lengthen warmup_epochs (now "
            f"{config.warmup_epochs:g}), or write precision: fp32 (now {config.precision})"
        )
    factor = progress.lr_factor * limits.lr_factor
    changes = {"rewinds": progress.rewinds + 1, "lr_factor": factor}
    raise GoBack("nonfinite", f"{text}. Every learning rate is multiplied with {factor:g} from here on", **changes)


def smaller_parts(trainer: Trainer, text: str) -> GoBack:
    """The way back after memory ran out: a batch is computed in twice as many parts.

    Args:
        text: where it ran out.

    Raises:
        TrainingFailed: where a batch cannot be parted, or among several processes, which would wait for each other.
    """
    config, ranks = trainer.config, trainer.world.size
    parts, most = 2 * trainer.progress.parts, config.batch // ranks
    if ranks > 1 or parts > most:
        raise TrainingFailed(
            f"{text}; write a smaller batch (now {config.batch}; nominal_batch may stay), a smaller imgsz (now "
            f"{config.imgsz}) or a smaller model"
        )
    images = -(-most // parts)
    plain = (
        f", uncompiled (a new run with batch: {images} would have them compiled)" if trainer.learner.compiled else ""
    )
    return GoBack(
        "memory",
        f"{text}. From here on a batch is computed in {parts} parts of {images} image(s){plain}, over which the norms "
        "take their means; batch and nominal_batch stay",
        parts=parts,
    )


def go_back(trainer: Trainer, mishap: GoBack) -> None:
    """Go on from the last checkpoint, which is that of the start where there is no later one.

    Raises:
        TrainingFailed: if none is whole.
    """
    last = trainer.progress.last_step
    gc.collect()
    if trainer.precision.device.type == "cuda":
        torch.cuda.empty_cache()
    folder, world = trainer.saver.folder, trainer.world
    marked, state, _ = world.from_main(folder.newest() if world.is_main else None)
    if marked is None:
        raise TrainingFailed(f"{mishap.text}. There is no whole checkpoint to go back to; begin the run anew")
    restore(trainer, state)
    for name, value in {"skipped": 0, **mishap.changes}.items():
        setattr(trainer.progress, name, value)
    trainer.set_factor()
    trainer.best_detections = trainer.last_detections = None
    text = f"{mishap.text}. The run goes back to where it was after {marked.step} steps"
    trainer.emit(events.Rewound(last, marked.step, text, mishap.kind))
    if trainer.progress.evaluation_due:
        trainer.finish_step(trainer.progress.last_step)
