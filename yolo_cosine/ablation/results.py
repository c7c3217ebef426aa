"""What an ablation came to, as values: its runs with their evaluations, curves, costs and mishaps.

Metrics have the names of `yolo_cosine.events` (`metrics/mAP50-95`, `AP50-95/<class>`) and are fractions of 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

Select = Literal["last", "best"]
# "waiting": not begun; "interrupted": begun, and not at its end (it may be running)
State = Literal["finished", "stopped early", "failed", "interrupted", "waiting"]


@dataclass(frozen=True)
class Evaluation:
    """An evaluation of a run."""

    step: int  # the last one taken before it, 0-based
    epoch: int  # 0-based
    scalars: Mapping[str, float]  # COCO_METRICS, PRECISION, RECALL; NaN where there was none (COCO's -1 is NaN too)
    per_class: Mapping[str, float]  # class name: AP50-95; NaN for a class without boxes


@dataclass(frozen=True)
class ImageInterval:
    """The interval of one run's metric over its evaluation images, from a bootstrap of them."""

    low: float
    high: float
    confidence: float  # 0.95
    resamples: int
    images: int


@dataclass(frozen=True, eq=False)
class RunResult:
    """One run."""

    variant: str
    seed: int
    run_dir: Path
    state: State
    detail: str = ""  # what went wrong, if something did
    incidents: tuple[str, ...] = ()  # what happened to it that a comparison must know of, in words
    chosen: Evaluation | None = None  # the evaluation that counts; None where the run has not come to its end
    evaluations: tuple[Evaluation, ...] = ()  # all, in order
    lr_steps: np.ndarray = field(default_factory=lambda: np.empty(0))  # (N,) float64
    lr: np.ndarray = field(default_factory=lambda: np.empty(0))  # (N,) float64: of the weights, as applied
    loss_steps: np.ndarray = field(default_factory=lambda: np.empty(0))  # (E,) float64: last step of each epoch
    losses: Mapping[str, np.ndarray] = field(default_factory=dict)  # box_loss, ...: (E,) float64, means over the epochs
    steps_per_epoch: int = 0
    steps: int = 0  # of the whole run
    steps_done: int = 0
    forked_at: int = 0  # the steps before were taken over from another run; 0: none
    seconds: float = 0.0  # that its own steps and evaluations took
    config: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)  # hardware, versions, numbers of images
    images: Mapping[str, ImageInterval] = field(default_factory=dict)  # metric: its interval over the images

    def value(self, metric: str) -> float:
        """What counts of a metric, or of a class by `AP50-95/<class>`; NaN where there is nothing."""
        if self.chosen is None:
            return float("nan")
        name = metric.partition("/")[2]
        if metric.startswith("AP50-95/"):
            return self.chosen.per_class.get(name, float("nan"))
        return self.chosen.scalars.get(metric, float("nan"))


@dataclass(frozen=True, eq=False)
class AblationResults:
    """All runs of an ablation, or of a comparison of single runs."""

    name: str
    folder: Path  # where the report goes
    metric: str  # as "metrics/mAP50-95"
    select: Select
    baseline: str
    variants: tuple[str, ...]  # in the order of the user's file
    seeds: tuple[int, ...]
    runs: tuple[RunResult, ...]  # by variant, then seed; one that is missing is "waiting"
    changes: Mapping[str, Mapping[str, Any]]  # variant: the keys that it sets
    include_marked: bool = False  # whether runs with incidents count
    confidence: float = 0.95
    notes: tuple[str, ...] = ()  # what a reader should be told, as that two variants differ in more than one thing
    source: str = ""  # the resolved specification, YAML; empty for a comparison of single runs

    def of(self, variant: str) -> tuple[RunResult, ...]:
        """The runs of a variant, by seed."""
        return tuple(run for run in self.runs if run.variant == variant)
