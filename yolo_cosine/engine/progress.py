"""How far a run is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Progress:
    """Everything of a run's state that is neither weights nor optimizer. Plain values only: it is saved as it is."""

    step: int = 0  # the next one
    last_step: int = -1  # the last one taken; early stopping jumps from here to `step`
    evaluation_due: bool = False  # the one after `last_step`
    best: float = -1.0  # best mAP50-95
    best_epoch: int | None = None
    best_step: int | None = None  # the last one before it was evaluated
    best_scalars: dict[str, float] = field(default_factory=dict)
    best_per_class: dict[str, float] = field(default_factory=dict)
    last_evaluated: int | None = None  # epoch
    last_improved: int = 0  # epoch from which patience counts
    ending: bool = False  # early stopping has led over to the mosaic-free end
    stopped: bool = False  # early stopping has ended the run
    plateau: dict[str, float] | None = None  # state of a plateau schedule, once something has been evaluated
    epoch_images: int = 0  # trained on in this epoch so far
    epoch_seconds: float = 0.0  # spent on them
    elapsed: float = 0.0  # seconds of the run so far, all of its processes together
    evaluation_seconds: float = 0.0  # of the latest
    # What became of mishaps
    skipped: int = 0  # updates left out in a row, because a loss or gradient was no finite number
    rewinds: int = 0  # times that the run went back to a checkpoint for that
    lr_factor: float = 1.0  # what every learning rate is multiplied with since
    parts: int = 1  # parts that a batch is computed in, as memory allows
