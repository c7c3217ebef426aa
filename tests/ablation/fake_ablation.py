"""Runs of an ablation that never was: folders as a trainer leaves them, with records made from formulas and a seed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from yolo_cosine import events
from yolo_cosine.ablation.places import run_folder
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.sinks.jsonl import JsonlSink

LOSSES = ("box_loss", "cls_loss", "dfl_loss")
FACTS = {"hardware": "x86_64 CPU, 2 cores", "device": "cpu", "torch": "2.13.0", "val_images": 87, "train_images": 240}
LEVELS = {"cosine": 0.60, "linear": 0.55, "wsd": 0.58}  # of mAP50-95 at the end, by the variant


@dataclass(frozen=True)
class FakeRun:
    """`run.events()` yields the events of a whole run in the order of the trainer."""

    run_dir: Path
    variant: str = "cosine"
    seed: int = 0
    epochs: int = 6
    steps_per_epoch: int = 5
    eval_every: int = 5  # steps
    changes: dict[str, Any] = field(default_factory=dict)  # of the configuration
    facts: dict[str, Any] = field(default_factory=lambda: dict(FACTS))
    ablation: str | None = "schedules"  # None: a single run, without labels
    groups: tuple[str, ...] = ("weight", "norm", "bias")
    names: tuple[str, ...] = ("circle", "square", "traffic light")

    @property
    def steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    @property
    def config(self) -> dict[str, Any]:
        labels = {"ablation": self.ablation, "variant": self.variant} if self.ablation else {}
        config = RunConfig(epochs=self.epochs, seed=self.seed, labels=labels, name=self.run_dir.name, workers=0)
        return {**config.model_dump(), **self.changes}

    def started(self, start_step: int = 0, evaluation_due: bool = False) -> events.RunStarted:
        return events.RunStarted(
            self.run_dir, self.config, self.names, self.groups, LOSSES, self.epochs, self.steps_per_epoch, 16, self.facts,
            start_step, evaluation_due=evaluation_due,
        )  # fmt: skip

    def lr(self, step: int) -> float:
        share = step / (self.steps - 1)
        curve = {"linear": 1 - share, "wsd": min(1.0, 4 * (1 - share))}.get(
            self.variant, (1 + math.cos(math.pi * share)) / 2
        )
        return 0.01 * (0.01 + 0.99 * curve)

    def events(self, first: int = 0, end: str | None = "finished", to: int | None = None) -> Iterator[events.Event]:
        """The events from step `first` to before step `to`, and the end, if there is one."""
        yield self.started(first)
        best, best_epoch = -1.0, None
        for step in range(first, self.steps if to is None else to):
            epoch, over = step // self.steps_per_epoch, (step + 1) % self.steps_per_epoch == 0
            rates = {events.LR + group: self.lr(step) for group in self.groups}
            losses = self.losses(step)
            yield events.StepDone(
                step, epoch, {**rates, events.MOMENTUM: 0.9, **prefixed(events.LOSS, losses)}, 16, True
            )
            if over:
                yield events.EpochDone(
                    step, epoch, prefixed(events.EPOCH_LOSS, losses), 10.0, elapsed=12.0 * (epoch + 1) - 2
                )
            if (step + 1) % self.eval_every == 0 or step + 1 == self.steps:
                found = self.evaluated(step, best)
                yield found
                if found.best:
                    best, best_epoch = found.scalars[events.MAP], epoch
            last = step
        if end is not None:
            yield events.RunEnded(last, last // self.steps_per_epoch, end, 60.0, {}, best_epoch, detail="")

    def losses(self, step: int) -> dict[str, float]:
        return {
            name: (k + 1) * (0.5 + math.exp(-3 * step / self.steps)) + 0.01 * self.seed for k, name in enumerate(LOSSES)
        }

    def evaluated(self, step: int, best: float = -1.0) -> events.Evaluated:
        rng = np.random.default_rng([step, self.seed])
        level = LEVELS.get(self.variant, 0.5) * (1 - math.exp(-5 * (step + 1) / self.steps)) + rng.normal(0, 0.004)
        values = {name: level * (0.5 + 0.5 / (k + 1)) for k, name in enumerate(events.COCO_METRICS)}
        values |= {"metrics/mAP-small": -1.0, events.PRECISION: level, events.RECALL: level, events.EVAL_SECONDS: 2.0}
        per_class = {"circle": level + 0.1, "square": level - 0.1, "traffic light": math.nan}
        recall = np.linspace(0, 1, 101)
        return events.Evaluated(
            step, step // self.steps_per_epoch, values, per_class, recall, np.tile(1 - recall[:, None], (1, 3)),
            values[events.MAP] > best,
        )  # fmt: skip

    def write(self, stream: Iterator[events.Event] | None = None, tensorboard: bool = False) -> FakeRun:
        """Write the folder that the events leave behind, those of the whole run by default."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        (self.run_dir / "config.yaml").write_text(yaml.safe_dump(self.config))
        sinks = [JsonlSink(self.run_dir / "metrics.jsonl")]
        if tensorboard:
            from yolo_cosine.sinks.tensorboard import TensorBoardSink

            sinks.append(TensorBoardSink(self.run_dir))
        for event in self.events() if stream is None else stream:
            for sink in sinks:
                sink.handle(event)
        for sink in sinks:
            sink.close()
        return self


def prefixed(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {prefix + name: value for name, value in values.items()}


@dataclass(frozen=True)
class FakeSpec:
    """As much of an ablation's specification as its results ask for."""

    name: str = "schedules"
    metric: str = "mAP50-95"
    select: str = "last"
    baseline: str = "cosine"
    seeds: tuple[int, ...] = (0, 1, 2)
    variants: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "cosine": {"curve": "cosine"},
            "linear": {"curve": "linear", "lrf": 0.1},
            "wsd": {"curve": "constant", "warmup_curve": "cosine"},
        }
    )
    marked: str = "leave out"
    confidence: float = 0.95


def write_ablation(folder: Path, spec: FakeSpec | None = None, tensorboard: bool = False, **changes: Any) -> FakeSpec:
    """Write all runs of `spec`, each finished; returns it."""
    spec = spec or FakeSpec()
    for variant, keys in spec.variants.items():
        for seed in spec.seeds:
            run = FakeRun(run_folder(folder, variant, seed), variant, seed, changes=keys)
            replace(run, **changes).write(tensorboard=tensorboard)
    return spec
