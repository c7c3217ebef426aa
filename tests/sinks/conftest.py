"""A run that never was: the events that a trainer would emit, made from formulas and a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from yolo_cosine import events
from yolo_cosine.config.schema import RunConfig

LOSSES = ("box_loss", "cls_loss", "dfl_loss")


@dataclass(frozen=True)
class FakeRun:
    """`run.events()` yields the events of a whole run in the order of the trainer."""

    run_dir: Path
    names: tuple[str, ...] = ("circle", "square", "traffic light")
    epochs: int = 4
    steps_per_epoch: int = 5
    log_every: int = 2
    eval_every: int = 5  # steps; 0 for never
    groups: tuple[str, ...] = ("weight", "norm", "bias")
    samples: int = 1
    warmup: float = 0.2  # share of the run
    facts: bool = True

    def started(self, start_step: int = 0) -> events.RunStarted:
        facts = {
            "model": "yolo11n.yaml", "parameters": 2590035, "train_images": 1000, "val_images": 200, "device": "cpu",
            "precision": "bf16", "weights": None, "optimizer": "SGD",
        }  # fmt: skip
        return events.RunStarted(
            self.run_dir, RunConfig(epochs=self.epochs).model_dump(), self.names, self.groups, LOSSES, self.epochs,
            self.steps_per_epoch, 16, facts if self.facts else {}, start_step,
        )  # fmt: skip

    def events(self, start_step: int = 0) -> Iterator[events.Event]:
        yield self.started(start_step)
        total, best, best_epoch, best_event = self.epochs * self.steps_per_epoch, -1.0, None, None
        for step in range(start_step, total):
            epoch = step // self.steps_per_epoch
            yield events.StepDone(step, epoch, self.step_scalars(step), 16, step % 2 == 0)
            if (step + 1) % self.steps_per_epoch == 0:
                scalars = {events.EPOCH_LOSS + k: v for k, v in self.losses(step).items()}
                yield events.EpochDone(step, epoch, {**scalars, events.IMAGES_PER_SECOND: 312.4}, 12.75)
            if self.eval_every and ((step + 1) % self.eval_every == 0 or step + 1 == total):
                yield events.EvaluationStarted(step, epoch, 200)
                evaluated = self.evaluated(step, best)
                yield evaluated
                if evaluated.best:
                    best, best_epoch, best_event = evaluated.scalars[events.MAP], epoch, evaluated
                    yield events.Saved(step, self.run_dir / "weights" / "best.pt", True)
            if (step + 1) % self.steps_per_epoch == 0:
                yield events.Saved(step, self.run_dir / "weights" / "last.pt", False)
        scalars, classes = (best_event.scalars, best_event.per_class) if best_event else ({}, {})
        yield events.RunEnded(total - 1, self.epochs - 1, "finished", 3723.4, scalars, best_epoch, classes)

    def step_scalars(self, step: int) -> dict[str, float]:
        total = self.epochs * self.steps_per_epoch
        warmup = max(self.warmup * total, 1)
        rise = min(step / warmup, 1)
        decay = 0.01 + 0.99 * (1 + math.cos(math.pi * max(step - warmup, 0) / max(total - 1 - warmup, 1))) / 2
        rates = {g: 0.01 * rise * decay if rise < 1 else 0.01 * decay for g in self.groups}
        if "bias" in rates and rise < 1:
            rates["bias"] = 0.1 + (0.01 - 0.1) * rise
        scalars = {events.LR + g: v for g, v in rates.items()}
        scalars |= {events.MOMENTUM: 0.8 + 0.137 * rise, events.ACCUMULATE: 4}
        if (step + 1) % self.log_every == 0:
            scalars |= {events.LOSS + k: v for k, v in self.losses(step).items()}
        return scalars

    def losses(self, step: int) -> dict[str, float]:
        noise = np.random.default_rng(step).normal(0, 0.05, 3)
        fall = math.exp(-3 * step / (self.epochs * self.steps_per_epoch))
        return dict(zip(LOSSES, (np.array([1.6, 2.4, 1.2]) * (0.4 + fall) * (1 + noise)).tolist(), strict=True))

    def evaluated(self, step: int, best: float = -1.0) -> events.Evaluated:
        rng = np.random.default_rng(step)
        level = 0.6 * (1 - math.exp(-4 * (step + 1) / (self.epochs * self.steps_per_epoch))) + rng.normal(0, 0.01)
        values = {name: level * (0.5 + 0.5 / (k + 1)) for k, name in enumerate(events.COCO_METRICS)}
        values |= {events.MAP50: level * 1.4, events.PRECISION: level * 1.3, events.RECALL: level * 1.1}
        values |= {"metrics/mAP-small": -1.0, events.EVAL_SECONDS: 3.25}
        per_class = {name: float(np.clip(level + rng.normal(0, 0.12), 0, 1)) for name in self.names}
        if len(self.names) > 2:
            per_class[self.names[-1]] = math.nan
        recall = np.linspace(0, 1, 101)
        heights = np.linspace(0.9, 0.6, len(self.names))
        precision = heights * (1 - recall[:, None] ** 3)
        precision[recall > 0.8] = 0
        if len(self.names) > 2:
            precision[:, -1] = -1
        samples = tuple(self.sample(k) for k in range(self.samples))
        return events.Evaluated(
            step, step // self.steps_per_epoch, values, per_class, recall, precision, values[events.MAP] > best, samples
        )

    def sample(self, k: int) -> events.Sample:
        rng = np.random.default_rng(k)
        image = np.full((96, 128, 3), rng.integers(60, 160, 3), np.uint8)
        truth = np.array([[10, 10, 50, 60], [70, 30, 120, 80], [2, 70, 60, 94]], np.float32)
        found = np.array([[12, 9, 52, 58], [80, 10, 110, 40], [0, 0, 128, 96]], np.float32)
        return events.Sample(
            f"image{k}", image, truth, np.array([0, 1, 0]), np.array([False, False, True]), found, np.array([0, 1, 1]),
            np.array([0.93, 0.31, 0.1], np.float32),
        )  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A place in a story from which another process can go on."""

    index: int  # of the event that it would tell next
    step: int  # its first
    evaluation_due: bool


class Story:
    """The events of a run that evaluates, is saved in many places, goes back once and is made longer, and its checkpoints.

    In the step `fails` something goes wrong, and the run goes back to `back`, once.
    """

    def __init__(self, run: FakeRun, fails: int = 13, back: int = 10) -> None:
        self.run, self._fails, self._back = run, fails, back
        self.events: list[events.Event] = [*self._before(), run.started()]
        self.checkpoints: list[Checkpoint] = []
        self._void: list[tuple[int, Checkpoint]] = []
        step, best, total = 0, -1.0, run.epochs * run.steps_per_epoch
        bests: dict[int, float] = {}
        while step < total:
            if step == fails and not self._void:
                self._go_back()
                step, best = back, bests[back]
                continue
            best = self._take(step, best)
            step += 1
            bests[step] = best
        self.events.append(events.RunEnded(total - 1, run.epochs - 1, "finished", 60.0, {}, None))

    def after(self, kills: Sequence[int]) -> Iterator[list[events.Event]]:
        """The events of each process: the k-th is killed after `kills[k]` events of its own, the last comes to the end."""
        checkpoint = None
        for count in (*kills, None):
            if checkpoint is None:
                begin, told, rest = 0, [], self.events
            else:
                begin, rest = checkpoint.index, self.events[checkpoint.index :]
                told = [*self._before(), events.Notice(f"going on after {checkpoint.step} steps")]
                told.append(
                    replace(self.run.started(), start_step=checkpoint.step, evaluation_due=checkpoint.evaluation_due)
                )
            whole = [*told, *rest]
            yield whole[:count]
            if count is not None:
                checkpoint = self._newest(begin + max(count - len(told), 0), checkpoint)

    def _newest(self, index: int, before: Checkpoint | None) -> Checkpoint | None:
        """The checkpoint of a run that was killed after `index` events of the story."""
        newest = before
        for checkpoint in self.checkpoints:
            if checkpoint.index <= index and (before is None or checkpoint.index >= before.index):
                newest = checkpoint
        for since, to in self._void:
            if since <= index and (newest is None or newest.index <= since):
                newest = to
        return newest

    def _before(self) -> list[events.Event]:
        return [events.Notice("24 boxes were clipped", warning=True)]

    def _go_back(self) -> None:
        to = next(c for c in self.checkpoints if c.step == self._back and not c.evaluation_due)
        last = self._fails - 1
        self.events += [
            events.Notice("the loss is no number", warning=True, step=self._fails),
            events.Incident("nonfinite", "box_loss nan", self._fails),
            events.Rewound(last, self._back, "a loss was no number"),
        ]
        self._void.append((len(self.events), to))
        self.events.append(events.Incident("rewind", "the run went back", last))

    def _take(self, step: int, best: float) -> float:
        run, epoch = self.run, step // self.run.steps_per_epoch
        over = (step + 1) % run.steps_per_epoch == 0
        if step % 4 == 3:
            self.events.append(events.Incident("worker", "a worker was begun anew", step))
        self.events.append(events.StepDone(step, epoch, run.step_scalars(step), 16, True))
        if over:
            scalars = {events.EPOCH_LOSS + k: v for k, v in run.losses(step).items()}
            self.events.append(events.EpochDone(step, epoch, scalars, 12.75, 12.75 * (epoch + 1)))
        improved = False
        if run.eval_every and ((step + 1) % run.eval_every == 0 or step + 1 == run.epochs * run.steps_per_epoch):
            self._save(step, True)
            evaluated = run.evaluated(step, best)
            improved, best = evaluated.best, max(best, evaluated.scalars[events.MAP])
            self.events += [events.EvaluationStarted(step, epoch, 200), evaluated]
            self.events.append(events.Notice(f"looked at step {step}", step=step))
            self.events.append(events.Incident("memory", "half a batch at a time", step))
        if step == 16:
            self.events.append(events.Replanned(step, epoch, run.epochs + 1, "there is time for one more epoch"))
        if over or step % 3 == 1:
            self._save(step, False)
            self.events.append(events.Saved(step, run.run_dir / "weights/last.pt", False))
            if improved:
                self.events.append(events.Saved(step, run.run_dir / "weights/best.pt", True))
        return best

    def _save(self, step: int, evaluation_due: bool) -> None:
        self.events.append(events.Saving(step))
        self.checkpoints.append(Checkpoint(len(self.events), step + 1, evaluation_due))


@pytest.fixture
def fake_run(tmp_path):
    """Make a FakeRun in a fresh folder: `fake_run(epochs=1)`."""

    def make(**settings) -> FakeRun:
        return FakeRun(tmp_path / "run", **settings)

    (tmp_path / "run").mkdir()
    return make


@pytest.fixture(scope="session")
def make_story():
    """Make a run with all that can happen to one, in a folder."""

    def make(folder: Path, samples: int = 0) -> Story:
        (folder / "run").mkdir()
        return Story(FakeRun(folder / "run", eval_every=4, samples=samples))

    return make


@pytest.fixture
def story(make_story, tmp_path) -> Story:
    return make_story(tmp_path)
