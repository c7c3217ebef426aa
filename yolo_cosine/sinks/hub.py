"""Passes every event to every sink, and keeps a broken sink from breaking the run."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from yolo_cosine.events import Event, Notice, RunStarted, Sink


class SinkHub:
    """Sinks by name, in the order in which they receive each event.

    A sink that raises is switched off with one warning, a `Notice` to the others. It never takes the run down. A sink
    that is added before the run starts, but after the first notices, is told those too.
    """

    def __init__(self, sinks: Iterable[tuple[str, Sink]] = ()) -> None:
        self._sinks = list(sinks)
        self._before_start: list[Event] | None = []

    def add(self, name: str, sink: Sink) -> None:
        """`sink` receives every event from now on, and the notices from before the start; `name` is for warnings."""
        for event in self._before_start or ():
            sink.handle(event)
        self._sinks.append((name, sink))

    def emit(self, event: Event) -> None:
        """Pass `event` to every sink that still works."""
        if isinstance(event, RunStarted):
            self._before_start = None
        if self._before_start is not None:
            self._before_start.append(event)
        failed = []
        for entry in self._sinks:
            try:
                entry[1].handle(event)
            except Exception as error:
                failed.append((entry, error))
        if not failed:
            return
        broken = [entry for entry, _ in failed]
        self._sinks = [entry for entry in self._sinks if entry not in broken]
        for (name, sink), error in failed:
            with suppress(Exception):  # it has had its warning
                sink.close()
            self._warn(name, error, "is switched off for the rest of the run", getattr(event, "step", None))

    def close(self) -> None:
        """Close every sink, the last added first, so that the first, the console, hears what went wrong."""
        while self._sinks:
            name, sink = self._sinks.pop()
            try:
                sink.close()
            except Exception as error:
                self._warn(name, error, "could not be closed; its end may be missing")

    def _warn(self, name: str, error: Exception, what: str, step: int | None = None) -> None:
        self.emit(Notice(f"{name} {what}: {type(error).__name__}: {error}", warning=True, step=step))
