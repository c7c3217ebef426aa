"""Ctrl-C and SIGTERM: the first asks a run to save itself and stop, the second stops it at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

from yolo_cosine.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AGAIN = 0.02  # seconds after which a signal is sent again that came where nothing can be raised


class StopSignals:
    """A context in which the two signals are ours.

    Until `orderly` is set a signal raises `Interrupted` where the program is. From then on the first one is kept in
    `requested`, for the training loop to act on between two steps, and the next one raises.
    """

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self.orderly = False
        self.situation = "before the first step"  # where a signal comes while `orderly` is not set
        self._insisted = False
        self._swallowed: Interrupted | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            self._before = {s: signal.signal(s, self._handle) for s in _SIGNALS}
            self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        if self._before:
            sys.unraisablehook = self._hook

    @property
    def patient(self) -> bool:
        """Whether there is time for what is done after a run: nobody asked to stop twice, or by SIGTERM."""
        return self.requested != signal.SIGTERM and not self._insisted

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._swallowed is not None:
            error, self._swallowed = self._swallowed, None
            raise error
        asked = signal.Signals(number)
        if self.orderly and self.requested is None:
            self.requested = asked
            return
        again = "a second time; stopped at once" if self.requested else f"{self.situation}; stopped"
        self.requested, self._insisted = self.requested or asked, True
        raise Interrupted(asked, f"{asked.name} came {again}")

    def _unraisable(self, about: Any) -> None:
        """Send a signal again whose exception Python threw away, as it does in `__del__` and in callbacks of weakref."""
        if not isinstance(about.exc_value, Interrupted):
            self._hook(about)
            return
        self._swallowed = about.exc_value
        number = about.exc_value.code - 128
        threading.Timer(_AGAIN, os.kill, (os.getpid(), number)).start()
