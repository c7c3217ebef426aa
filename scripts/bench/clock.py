"""What a measured process notes while it trains, in the same terms for both trainers."""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Clock:
    """Times of one run, seconds since its process began."""

    started: float  # seconds since 1970
    first_step: float | None = None  # the first update of the weights is done
    epochs: list[dict[str, float]] = field(default_factory=list)  # images, train_seconds, eval_seconds, begun, ended
    evaluations: list[dict[str, Any]] = field(default_factory=list)  # epoch, at, and map or weights
    about: dict[str, Any] = field(default_factory=dict)  # what holds of the whole run
    own_peak: int = 0  # bytes, the most that the process had in memory

    def now(self) -> float:
        """Seconds since the process began, when the device has done all that it was given."""
        synchronize()
        return time.time() - self.started

    def begin_epoch(self, at: float | None = None) -> None:
        """Training of the next epoch begins, now or at a time that has been noted."""
        self.epochs.append({"begun": self.now() if at is None else at})

    def end_training(self, images: int) -> None:
        """Training of the epoch is over, after `images`; what follows is evaluation and saving."""
        now, epoch = self.now(), self.epochs[-1]
        epoch.update(images=images, train_seconds=now - epoch["begun"], trained=now)

    def end_epoch(self) -> None:
        """All of the epoch is done: trained, evaluated, saved. A later call moves the end."""
        self.epochs[-1]["ended"] = self.now()

    def end_run(self) -> None:
        """Training is over, and its memory: what follows does not count."""
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.own_peak = kib if sys.platform == "darwin" else kib * 1024  # there it is bytes
        self.about.update(total_seconds=self.now(), **_gpu_memory())

    def write(self, path: str, **rest: Any) -> None:
        """Write the result that `launch.measure` reads."""
        Path(path).write_text(json.dumps({**vars(self), **rest}), encoding="utf-8")


def synchronize() -> None:
    """Wait for the GPU, if one is in use. Does not import torch: how long that takes is measured."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _gpu_memory() -> dict[str, int]:
    """The most bytes of GPU memory so far, in tensors and reserved; empty without a GPU in use."""
    import torch

    if not torch.cuda.is_initialized():
        return {}
    return {"gpu_allocated": torch.cuda.max_memory_allocated(), "gpu_reserved": torch.cuda.max_memory_reserved()}
