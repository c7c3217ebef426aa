"""What torchrun has started: this process's place among the others, and words with them before they are one group.

They go through the store that the processes meet at. So a run can begin where the others' machines do not see the main
process's disk, and a process that does not fit the others is named, where a group of them would wait for ever.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from yolo_cosine.errors import TrainingFailed, UserError

T = TypeVar("T")

_PATIENCE, _PARTING = timedelta(minutes=5), timedelta(seconds=10)  # with the slowest to begin, and to hear


@dataclass(frozen=True)
class Launch:
    """The processes that were started as one run, on one machine or several."""

    rank: int  # this one's number among all; 0 is the main one, which writes
    size: int
    local_rank: int  # its number on its machine
    store: dist.Store  # for these processes
    lasting: dist.Store | None = None  # the same, for those after them as well
    attempt: int = 0  # how often torchrun has started them anew

    def exchange(self, name: str, value: Any) -> list[Any]:
        """What all have to say under a name that is used once, in the order of their ranks.

        Raises:
            TrainingFailed: if one does not come.
        """
        self._say(f"{name}-{self.rank}", value)
        values = [self._hear(f"{name}-{rank}") for rank in range(self.size)]
        self._part(name)
        return values

    def from_main(self, name: str, read: Callable[[], T]) -> T:
        """What `read` returns in the main process, on every rank.

        Raises:
            UserError: as `read` raises it, in the main process, and without a word in the others.
        """
        if self.rank:
            value, failed = self._hear(name)
            self._part(name)
            if failed:
                raise UserError("")
            return value
        try:
            value = read()
        except BaseException:
            self._say(name, (None, True))
            self._part(name)
            raise
        self._say(name, (value, False))
        return value

    def remember(self, name: str, value: str) -> None:
        """Keep a word for the processes that torchrun may start in place of these."""
        self.lasting.set(f"yolo-cosine-{name}", value)

    def recall(self, name: str) -> str | None:
        """What the processes before these have kept under a name, if anything."""
        key = f"yolo-cosine-{name}"
        return self.lasting.get(key).decode() if self.lasting.check([key]) else None

    def _part(self, name: str) -> None:
        """The main process, with whom the store may end, leaves when all have heard."""
        self._say(f"{name}-heard-{self.rank}", None)
        if self.rank == 0:
            with contextlib.suppress(RuntimeError):  # one that is gone need not hear it
                self.store.wait([f"{name}-heard-{rank}" for rank in range(self.size)], _PARTING)

    def _say(self, name: str, value: Any) -> None:
        self.store.set(name, pickle.dumps(value))

    def _hear(self, name: str) -> Any:
        try:
            self.store.wait([name], _PATIENCE)
            return pickle.loads(self.store.get(name))
        except RuntimeError as error:  # the time is over, or the store is gone with its keeper
            raise TrainingFailed(
                f"rank {self.rank} on {socket.gethostname()}: the other processes of the run did not come ({error}); see what "
                "they said"
            ) from None


@functools.cache
def launched() -> Launch | None:
    """The launch that this process belongs to, by torchrun's environment; None if it was started alone."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return None
    store, rank, size = next(dist.rendezvous("env://"))
    # torchrun's store outlives the processes that it starts anew, with all that they have said
    own = dist.PrefixStore(f"yolo-cosine-{attempt()}", store)
    return Launch(rank, size, int(os.environ.get("LOCAL_RANK", 0)), own, store, attempt())


def attempt() -> int:
    """How often torchrun has started the processes anew (--max-restarts)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))


def local_size() -> int:
    """How many processes of the run there are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))
