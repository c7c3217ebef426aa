"""Progress of long file work: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LINE_EVERY = 10.0  # seconds between plain lines of one task


class Reporter(Protocol):
    """Who is told how far a task is, in bytes, and what happens along the way."""

    def bytes(self, task: str, done: int, total: int | None) -> None: ...

    def say(self, text: str) -> None: ...


class Lines:
    """Plain lines on stderr, for logs: where a task starts, every ten seconds, and where it ends."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def bytes(self, task: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if task in self._last and done != total and now - self._last[task] < LINE_EVERY:
            return
        self._last[task] = now
        self.say(f"{task}: {megabytes(done)}" + (f" of {megabytes(total)}" if total else ""))

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def reporter() -> Iterator[Reporter]:
    """A bar where stderr is a terminal, else lines."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks = {}

        class Bars:
            def bytes(self, task: str, done: int, total: int | None) -> None:
                if task not in tasks:
                    tasks[task] = bars.add_task(task, total=total, completed=done)
                bars.update(tasks[task], completed=done, total=total)

            def say(self, text: str) -> None:
                bars.console.print(text, markup=False, highlight=False)

        yield Bars()


def megabytes(count: int) -> str:
    """`count` bytes in words, decimal megabytes."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count:,} bytes"
