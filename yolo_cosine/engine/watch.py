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

from yolo_cosine.engine.launch import attempt


class Watch:
    """Ends this process soon after another one of the run has failed: a collective would wait for that one for minutes.

    It has a connection of its own to the store that torchrun keeps, for the process group's may be waiting in a call.
    """

    _EVERY, _GRACE = 0.3, 2.0  # seconds

    def __init__(self, rank: int) -> None:
        self._rank = rank
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        connection = dist.TCPStore(host, port, is_master=False, timeout=timedelta(seconds=60))
        self._store = dist.PrefixStore(f"yolo-cosine-watch-{attempt()}", connection)
        self._over = threading.Event()
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    def tell(self, text: str) -> None:
        """Say that this process has failed; the first to say so is believed."""
        with contextlib.suppress(RuntimeError), self._lock:  # the store is gone with its keeper
            if not self._store.check(["failed"]):
                self._store.set("failed", f"rank {self._rank} on {socket.gethostname()}: {text}")

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
        """Watch no more."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self._EVERY):
            text = self.heard()
            # the error of a collective comes by itself, mostly
            if text is not None and not self._over.wait(self._GRACE):
                print(f"error: another process of the run failed: {text}", file=sys.stderr, flush=True)
                os._exit(1)
