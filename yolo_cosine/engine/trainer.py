"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolo_cosine import events
from yolo_cosine.config.duration import interval_steps, parse_time
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.data.loader import TrainBatch, TrainLoader
from yolo_cosine.engine.apply import AppliedSchedule, applied
from yolo_cosine.engine.evaluating import evaluate
from yolo_cosine.engine.fork import write_fork
from yolo_cosine.engine.horizon import replan
from yolo_cosine.engine.learner import Learner
from yolo_cosine.engine.mishaps import EvaluationAbandoned, GoBack, go_back, hear, is_out_of_memory, smaller_parts
from yolo_cosine.engine.patience import end_early, out_of_patience
from yolo_cosine.engine.progress import Progress
from yolo_cosine.engine.saving import Saver
from yolo_cosine.engine.stopping import StopSignals
from yolo_cosine.errors import Interrupted, first_line
from yolo_cosine.evaluate import Detections, Evaluator
from yolo_cosine.model import detector
from yolo_cosine.schedules.run import Group, RunSchedule


@dataclass
class Trainer:
    """Everything that a run needs, built; `fit` trains."""

    config: RunConfig
    run_dir: Path
    learner: Learner
    groups: tuple[Group, ...]
    schedule: RunSchedule
    loader: TrainLoader
    evaluator: Evaluator
    emit: Callable[[events.Event], None]
    facts: Mapping[str, Any]
    environment: Mapping[str, str]  # what the numbers depend on, but for configuration and data
    data_prints: Mapping[str, Mapping[str, Any]]  # of each split
    saver: Saver
    forks: frozenset[int] = frozenset()  # numbers of steps after which the state is put aside for other runs
    stops: StopSignals = field(default_factory=StopSignals)
    progress: Progress = field(default_factory=Progress)
    best_detections: Detections | None = None  # of the best evaluation, if this process took it
    last_detections: Detections | None = None  # the same of the last
    began: float = field(default_factory=time.monotonic)  # when this process began with the run

    def __post_init__(self) -> None:
        learner = self.learner
        self.model, self.loss, self.ema, self.optimizer = learner.model, learner.loss, learner.ema, learner.optimizer
        self.precision, self.world = learner.precision, learner.world
        self.apply_schedule = AppliedSchedule(self.optimizer, self.groups, self.schedule)
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
            self.learner.sums[1].zero_()
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
                scalars.update(self.learner.mean_losses(0, events.LOSS))
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
        raise smaller_parts(self, where)

    def train_step(self, batch: TrainBatch, step: int) -> bool:
        """Take in a batch; returns whether it closed an accumulation (`Learner.take`)."""
        images = self.loader.images_in(step % self.steps_per_epoch)
        return self.learner.take(batch, step, self.schedule.accumulate(step), self.progress.parts, images)

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
            return hear(self) and updated
        # out of the handler, for the error's frames hold the step's tensors
        raise smaller_parts(self, f"step {step}: out of memory ({text})")

    def set_factor(self) -> None:
        """Let every learning rate be multiplied with what plateaus and mishaps have come to."""
        plateau = self.progress.plateau["factor"] if self.progress.plateau else 1.0
        self.apply_schedule.reset(plateau * self.progress.lr_factor)

    def _end_epoch(self, step: int, epoch: int) -> None:
        progress = self.progress
        means = self.learner.mean_losses(1, events.EPOCH_LOSS)
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
            hear(self, everything=True)
        if progress.evaluation_due:
            self._stop_if_asked()
            try:
                best = evaluate(self, step, epoch)
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
            hear(self, everything=True)
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
        self.learner.collect()
        self._saved_at = time.monotonic()
        self.tick()
        if self.world.is_main:
            self.saver.save(self, best)

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
        hear(self, everything=True)
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
