"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim

from yolo_cosine import events
from yolo_cosine.config.duration import parse_duration, parse_time
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.data.loader import TrainBatch, TrainLoader
from yolo_cosine.engine.apply import AppliedSchedule, applied
from yolo_cosine.engine.checkpoint import CheckpointFolder, write_atomically
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.optim import clip_gradients
from yolo_cosine.engine.precision import Precision
from yolo_cosine.engine.snapshot import snapshot
from yolo_cosine.errors import TrainingFailed, some_of
from yolo_cosine.evaluate import Detections, Evaluator
from yolo_cosine.model import detector
from yolo_cosine.model.ema import Ema
from yolo_cosine.model.loss import DetectionLoss
from yolo_cosine.model.weights import export_ultralytics
from yolo_cosine.schedules.plateau import PlateauState
from yolo_cosine.schedules.run import Group, RunSchedule


@dataclass
class Progress:
    """How far a run is. Plain values only: it is saved as it is."""

    step: int = 0  # the next one
    best: float = -1.0  # best mAP50-95
    best_epoch: int | None = None
    best_scalars: dict[str, float] = field(default_factory=dict)
    best_per_class: dict[str, float] = field(default_factory=dict)
    last_evaluated: int | None = None  # epoch
    last_improved: int = 0  # epoch from which patience counts
    ending: bool = False  # early stopping has led over to the mosaic-free end
    stopped: bool = False  # early stopping has ended the run
    plateau: dict[str, float] | None = None  # state of a plateau schedule, once something has been evaluated
    interval: int = 0  # steps in the logging interval so far
    epoch_images: int = 0  # trained on in this epoch so far
    epoch_seconds: float = 0.0  # spent on them


@dataclass
class Trainer:
    """Everything that a run needs, built; `fit` trains."""

    config: RunConfig
    run_dir: Path
    model: nn.Module
    wrapped: nn.Module  # the model, or the model in a DistributedDataParallel
    loss: DetectionLoss
    ema: Ema
    optimizer: optim.Optimizer
    groups: tuple[Group, ...]
    schedule: RunSchedule
    loader: TrainLoader
    evaluator: Evaluator
    precision: Precision
    world: World
    emit: Callable[[events.Event], None]
    eval_every: int  # steps
    facts: Mapping[str, Any]
    checkpoints: CheckpointFolder
    progress: Progress = field(default_factory=Progress)
    best_detections: Detections | None = None

    def __post_init__(self) -> None:
        self.scaler = self.precision.scaler()
        self.apply_schedule = AppliedSchedule(self.optimizer, self.groups, self.schedule)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.window: list[tuple[np.ndarray, Tensor]] = []  # images and losses of the batches since the last update
        self.sums = torch.zeros(2, len(self.loss.names), device=self.precision.device)  # per interval, per epoch
        every = self.config.checkpoint.every
        self._save_seconds = parse_time(every)
        self._save_steps = (
            0 if self._save_seconds else parse_duration(every).steps(len(self.loader), self.schedule.steps)
        )
        self._saved_at = time.monotonic()

    @property
    def steps_per_epoch(self) -> int:
        return len(self.loader)

    @property
    def mosaic_free_from(self) -> int:
        """The epoch from which mosaic is off."""
        return self.config.epochs - self.config.close_mosaic

    def fit(self) -> str:
        """Train to the end; returns the reason why it ended."""
        progress, start = self.progress, time.perf_counter()
        self.emit(self._started())
        reason, detail = "finished", ""
        try:
            while progress.step < self.schedule.steps and not progress.stopped:
                self._train_epoch(progress.step // self.steps_per_epoch)
            if progress.stopped or progress.ending:
                reason = "stopped early"
        except BaseException as error:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            detail = f"{type(error).__name__}: {error}"
            raise
        finally:
            last = max(progress.step - 1, 0)
            best = progress.best_scalars, progress.best_epoch, progress.best_per_class
            seconds = time.perf_counter() - start
            self.emit(events.RunEnded(last, last // self.steps_per_epoch, reason, seconds, *best, detail))
        return reason

    def _train_epoch(self, epoch: int) -> None:
        """Train an epoch, or what is left of it."""
        progress = self.progress
        first = progress.step % self.steps_per_epoch
        detector.train_mode(self.model, self.config.freeze)
        self.loss.start_epoch(epoch)
        if first == 0:
            self.sums[1].zero_()
            progress.epoch_images, progress.epoch_seconds = 0, 0.0
        since = time.perf_counter()
        for batch in self.loader.epoch(epoch, mosaic=epoch < self.mosaic_free_from, first=first):
            step = progress.step
            self.apply_schedule(step)
            scalars = {**applied(self.optimizer), events.ACCUMULATE: self.schedule.accumulate(step)}
            updated = self.train_step(batch, step)
            images = len(batch.indices) * self.world.size
            progress.step, progress.interval = step + 1, progress.interval + 1
            progress.epoch_images += images
            if (step + 1) % self.config.log_every == 0:
                scalars.update(self._mean_losses(0, events.LOSS, progress.interval))
                progress.interval = 0
            self.emit(events.StepDone(step, epoch, scalars, images, updated))
            progress.epoch_seconds += time.perf_counter() - since
            self._after_step(step, epoch)
            since = time.perf_counter()

    def _after_step(self, step: int, epoch: int) -> None:
        """What is due between two steps: the epoch's end, an evaluation, a checkpoint."""
        progress = self.progress
        epoch_over, run_over = (step + 1) % self.steps_per_epoch == 0, step + 1 == self.schedule.steps
        if epoch_over:
            means = self._mean_losses(1, events.EPOCH_LOSS, self.steps_per_epoch)
            speed = progress.epoch_images / progress.epoch_seconds
            scalars = {**means, events.IMAGES_PER_SECOND: speed}
            self.emit(events.EpochDone(step, epoch, scalars, progress.epoch_seconds))
        best = False
        if (step + 1) % self.eval_every == 0 or run_over:
            best = self._evaluate(step, epoch)
        if epoch_over:
            self._tell_unreadable()
            if self._out_of_patience(epoch):
                self._end_early(epoch)
        if best or run_over or progress.stopped or self._save_is_due(step):
            self._save(step, epoch, best)

    def _save_is_due(self, step: int) -> bool:
        if self._save_seconds is None:
            return (step + 1) % max(self._save_steps, 1) == 0
        # one clock decides for all ranks
        return bool(self.world.from_main(time.monotonic() - self._saved_at >= self._save_seconds))

    def _tell_unreadable(self) -> None:
        """Name the images that could not be read when they were asked for, once."""
        for store in (self.loader.store, self.evaluator.store):
            new = store.untold()
            if new:
                files = some_of(new, lambda i, index=store.index: str(index.path(i)))
                text = f"{store.index.source}: {len(new)} image(s) cannot be read: {files}; grey without boxes in their place"
                self.emit(events.Notice(text, warning=True, step=self.progress.step - 1))

    def train_step(self, batch: TrainBatch, step: int) -> bool:
        """Take in a batch; returns whether it closed an accumulation and so moved the weights."""
        batch = batch.to(self.precision.device)
        images = batch.images.float().div_(255).contiguous(memory_format=torch.channels_last)
        with self.precision.autocast():
            outputs = self.wrapped(images)
        loss, items = self.loss(
            outputs,
            images.shape[2:],
            batch.image_of_box,
            batch.classes,
            batch.boxes,
            batch.image_of_crowd,
            batch.crowds,
        )
        # DistributedDataParallel averages over the ranks, and the loss is a sum over images
        self.scaler.scale(loss * self.world.size).backward()
        self.sums += items
        self.window.append((batch.indices, items))
        if len(self.window) < self.schedule.accumulate(step):
            return False
        self.scaler.unscale_(self.optimizer)
        self._check_finite(clip_gradients(self.trained, self.config.clip_norm), step)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update()
        self.window.clear()
        return True

    def _check_finite(self, norm: Tensor, step: int) -> None:
        """Stop before a loss or gradient that is no number reaches the weights, and name the batch it came from."""
        items = torch.stack([items for _, items in self.window])
        # with a scaler an infinite norm is in order: it skips that update and scales less
        if torch.isfinite(items).all() and (self.scaler.is_enabled() or torch.isfinite(norm)):
            return
        bad = ~torch.isfinite(items).all(1)
        k = int(bad.nonzero()[0]) if bad.any() else len(items) - 1
        losses = ", ".join(f"{n} {v:.4g}" for n, v in zip(self.loss.names, items[k].tolist(), strict=True))
        files = [self.loader.store.index.files[i] for i in self.window[k][0]]
        what = "the loss" if bad.any() else "the norm of the gradients"
        raise TrainingFailed(
            f"step {step - len(items) + 1 + k} (epoch {step // self.steps_per_epoch + 1}): {what} is no finite number; the "
            f"weights were not touched by it. Losses: {losses}. Images: {', '.join(files)}. Lower lr0 (now "
            f"{self.config.lr0:g}), lengthen warmup_epochs (now {self.config.warmup_epochs:g}), or try precision: fp32 "
            f"(now {self.precision.name})"
        )

    def _mean_losses(self, row: int, prefix: str, count: int) -> dict[str, float]:
        """Read and reset a row of the sums. This waits for the device, so it is done once per interval."""
        means = (self.sums[row] / count).tolist()
        self.sums[row].zero_()
        return {prefix + name: value for name, value in zip(self.loss.names, means, strict=True)}

    def _evaluate(self, step: int, epoch: int) -> bool:
        """Evaluate the averaged weights; returns whether they are better than all before."""
        progress = self.progress
        self.emit(events.EvaluationStarted(step, epoch, len(self.evaluator.store.index)))
        self.world.share_buffers(self.ema.model)  # each rank's norms have seen its own images; one network is evaluated
        report, found, shown, seconds = self.evaluator(self.ema.model)
        scalars = {**report.scalars, events.EVAL_SECONDS: seconds}
        progress.last_evaluated = epoch
        # NaN (no boxes at all) never counts as better; the first evaluation always does
        best = progress.best_epoch is None or scalars[events.MAP] > progress.best
        if best:
            progress.best, progress.best_epoch, progress.last_improved = scalars[events.MAP], epoch, epoch
            progress.best_scalars, progress.best_per_class = scalars, dict(report.per_class)
        self.emit(
            events.Evaluated(step, epoch, scalars, report.per_class, report.recall, report.precision, best, shown)
        )
        self._observe_plateau(scalars[events.MAP], step)
        if best:
            self.best_detections = found
        return best

    def detections_of_best(self) -> Detections | None:
        """What the best weights find on the validation images; they are run again if that was before a resume."""
        if self.best_detections is None and self.progress.best_epoch is not None:
            best = self.checkpoints.best()
            if best is not None:
                self.ema.model.load_state_dict(best["ema"])
                self.best_detections = self.evaluator(self.ema.model)[1]
        return self.best_detections

    def _observe_plateau(self, metric: float, step: int) -> None:
        """Let a plateau schedule see an evaluation; its factor holds from the next step on."""
        plateau = self.schedule.plateau
        if plateau is None:
            return
        before = PlateauState(**self.progress.plateau) if self.progress.plateau else plateau.start()
        after = plateau.observe(before, metric)
        self.progress.plateau = asdict(after)
        if after.factor != before.factor:
            self.apply_schedule.reset(after.factor)
            self.emit(
                events.Notice(
                    f"no better mAP50-95 for {plateau.patience + 1} evaluations: the learning rates are multiplied with "
                    f"{after.factor:.4g} from step {step + 1} on",
                    step=step,
                )
            )

    def _out_of_patience(self, epoch: int) -> bool:
        progress, patience = self.progress, self.config.patience
        if patience == 0 or progress.ending or epoch + 1 >= self.config.epochs:
            return False
        # only what was evaluated can have failed to improve
        return progress.last_evaluated == epoch and epoch - progress.last_improved >= patience

    def _end_early(self, epoch: int) -> None:
        """Stop, or skip to the mosaic-free end where there is one to come."""
        progress, close, last_step = self.progress, self.mosaic_free_from, self.progress.step - 1
        said = f"no better mAP50-95 for {self.config.patience} epochs, since epoch {progress.last_improved + 1}"
        if self.config.close_mosaic == 0 or self.config.mosaic == 0:
            progress.stopped = True
            end = "stopping early"
        elif epoch + 1 > close:
            progress.stopped = True
            end = f"stopping early, {epoch + 1 - close} of {self.config.close_mosaic} mosaic-free epochs done"
        else:
            progress.step, progress.ending = close * self.steps_per_epoch, True
            skipping = f"skipping epochs {epoch + 2} to {close} and " if epoch + 1 < close else ""
            end = f"{skipping}ending with the {self.config.close_mosaic} mosaic-free epochs and their learning rates"
        self.emit(events.Notice(f"{said}; {end}", step=last_step))

    def _started(self) -> events.RunStarted:
        return events.RunStarted(
            run_dir=self.run_dir, config=self.config.model_dump(), names=self.loader.store.index.names,
            groups=tuple(g.name for g in self.groups), losses=self.loss.names, epochs=self.config.epochs,
            steps_per_epoch=self.steps_per_epoch, batch=self.config.batch, facts=self.facts,
            start_step=self.progress.step,
        )  # fmt: skip

    def _save(self, step: int, epoch: int, best: bool) -> None:
        """Write a checkpoint (all that a resume needs) and `weights/last.pt`, `weights/best.pt` (for Ultralytics)."""
        # the norms' statistics are each rank's own; a resume gives all the main one's, so a run that is not resumed does too
        self.world.share_buffers(self.model)
        self._saved_at = time.monotonic()
        if not self.world.is_main:
            return
        metrics = {k: v for k, v in self.progress.best_scalars.items() if math.isfinite(v)}
        weights = self.run_dir / "weights"
        try:
            facts = {"epoch": epoch, "metrics": metrics}
            self.checkpoints.save(snapshot(self), self.progress.step, best, facts)
            exported = export_ultralytics(self.ema.model, self.config.model_dump(), metrics, epoch)
            for kind in ("last", "best") if best else ("last",):
                write_atomically(weights / f"{kind}.pt", exported)
        except OSError as error:
            raise TrainingFailed(
                f"{self.run_dir}: cannot be written: {error.strerror}; what was saved before is whole"
            ) from None
        self.emit(events.Saved(step, weights / "last.pt", False))
        if best:
            self.emit(events.Saved(step, weights / "best.pt", True))
