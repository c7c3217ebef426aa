"""Several processes end together: one that fails is heard of by the others, on whatever machine they are."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from datetime import timedelta

import torch.distributed as dist

from yolo_cosine.engine.launch import Launch

LIKELY = "as after a kill or out of the host's memory"  # why a process is gone that said nothing


class Watch:
    """Ends this process soon after another one of the run has failed: a collective would wait for that one for minutes.

    It has a connection of its own to the store that torchrun keeps, for the process group's may be waiting in a call.
    """

    _EVERY, _GRACE = 0.3, 2.0  # seconds
    _BEAT = 16  # looks at the store from one beat to the next: 5 seconds

    def __init__(self, launch: Launch) -> None:
        self._rank = launch.rank
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        connection = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=60))
        self._store = dist.PrefixStore(f"yolo-cosine-watch-{launch.attempt}", connection)
        self._pulse = Pulse(self._store, launch.rank, launch.size)
        self._over = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def tell(self, text: str) -> None:
        """Say that this process has failed; the first to say so is believed."""
        self._say(f"rank {self._rank} on {socket.gethostname()}: {text}")

    def heard(self) -> str | None:
        """Which process has failed, and why; None where none said so."""
        try:
            with self._lock:
                return self._store.get("failed").decode() if self._store.check(["failed"]) else None
        except RuntimeError:
            return None

    def wait(self) -> str | None:
        """The same after a moment, for one that fails is noticed before it can say why."""
        for _ in range(round(self._GRACE / self._EVERY)):
            if (text := self.heard()) is not None:
                return text
            time.sleep(self._EVERY)
        return None

    def stop(self) -> None:
        """Watch no more, and be watched no more."""
        self._over.set()
        with contextlib.suppress(RuntimeError), self._lock:
            self._pulse.leave()

    def _run(self) -> None:
        looks = 0
        while not self._over.wait(self._EVERY):
            looks += 1
            text = self.heard()
            if text is None and looks % self._BEAT == 0:
                text = self._listen()
            # the error of a collective comes by itself, mostly
            if text is not None and not self._over.wait(self._GRACE):
                print(f"error: another process of the run failed: {text}", file=sys.stderr, flush=True)
                os._exit(1)

    def _listen(self) -> str | None:
        with self._lock:
            text = None if self._over.is_set() else self._pulse.beat()
        if text is not None:
            self._say(text)
        return text

    def _say(self, text: str) -> None:
        with contextlib.suppress(RuntimeError), self._lock:  # the store is gone with its keeper
            if not self._store.check(["failed"]):
                self._store.set("failed", text)


class Pulse:
    """Shows the others that this process lives, and sees whether the next one does: a killed one says nothing.

    Time is counted in own beats: who was suspended for a while, as all of a machine may be, takes no other for dead.
    """

    _MOST = 24  # beats without a sign: two minutes, as a disk that does not answer can hold up all threads of a process
    _LEFT = "left"

    def __init__(self, store: dist.Store, rank: int, size: int) -> None:
        self._store, self._own, self._next = store, f"alive-{rank}", (rank + 1) % size
        self._beats = self._silent = 0
        self._seen = ""

    def beat(self) -> str | None:
        """To be called again and again; returns what is to be said of the next process once it has been silent for long."""
        self._beats += 1
        try:
            self._store.set(self._own, f"{self._beats} {socket.gethostname()}")
            key = f"alive-{self._next}"
            seen = self._store.get(key).decode() if self._store.check([key]) else ""
            host = seen.partition(" ")[2]
            who = f"rank {self._next}" + (f" on {host}" if host else "")
        except RuntimeError:
            seen, who = self._seen, "the store that all meet at, with the machine that keeps it,"
        self._silent = 0 if seen != self._seen or seen == self._LEFT else self._silent + 1
        self._seen = seen
        return f"{who} is gone without a word, {LIKELY}" if self._silent >= self._MOST else None

    def leave(self) -> None:
        """Say that this process beats no more, and well so."""
        self._store.set(self._own, self._LEFT)
