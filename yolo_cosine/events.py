"""What happens in a run, as values, and who may listen. Imports nothing of ours.

The trainer emits these events; console, TensorBoard and `metrics.jsonl` are sinks that receive them. The metric names
are defined here and nowhere else, so that every sink uses the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

# Scalars of a step. `lr/<group>` is the learning rate of a parameter group, as applied at that step.
LR = "lr/"  # + weight, norm, bias (and muon, with MuSGD)
MOMENTUM = "momentum"
ACCUMULATE = "accumulate"
LOSS = "train/"  # + box_loss, cls_loss, dfl_loss: mean over the logging interval
# Scalars of an epoch.
EPOCH_LOSS = "epoch/"  # + box_loss, cls_loss, dfl_loss: mean over the epoch
IMAGES_PER_SECOND = "epoch/images_per_second"
# Scalars of an evaluation: the twelve of COCO by the names the field gives them, and precision and recall at the
# confidence with the best F1 at IoU 0.5.
MAP = "metrics/mAP50-95"
MAP50 = "metrics/mAP50"
MAP75 = "metrics/mAP75"
PRECISION = "metrics/precision"
RECALL = "metrics/recall"
COCO_METRICS = (
    MAP, MAP50, MAP75, "metrics/mAP-small", "metrics/mAP-medium", "metrics/mAP-large",
    "metrics/AR1", "metrics/AR10", "metrics/AR100", "metrics/AR-small", "metrics/AR-medium", "metrics/AR-large",
)  # fmt: skip
CLASS_AP = "AP50-95/"  # + class name
EVAL_SECONDS = "eval/seconds"


@dataclass(frozen=True)
class RunStarted:
    """Everything is built and the first step is next."""

    run_dir: Path
    config: Mapping[str, Any]  # resolved, plain values
    names: tuple[str, ...]  # class names
    groups: tuple[str, ...]  # names of the parameter groups
    losses: tuple[str, ...]  # names of the loss items, as box_loss
    epochs: int
    steps_per_epoch: int
    batch: int
    facts: Mapping[str, Any]  # device, precision, versions, sizes of the splits and the model
    start_step: int = 0  # what an earlier process logged from this step on is taken again, and to be forgotten
    last_step: int | None = (
        None  # the last one taken before, where it is not `start_step - 1`, as after a jump to the end
    )
    evaluation_due: bool = False  # the evaluation after `last_step` is taken (again), too

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch


@dataclass(frozen=True)
class StepDone:
    """A step was taken. `scalars` has LR, momentum and accumulation as applied; losses once per logging interval."""

    step: int
    epoch: int  # 0-based
    scalars: Mapping[str, float]
    images: int  # in this step
    updated: bool  # whether this step closed an accumulation and moved the weights


@dataclass(frozen=True)
class EpochDone:
    """An epoch of training is over (its evaluation, where one is due, follows)."""

    step: int  # the last one of the epoch
    epoch: int
    scalars: Mapping[str, float]
    seconds: float  # of training in this epoch
    elapsed: float = 0.0  # of the run so far, all of its processes together


@dataclass(frozen=True)
class Sample:
    """A validation image with what is on it and what was found. Boxes are (K, 4) float32 xyxy, pixels of `image`."""

    name: str
    image: np.ndarray  # (H, W, 3) uint8 RGB
    truth: np.ndarray
    truth_classes: np.ndarray  # (K,) int64
    truth_crowd: np.ndarray  # (K,) bool
    found: np.ndarray
    found_classes: np.ndarray
    scores: np.ndarray  # (K,) float32


@dataclass(frozen=True)
class EvaluationStarted:
    """An evaluation begins."""

    step: int
    epoch: int
    images: int


@dataclass(frozen=True)
class Evaluated:
    """An evaluation of the averaged weights is done."""

    step: int  # the last training step before it
    epoch: int
    scalars: Mapping[str, float]  # COCO_METRICS, PRECISION, RECALL, EVAL_SECONDS
    per_class: Mapping[str, float]  # class name: AP50-95; NaN for a class without boxes
    recall: np.ndarray  # (101,) float64
    precision: np.ndarray  # (101, classes) float64, at IoU 0.5 over `recall`; -1 for a class without boxes
    best: bool  # better than all before
    samples: tuple[Sample, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Saving:
    """A checkpoint is about to be written: what was told before must be on disk first, or a resume would leave a gap."""

    step: int  # the last one taken


@dataclass(frozen=True)
class Saved:
    """A checkpoint is on disk, whole."""

    step: int
    path: Path
    best: bool


@dataclass(frozen=True)
class Reading:
    """How far the decoding of a split's images is, some times a second. It is over when `done` is `total`."""

    source: str  # the split
    done: int  # images
    total: int
    place: str  # where they are kept


@dataclass(frozen=True)
class Notice:
    """Something that the user should know. `warning` for what may be a mistake."""

    text: str
    warning: bool = False
    step: int | None = None


@dataclass(frozen=True)
class Incident:
    """Something happened to the run that a comparison with other runs should know of."""

    kind: str  # "nonfinite", "rewind", "memory", "disk", "worker", "sink"
    text: str
    step: int


@dataclass(frozen=True)
class Rewound:
    """The run went back: the steps from `to_step` on are taken once more, and what was logged of them is to be forgotten."""

    step: int  # the last one taken before
    to_step: int
    text: str
    kind: str = "nonfinite"  # or "memory": why


@dataclass(frozen=True)
class Replanned:
    """The run has a new length, as a time budget asks for."""

    step: int
    epoch: int
    epochs: int  # the new length
    text: str


@dataclass(frozen=True)
class RunEnded:
    """The run is over; `best` holds the scalars of its best evaluation (empty if there was none)."""

    step: int
    epoch: int
    reason: str  # "finished", "stopped early", "interrupted", "failed"
    seconds: float
    best: Mapping[str, float]
    best_epoch: int | None
    best_per_class: Mapping[str, float] = field(default_factory=dict)
    detail: str = ""  # what went wrong, where something did


Event = (
    Reading | RunStarted | StepDone | EpochDone | EvaluationStarted | Evaluated | Saving | Saved | Notice | Incident
    | Rewound | Replanned | RunEnded
)  # fmt: skip


class Sink(Protocol):
    """Receives every event of a run, in order."""

    def handle(self, event: Event) -> None: ...

    def close(self) -> None: ...
