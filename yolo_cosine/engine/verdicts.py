"""Whether updates were finite, without the host waiting for the device.

The device decides by itself: an update whose losses or gradients are no finite numbers leaves weights, averages and norms as they are. The
host only has to hear of it, to say so and to count. On a GPU it hears of an update when the next one is on its way, so the device always
has work; elsewhere at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from yolo_cosine.model.to_host import to_host


@dataclass(frozen=True, eq=False)
class Update:
    """One update: the batches that were accumulated for it, and what became of it."""

    step: int  # that closed it
    images: Sequence[np.ndarray]  # (W) times (B,) int64, the images of each batch
    losses: Tensor  # (W, L) float32, their losses
    finite: Tensor  # () bool


class Verdicts:
    """Updates in the order in which they were made, until the host has heard what became of them."""

    def __init__(self, lag: int) -> None:
        """
        Args:
            lag: how many of the latest updates the host does not ask for: 1 keeps a GPU busy, 0 is for devices that have
                computed when a call returns.
        """
        self._lag = lag
        self._waiting: deque[tuple[Update, Callable[[], tuple[Tensor, ...]]]] = deque()

    def put(self, update: Update) -> None:
        """Take in an update that is on its way."""
        self._waiting.append((update, to_host(update.losses, update.finite)))

    def heard(self, everything: bool = False) -> Iterator[Update]:
        """The updates that are through, each once, on the host.

        Args:
            everything: wait for the latest as well.
        """
        while len(self._waiting) > (0 if everything else self._lag):
            update, values = self._waiting.popleft()
            losses, finite = values()
            yield replace(update, losses=losses, finite=finite)

    def clear(self) -> None:
        """Forget all: the run goes back to before them."""
        self._waiting.clear()
