"""What torchrun has started: this process's place among the others, and words with them before they are one group.

They go through the store that the processes meet at. So a run can begin where the others' machines do not see the main
process's disk, and a process that does not fit the others is named, where a group of them would wait for ever.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from yolo_cosine.errors import TrainingFailed, UserError

T = TypeVar("T")

_PATIENCE, _PARTING = timedelta(minutes=5), timedelta(seconds=10)  # with the slowest to begin, and to hear
_EVERY = 0.05  # seconds from one look at the store to the next


@dataclass(frozen=True)
class Launch:
    """The processes that were started as one run, on one machine or several."""

    rank: int  # this one's number among all; 0 is the main one, which writes
    size: int
    local_rank: int  # its number on its machine
    store: dist.Store  # for these processes
    lasting: dist.Store | None = None  # the same, for those after them as well
    attempt: int = 0  # how often others have met there before these, which torchrun has started in their place

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
                _wait(lambda: self.store.check([f"{name}-heard-{rank}" for rank in range(self.size)]), _PARTING)

    def _say(self, name: str, value: Any) -> None:
        self.store.set(name, pickle.dumps(value))

    def _hear(self, name: str) -> Any:
        try:
            _wait(lambda: self.store.check([name]), _PATIENCE)
            return pickle.loads(self.store.get(name))
        except RuntimeError as error:  # the time is over, or the store is gone with its keeper
            raise _not_come(self.rank, error) from None


@functools.cache
def launched() -> Launch | None:
    """The launch that this process belongs to, by torchrun's environment; None if it was started alone.

    Raises:
        TrainingFailed: if the others do not come.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return None
    store, rank, size = next(dist.rendezvous("env://"))
    try:
        attempt = agree_on_attempt(store, rank, size)
    except RuntimeError as error:
        raise _not_come(rank, error) from None
    # torchrun's store outlives the processes that it starts anew, with all that they have said
    own = dist.PrefixStore(f"yolo-cosine-{attempt}", store)
    return Launch(rank, size, int(os.environ.get("LOCAL_RANK", 0)), own, store, attempt)


def agree_on_attempt(store: dist.Store, rank: int, size: int) -> int:
    """How often processes have met at a store before these, the same on all ranks.

    torchrun counts restarts on each machine for itself, and what the processes before have said is still there. So each
    asks under a name of its own that is used once, and the main one, which counts, answers until all have heard it.

    Raises:
        RuntimeError: if one does not come.
    """
    if rank:
        own = f"yolo-cosine-answer-{uuid.uuid4().hex}"
        store.set(f"yolo-cosine-question-{rank}", own)
        _wait(lambda: store.check([own]), _PATIENCE)
        attempt = int(store.get(own))
        store.set(f"yolo-cosine-agreed-{attempt}-{rank}", "")
        return attempt
    attempt = store.add("yolo-cosine-attempts", 1) - 1

    def all_agree() -> bool:
        for other in range(1, size):
            if store.check([question := f"yolo-cosine-question-{other}"]):  # by one of these, or of those before
                store.set(store.get(question).decode(), str(attempt))
        return store.check([f"yolo-cosine-agreed-{attempt}-{other}" for other in range(1, size)])

    _wait(all_agree, _PATIENCE)
    return attempt


def is_first_to_say(text: str) -> bool:
    """Whether no other process of the launch has said this; what all of them find need be said once.

    Where it is not certain, as without torchrun, it is said.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return True
    host, port, restarts = (os.environ[key] for key in ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT"))
    try:
        store = dist.TCPStore(host, int(port), is_master=False, timeout=timedelta(seconds=5))
        return store.add(f"yolo-cosine-said-{restarts}-{hashlib.sha256(text.encode()).hexdigest()}", 1) == 1
    except RuntimeError:
        return True


def _wait(ready: Callable[[], bool], patience: timedelta) -> None:
    """Wait, in short steps: who waits within the store's own code hears no signal.

    Raises:
        RuntimeError: when the time is over, or as the store raises it.
    """
    until = time.monotonic() + patience.total_seconds()
    while not ready():
        if time.monotonic() > until:
            raise RuntimeError(f"no word for {patience.total_seconds():g} seconds")
        time.sleep(_EVERY)


def _not_come(rank: int, why: RuntimeError) -> TrainingFailed:
    return TrainingFailed(
        f"rank {rank} on {socket.gethostname()}: the other processes of the run did not come ({why}); see what they said"
    )


def local_size() -> int:
    """How many processes of the run there are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))
