"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim

from yolo_cosine import events
from yolo_cosine.config.duration import interval_steps, parse_time
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.data.loader import TrainBatch, TrainLoader
from yolo_cosine.data.targets import Targets
from yolo_cosine.engine.apply import AppliedSchedule, applied
from yolo_cosine.engine.compiling import Compiled
from yolo_cosine.engine.distributed import World
from yolo_cosine.engine.fork import write_fork
from yolo_cosine.engine.horizon import replan
from yolo_cosine.engine.mishaps import (
    EvaluationAbandoned,
    GoBack,
    describe_nonfinite,
    go_back,
    is_out_of_memory,
    leave_out,
    smaller_parts,
)
from yolo_cosine.engine.norms import NormStatistics
from yolo_cosine.engine.optim import clip_gradients, step_if
from yolo_cosine.engine.patience import end_early, out_of_patience
from yolo_cosine.engine.precision import Precision
from yolo_cosine.engine.progress import Progress
from yolo_cosine.engine.saving import Saver
from yolo_cosine.engine.stopping import StopSignals
from yolo_cosine.engine.verdicts import Update, Verdicts
from yolo_cosine.errors import Interrupted, TrainingFailed, first_line
from yolo_cosine.evaluate import Detections, Evaluator, Report
from yolo_cosine.model import detector
from yolo_cosine.model.ema import Ema
from yolo_cosine.model.loss import DetectionLoss
from yolo_cosine.schedules.plateau import PlateauState
from yolo_cosine.schedules.run import Group, RunSchedule


@dataclass
class Trainer:
    """Everything that a run needs, built; `fit` trains."""

    config: RunConfig
    run_dir: Path
    model: nn.Module
    rows: nn.Module  # the model in its `detector.Rows`
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
    facts: Mapping[str, Any]
    environment: Mapping[str, str]  # what the numbers depend on, but for configuration and data
    data_prints: Mapping[str, Mapping[str, Any]]  # of each split
    saver: Saver
    compiled: Compiled | None = None  # network and loss as one
    forks: frozenset[int] = frozenset()  # numbers of steps after which the state is put aside for other runs
    stops: StopSignals = field(default_factory=StopSignals)
    progress: Progress = field(default_factory=Progress)
    best_detections: Detections | None = None  # of the best evaluation, if this process took it
    last_detections: Detections | None = None  # the same of the last
    began: float = field(default_factory=time.monotonic)  # when this process began with the run

    def __post_init__(self) -> None:
        self.scaler = self.precision.scaler()
        self.apply_schedule = AppliedSchedule(self.optimizer, self.groups, self.schedule)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.gradients = self.world.gradients(self.trained)
        self.window: list[tuple[np.ndarray, Tensor]] = []  # images and losses of the batches since the last update
        self.verdicts = Verdicts(lag=1 if self.precision.device.type == "cuda" else 0)
        # per interval, per epoch: the sum of each loss over the steps, and the number of these steps
        self.sums = torch.zeros(2, len(self.loss.names) + 1, device=self.precision.device)
        self.norms = NormStatistics(self.model)
        # of an update that is not closed, each rank's share of what is summed up so far; as of the last save
        self.gradients_of_ranks: list[list[Tensor]] | None = None
        self.images_of_ranks: list[np.ndarray] = []  # of each batch of the window, those of all ranks
        self.set_intervals()
        self._saved_at = self._clock = time.monotonic()
        self._clock_says_save = False
        self.loader.tell = self.evaluator.tell = self._tell_worker
        self.evaluator.between_batches = self._abandon_evaluation

    def set_intervals(self) -> None:
        """Turn the durations of the configuration into steps of a run of this length."""
        spe, steps, every = self.steps_per_epoch, self.schedule.steps, self.config.checkpoint.every
        self.eval_every = interval_steps(self.config.eval_every, spe, steps)
        self._save_seconds = parse_time(every)
        self._save_steps = 1 if self._save_seconds else interval_steps(every, spe, steps)

    @property
    def steps_per_epoch(self) -> int:
        return len(self.loader)

    @property
    def mosaic_free_from(self) -> int:
        """The epoch from which mosaic is off."""
        return self.config.epochs - self.config.close_mosaic

    def fit(self) -> str:
        """Train to the end; returns the reason why it ended.

        Raises:
            Interrupted: if a signal ended it; TrainingFailed: if it cannot go on. What was saved is whole.
        """
        progress, start = self.progress, time.perf_counter()
        self._saved_at, self._clock = time.monotonic(), self.began
        reason, detail = "failed", ""
        try:
            self.emit(self._started())
            if self.world.is_main:
                self.saver.begin(self)
            self.stops.orderly = True
            if progress.evaluation_due:
                self.finish_step(progress.last_step)
            self._fork_if_due()  # the process before may have been killed ahead of it
            while progress.step < self.schedule.steps and not progress.stopped:
                mishap = None
                try:
                    self._train_epoch(progress.step // self.steps_per_epoch)
                except GoBack as found:
                    mishap = found.with_traceback(None)  # whose frames hold tensors
                if mishap is not None:
                    go_back(self, mishap)
            self.stops.orderly, self.stops.situation = False, "after the last step, and all of it is saved"
            self.evaluator.between_batches = lambda: None
            if self.world.is_main:
                self.saver.finish(self)
            reason = "stopped early" if progress.stopped or progress.ending else "finished"
        except BaseException as error:
            reason = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            detail = f"{type(error).__name__}: {error}"
            raise
        finally:
            last = max(progress.last_step, 0)
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
        for batch in self._batches(epoch, first):
            step = progress.step
            self.apply_schedule(step)
            scalars = {**applied(self.optimizer), events.ACCUMULATE: self.schedule.accumulate(step)}
            updated = self._take_step(batch, step)
            images = self.loader.images_in(step % self.steps_per_epoch)
            progress.last_step, progress.step = step, step + 1
            progress.epoch_images += images
            if (step + 1) % self.config.log_every == 0:
                scalars.update(self._mean_losses(0, events.LOSS))
            self.emit(events.StepDone(step, epoch, scalars, images, updated))
            progress.epoch_seconds += time.perf_counter() - since
            if (step + 1) % self.steps_per_epoch == 0:
                self._end_epoch(step, epoch)
            progress.evaluation_due = (step + 1) % self.eval_every == 0 or step + 1 == self.schedule.steps
            self.finish_step(step)
            since = time.perf_counter()

    def _batches(self, epoch: int, first: int) -> Iterator[TrainBatch]:
        """The batches of an epoch from number `first` on.

        Raises:
            GoBack: if there is no memory for one on the device that makes them.
        """
        try:
            yield from self.loader.epoch(epoch, mosaic=epoch < self.mosaic_free_from, first=first)
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            text = first_line(error)
        where = f"step {self.progress.step}: out of memory for its images ({text})"
        raise smaller_parts(where, self.progress, self.config, self.world.size)

    def train_step(self, batch: TrainBatch, step: int) -> bool:
        """Take in a batch; returns whether it closed an accumulation.

        Then the weights have moved, unless a loss or a gradient was no finite number: in that case the device has left the
        update out, of which `verdicts` tells. The host waits for nothing here.
        """
        batch = batch.to(self.precision.device)
        closing = len(self.window) + 1 >= self.schedule.accumulate(step)
        items = torch.zeros(len(self.loss.names), device=self.precision.device)
        for part in batch.parts(self.progress.parts):
            images = part.inputs()
            with self.gradients(closing):
                loss, part_items = self._loss(images, part.targets, step)
                self.scaler.scale(loss).backward()
            items += part_items * (len(images) / len(batch.images))
        self.sums += torch.where(torch.isfinite(items).all(), torch.cat((items, items.new_ones(1))), 0)
        self.window.append((batch.indices, items))
        if not closing:
            return False
        self._update(step)
        return True

    def _loss(self, images: Tensor, targets: Targets, step: int) -> tuple[Tensor, Tensor]:
        """Network and loss: the sum to differentiate, and the items."""
        if self.compiled is not None:
            return self.compiled(images, targets, self.precision.autocast())
        with self.precision.autocast():
            outputs = self.rows(images)
        return self.loss(outputs, images.shape[2:], targets, **self._share_of(step))

    def _share_of(self, step: int) -> dict[str, Any]:
        """What the loss is to know where a rank has a share of the batch only."""
        if self.world.size == 1:
            return {}
        return {"images": self.loader.images_in(step % self.steps_per_epoch), "total": self.world.total}

    def _update(self, step: int) -> None:
        """Let the gradients of the window move the weights, averages and norms, if they are finite."""
        images, losses = zip(*self.window, strict=True)
        losses = torch.stack(losses)
        self.scaler.unscale_(self.optimizer)
        norm = clip_gradients(self.trained, self.config.clip_norm)
        # losses and gradients are those of all ranks, so all decide alike
        finite = torch.isfinite(losses).all()
        if not self.scaler.is_enabled():
            finite &= torch.isfinite(norm)
            step_if(self.optimizer, finite)
        else:  # an infinite norm is in order, until it has nothing left to scale down: it skips that update
            finite &= torch.isfinite(norm) | (self.scaler.get_scale() >= 1)
            self.scaler.step(self.optimizer)
            self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.norms.keep_if(finite)
        self.ema.update(finite)
        self.verdicts.put(Update(step, images, losses, finite))
        self.window.clear()
        self.gradients_of_ranks = None

    def _take_step(self, batch: TrainBatch, step: int) -> bool:
        """`train_step`, with what becomes of its mishaps; returns whether the weights moved, as far as is known.

        Raises:
            GoBack: if the run has to go on from its last checkpoint.
        """
        try:
            updated = self.train_step(batch, step)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            text = first_line(error)
        else:
            return self._hear() and updated
        # out of the handler, for the error's frames hold the step's tensors
        raise smaller_parts(f"step {step}: out of memory ({text})", self.progress, self.config, self.world.size)

    def _hear(self, everything: bool = False) -> bool:
        """Learn what became of the updates; returns whether none was left out. A left out one is told and counted.

        Args:
            everything: wait for the latest as well.

        Raises:
            GoBack, NonFinite: if there were too many in a row.
        """
        all_finite = True
        for update in self.verdicts.heard(everything):
            if update.finite:
                self.progress.skipped = 0
            else:
                all_finite = False
                text = leave_out(self._describe(update), self.progress, self.config)
                self.emit(events.Incident("nonfinite", text, update.step))
        return all_finite

    def _describe(self, update: Update) -> str:
        """What was not finite, and the images of all ranks that it may come from."""
        files, shares = self.loader.store.index.files, self.world.gather(update.images)
        window = [[files[i] for i in np.concatenate(images)] for images in zip(*shares, strict=True)]
        first = update.step - len(window) + 1
        return describe_nonfinite(update.losses, window, self.loss.names, first, self.steps_per_epoch)

    def set_factor(self) -> None:
        """Let every learning rate be multiplied with what plateaus and mishaps have come to."""
        plateau = self.progress.plateau["factor"] if self.progress.plateau else 1.0
        self.apply_schedule.reset(plateau * self.progress.lr_factor)

    def _mean_losses(self, row: int, prefix: str) -> dict[str, float]:
        """Read and reset a row of the sums. This waits for the device, so it is done once per interval."""
        *sums, count = self.sums[row].tolist()
        self.sums[row].zero_()
        return {
            prefix + name: value / count if count else float("nan")
            for name, value in zip(self.loss.names, sums, strict=True)
        }

    def _end_epoch(self, step: int, epoch: int) -> None:
        progress = self.progress
        means = self._mean_losses(1, events.EPOCH_LOSS)
        speed = progress.epoch_images / progress.epoch_seconds
        scalars = {**means, events.IMAGES_PER_SECOND: speed}
        self.emit(events.EpochDone(step, epoch, scalars, progress.epoch_seconds, self.tick()))

    def tick(self) -> float:
        """Seconds of the run so far, by a clock that cannot be set."""
        now = time.monotonic()
        self.progress.elapsed += now - self._clock
        self._clock = now
        return self.progress.elapsed

    # --- between two steps --------------------------------------------------------------------------------------------

    def finish_step(self, step: int) -> None:
        """What follows a step: an evaluation, the end of patience, a checkpoint, a stop that was asked for."""
        progress, epoch = self.progress, step // self.steps_per_epoch
        run_over, best, planned = step + 1 == self.schedule.steps, False, False
        if progress.evaluation_due or (step + 1) % self.steps_per_epoch == 0 or run_over:
            self._hear(everything=True)
        if progress.evaluation_due:
            self._stop_if_asked()
            try:
                best = self._evaluate(step, epoch)
            except EvaluationAbandoned:
                self._stop_if_asked()
            progress.evaluation_due = False
        if (step + 1) % self.steps_per_epoch == 0:
            self._tell_unreadable()
            if self._out_of_patience(epoch):
                self._end_early(epoch)
            measured = epoch + 1 >= self.config.warmup_epochs and progress.last_evaluated is not None
            if self.config.time is not None and measured and not run_over:
                replan(self, step, epoch)
                planned = True  # and saved, for it would be measured otherwise another time
        due = self._save_is_due(step)
        if due or progress.step in self.forks:
            self._hear(everything=True)
        # in a row of updates that are left out there is nothing new to save, and a way back should lead before it
        due &= not progress.skipped
        if due or best or planned or run_over or progress.stopped:
            self._save(best)
        self._fork_if_due()
        if not run_over and not progress.stopped:
            self._stop_if_asked()

    def _fork_if_due(self) -> None:
        """Put the state aside for other runs, unless an update has just been left out (a checkpoint is not made there
        either) or patience has ended: how a run ends then depends on its own length and mosaic-free epochs."""
        progress = self.progress
        early = progress.ending or progress.stopped
        plain = progress.step == progress.last_step + 1 and not (early or progress.skipped or progress.evaluation_due)
        if progress.step in self.forks and plain and self.world.is_main:
            write_fork(self)

    def _save_is_due(self, step: int) -> bool:
        if self._save_seconds is None:
            return (step + 1) % self._save_steps == 0
        return self._clock_says_save

    def _save(self, best: bool) -> None:
        # norms may be each rank's own; a resume gives all the main one's, so a run that is not resumed does too
        self.world.share_buffers(self.model)
        self.collect()
        self._saved_at = time.monotonic()
        self.tick()
        if self.world.is_main:
            self.saver.save(self, best)

    def collect(self) -> None:
        """Bring together, for a checkpoint, what each rank has of its own."""
        self.gradients_of_ranks = self.world.collect([p.grad for p in self.trained]) if self.window else None
        shares = self.world.gather([images for images, _ in self.window]) if self.window else []
        self.images_of_ranks = [np.concatenate(images) for images in zip(*shares, strict=True)]

    def _stop_if_asked(self) -> None:
        """Save and stop, if a signal asks for it.

        Raises:
            Interrupted: saying how to go on.
        """
        asked, every = self.stops.requested, self._save_seconds
        # one clock decides for all ranks, when they agree on this
        over = every is not None and self.world.is_main and time.monotonic() - self._saved_at >= every
        stop, self._clock_says_save = self.world.each(asked is not None, over)
        if not stop:
            return
        asked = next(a for a in self.world.gather(asked) if a is not None)
        self._hear(everything=True)
        self._save(False)
        self.world.barrier()  # one that leaves would take the one that writes with it
        saved = "everything is saved"
        if self.saver.trouble is not None:
            saved = f"this could not be saved ({self.saver.trouble}), what was saved before is whole"
        text = (
            f"stopped by {asked.name} after {self.progress.step} of {self.schedule.steps} steps; {saved}; go on with\n"
            f"  python -m yolo_cosine.train --resume {self.run_dir}"
        )
        raise Interrupted(asked, text if self.world.is_main else "", agreed=True)

    def _tell_worker(self, text: str) -> None:
        self.emit(events.Incident("worker", text, self.progress.last_step))

    def _abandon_evaluation(self) -> None:
        if self.stops.requested is not None:
            raise EvaluationAbandoned

    def _tell_unreadable(self) -> None:
        """Name the images that could not be read when they were asked for, once."""
        for store in (self.loader.store, self.evaluator.store):
            if text := store.news():
                self.emit(events.Notice(text, warning=True, step=self.progress.last_step))

    def _evaluate(self, step: int, epoch: int) -> bool:
        """Evaluate the averaged weights; returns whether they are better than all before."""
        progress = self.progress
        self.emit(events.EvaluationStarted(step, epoch, len(self.evaluator.store.index)))
        self.world.share_buffers(self.ema.model)  # each rank's norms have seen its own images; one network is evaluated
        report, found, shown, progress.evaluation_seconds = self._evaluated(step)
        scalars = {**report.scalars, events.EVAL_SECONDS: progress.evaluation_seconds}
        progress.last_evaluated = epoch
        # NaN (no boxes at all) never counts as better; the first evaluation always does
        best = progress.best_epoch is None or scalars[events.MAP] > progress.best
        if best:
            progress.best, progress.best_epoch, progress.last_improved = scalars[events.MAP], epoch, epoch
            progress.best_scalars, progress.best_per_class = scalars, dict(report.per_class)
            progress.best_step = step
        self.emit(
            events.Evaluated(step, epoch, scalars, report.per_class, report.recall, report.precision, best, shown)
        )
        self._observe_plateau(scalars[events.MAP], step)
        self.last_detections = found
        if best:
            self.best_detections = found
        return best

    def _evaluated(self, step: int) -> tuple[Report, Detections, tuple[events.Sample, ...], float]:
        """What the evaluator says of the averaged weights, with fewer images at a time where memory runs out."""
        while True:
            try:
                return self.evaluator(self.ema.model)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                text = first_line(error)
            where = f"step {step}: out of memory in the evaluation ({text})"
            if self.world.size > 1 or self.evaluator.batch == 1:
                raise TrainingFailed(f"{where}; write a smaller batch (now {self.evaluator.batch}) or a smaller imgsz")
            self.evaluator.batch //= 2
            self.emit(
                events.Incident("memory", f"{where}: {self.evaluator.batch} image(s) at a time from here on", step)
            )

    def _observe_plateau(self, metric: float, step: int) -> None:
        """Let a plateau schedule see an evaluation; its factor holds from the next step on."""
        plateau = self.schedule.plateau
        if plateau is None:
            return
        before = PlateauState(**self.progress.plateau) if self.progress.plateau else plateau.start()
        after = plateau.observe(before, metric)
        self.progress.plateau = asdict(after)
        if after.factor != before.factor:
            self.set_factor()
            self.emit(
                events.Notice(
                    f"no better mAP50-95 for {plateau.patience + 1} evaluations: the learning rates are multiplied with "
                    f"{after.factor:.4g} from step {step + 1} on",
                    step=step,
                )
            )

    def _out_of_patience(self, epoch: int) -> bool:
        return out_of_patience(self.progress, self.config, epoch)

    def _end_early(self, epoch: int) -> None:
        """Stop, or skip to the mosaic-free end where there is one to come."""
        text = end_early(self.progress, self.config, epoch, self.steps_per_epoch)
        self.emit(events.Notice(text, step=self.progress.last_step))

    def _started(self) -> events.RunStarted:
        return events.RunStarted(
            run_dir=self.run_dir, config=self.config.model_dump(), names=self.loader.store.index.names,
            groups=tuple(g.name for g in self.groups), losses=self.loss.names, epochs=self.config.epochs,
            steps_per_epoch=self.steps_per_epoch, batch=self.config.batch, facts=self.facts,
            start_step=self.progress.step, last_step=self.progress.last_step,
            evaluation_due=self.progress.evaluation_due,
        )  # fmt: skip
