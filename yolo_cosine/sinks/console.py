"""A run on the console: a live line where there is a terminal, plain lines everywhere else."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import replace
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from yolo_cosine import events
from yolo_cosine.sinks import console_text

# What does not come between an epoch and its evaluation.
_GOING_ON = events.StepDone | events.EpochDone | events.Rewound | events.Replanned | events.RunEnded
_PLAIN_INTERVAL = 30.0  # seconds between two progress lines where there is no terminal
_READING_INTERVAL = 10.0  # the same while images are read


class ConsoleSink:
    """Tells people about a run.

    Args:
        stream: where to write; standard output by default. Only a terminal gets colours and a live line.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        # not rich's own guess: FORCE_COLOR would make a terminal of a log file
        terminal = self._stream.isatty()
        self._console = Console(file=self._stream, highlight=False, markup=False, emoji=False) if terminal else None
        if self._console is not None and (self._console.is_dumb_terminal or not self._console.is_terminal):
            self._console = None
        self._blocks = "━─" if (getattr(self._stream, "encoding", None) or "").lower().startswith("utf") else "#-"
        self._live: Live | None = None
        self._reading: tuple[events.Reading, float] | None = None  # and since when
        self._start: events.RunStarted | None = None
        self._started = 0.0  # on the monotonic clock, as all times here
        self._epoch_done: events.EpochDone | None = None  # waits for its evaluation, to share a line with it
        self._evaluating: tuple[events.EvaluationStarted, float] | None = None
        self._weights: dict[str, str] = {}
        self._lr: float | None = None
        self._step = 0  # the next one
        self._taken = 0  # by this process; a run may jump over steps, and take some twice
        self._warned = ""  # the last warning
        self._begin_epoch(0.0)

    def handle(self, event: events.Event) -> None:
        if isinstance(event, _GOING_ON):
            self._finish_epoch()  # whose evaluation, if one was due, has been
        match event:
            case events.Reading():
                self._read(event)
            case events.RunStarted():
                self._begin(event)
            case events.StepDone():
                self._stepped(event)
            case events.EpochDone():
                self._epoch_done = event
                self._begin_epoch(time.monotonic())
            case events.EvaluationStarted():
                self._evaluating = event, time.monotonic()
            case events.Evaluated():
                self._evaluated(event)
            case events.Saved():
                self._weights = dict(
                    sorted({**self._weights, "best" if event.best else "last": str(event.path)}.items())
                )
            case events.Notice(warning=False):
                self._say(event.text)
            case events.Notice() | events.Incident():
                self._warn(event)
            case events.Rewound():
                self._step, self._evaluating = event.to_step, None
                self._begin_epoch(time.monotonic())
                self._say(f"back to step {event.to_step}: {event.text}", "yellow")
            case events.Replanned():
                self._start = replace(self._start, epochs=event.epochs)
                self._say(event.text)
            case events.RunEnded():
                self._stop_live()
                self._say("\n" + console_text.end_block(event, self._weights, self._width))

    def close(self) -> None:
        self._stop_live()
        self._stream.flush()

    @property
    def _width(self) -> int:
        # one column less: some terminals wrap a line that fills the last
        return (self._console.width if self._console else shutil.get_terminal_size((80, 24)).columns) - 1

    def _say(self, text: str, style: str = "") -> None:
        """Print lines for good, above the live line if there is one."""
        text = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)  # nothing may steer a terminal
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        text = text.encode(encoding, "replace").decode(encoding)
        if self._console is not None:
            self._console.print(Text(text, style=style), soft_wrap=True)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()

    def _warn(self, event: events.Notice | events.Incident) -> None:
        # what an incident says may have been said as a warning already
        if isinstance(event, events.Notice) or event.text != self._warned:
            self._say(f"warning: {event.text}", "yellow")
        self._warned = event.text

    def _begin(self, event: events.RunStarted) -> None:
        self._start, self._step = event, event.start_step
        self._started = time.monotonic()
        self._begin_epoch(self._started)
        self._say(console_text.start_block(event, self._width))
        self._say("\n" + console_text.table_header(event), "bold")
        self._start_live()

    def _read(self, event: events.Reading) -> None:
        now = time.monotonic()
        since = now if self._reading is None else self._reading[1]
        if self._reading is None:
            self._told = now
            self._start_live()
        self._reading = event, since
        if event.done >= event.total:
            self._stop_live()
            self._reading = None
        elif self._console is None and now - self._told >= _READING_INTERVAL:
            self._told = now
            self._say(console_text.reading_line(event))

    def _begin_epoch(self, now: float) -> None:
        self._epoch_from, self._images, self._steps = now, 0, 0
        self._losses: dict[str, float] = {}
        self._intervals = 0
        self._told = now

    def _stepped(self, event: events.StepDone) -> None:
        self._step = event.step + 1
        self._taken += 1
        self._images += event.images
        self._steps += 1
        self._lr = console_text.main_rate(event.scalars)
        losses = {name: value for name, value in event.scalars.items() if name.startswith(events.LOSS)}
        if losses:
            self._intervals += 1
            for name, value in losses.items():
                mean = self._losses.get(name, 0.0)
                self._losses = {**self._losses, name: mean + (value - mean) / self._intervals}
        now = time.monotonic()
        if self._console is None and now - self._told >= _PLAIN_INTERVAL:
            self._told = now
            self._say(console_text.progress_line(self._progress(now)))

    def _evaluated(self, event: events.Evaluated) -> None:
        now = time.monotonic()
        if self._evaluating is not None:
            pause = now - self._evaluating[1]
            self._epoch_from, self._told = self._epoch_from + pause, self._told + pause
            self._evaluating = None
        done, self._epoch_done = self._epoch_done, None
        self._say(console_text.table_line(self._start, self._lr, done, event), "green" if event.best else "")

    def _finish_epoch(self) -> None:
        if self._epoch_done is not None:
            self._say(console_text.table_line(self._start, self._lr, self._epoch_done, None))
            self._epoch_done = None

    def _progress(self, now: float) -> console_text.Progress:
        start = self._start
        pace = (now - self._started) / self._taken if self._taken else float("nan")
        latest = self._step - 1 if self._steps else self._step
        epoch = min(latest // start.steps_per_epoch, start.epochs - 1)
        return console_text.Progress(
            epoch=f"{epoch + 1}/{start.epochs}",
            done=self._step - epoch * start.steps_per_epoch,
            steps=start.steps_per_epoch,
            losses=self._losses,
            lr=self._lr,
            images_per_second=self._images / max(now - self._epoch_from, 1e-9) if self._images else None,
            left=pace * max(start.total_steps - self._step, 0),
        )

    def _status(self) -> Text:
        """The live line. Rich asks for it from a thread of its own, some times a second."""
        now = time.monotonic()
        evaluating, reading = self._evaluating, self._reading  # read once: the other thread may clear them meanwhile
        if reading is not None:
            event, since = reading
            line = console_text.reading_bar(event, now - since, self._width, self._blocks)
        elif self._start is None:
            line = ""
        elif evaluating is not None:
            event, since = evaluating
            line = (
                f"evaluating {event.images:,} images after epoch {event.epoch + 1}, {console_text.clock(now - since)}"
            )
        else:
            line = console_text.progress_bar(self._progress(now), self._width, self._blocks)
        return Text(line[: self._width], no_wrap=True, overflow="crop", style="cyan")

    def _start_live(self) -> None:
        if self._console is not None and self._live is None:
            self._live = Live(
                console=self._console, get_renderable=self._status, refresh_per_second=4, transient=True,
                redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip
            self._live.start()

    def _stop_live(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
