"""Passes every event to every sink, and keeps a broken sink from breaking the run."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from yolo_cosine.events import Event, Incident, Notice, Reading, RunStarted, Sink


class SinkHub:
    """Sinks by name, in the order in which they receive each event.

    A sink that raises is switched off with one warning, a `Notice` to the others, and an `Incident` for the record. It
    never takes the run down. A sink that is added before the run starts, but after the first notices, is told those too.

    A sink may have something to tell of itself, as that the disk is full. It puts it on a list `news`, and all are told.
    """

    def __init__(self, sinks: Iterable[tuple[str, Sink]] = ()) -> None:
        self._sinks = list(sinks)
        self._before_start: list[Event] | None = []
        self._step: int | None = None  # the last that was spoken of

    def add(self, name: str, sink: Sink) -> None:
        """`sink` receives every event from now on, and the notices from before the start; `name` is for warnings."""
        for event in self._before_start or ():
            sink.handle(event)
        self._sinks.append((name, sink))

    def emit(self, event: Event) -> None:
        """Pass `event` to every sink that still works."""
        if isinstance(event, RunStarted):
            self._before_start, self._step = None, event.start_step
        if self._before_start is not None and not isinstance(event, Reading):
            self._before_start.append(event)
        step = getattr(event, "step", None)
        self._step = self._step if step is None else step
        failed = []
        for entry in self._sinks:
            try:
                entry[1].handle(event)
            except Exception as error:
                failed.append((entry, error))
        broken = [entry for entry, _ in failed]
        self._sinks = [entry for entry in self._sinks if entry not in broken]
        for (name, sink), error in failed:
            with suppress(Exception):  # it has had its warning
                sink.close()
            self._warn(f"{name} is switched off for the rest of the run: {_words(error)}", step, "sink")
        if self._before_start is None:
            for name, sink in list(self._sinks):
                self._pass_on(name, sink)

    def behind(self) -> bool:
        """Whether a sink has something that it could not write yet, as on a full disk."""
        return any(getattr(sink, "behind", False) for _, sink in self._sinks)

    def close(self) -> None:
        """Close every sink, the last added first, so that the first, the console, hears what went wrong."""
        while self._sinks:
            name, sink = self._sinks.pop()
            try:
                sink.close()
            except Exception as error:
                self._warn(f"{name} could not be closed; its end may be missing: {_words(error)}")
            self._pass_on(name, sink)

    def _pass_on(self, name: str, sink: Sink) -> None:
        news = getattr(sink, "news", None)
        while news:
            new = news.pop(0)
            self._warn(f"{name}: {new.text}", self._step, new.incident)

    def _warn(self, text: str, step: int | None = None, incident: str | None = None) -> None:
        self.emit(Notice(text, warning=True, step=step))
        if incident is not None and self._step is not None:
            self.emit(Incident(incident, text, self._step))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
