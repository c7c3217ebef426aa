"""An ablation on the console: one live overview where there is a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from yolo_cosine.ablation import overview_text
from yolo_cosine.ablation.forecast import seconds_left
from yolo_cosine.ablation.job import Done, own_steps
from yolo_cosine.ablation.overview_text import Cell, Snapshot, printable
from yolo_cosine.ablation.plan import Key, Plan, PlannedRun
from yolo_cosine.ablation.tail import end_value, steps_taken
from yolo_cosine.errors import UserError
from yolo_cosine.sinks.console_text import clock, metric

_PLAIN_INTERVAL = 30.0  # seconds between two progress lines where there is no terminal


@dataclass
class _Seen:
    """A run as it has been seen."""

    run: PlannedRun
    state: str = "waiting"
    value: float = float("nan")
    steps: int | None = None  # that it has; None before it has begun
    own_from: int | None = None  # the step at which it began by itself
    began: float = 0.0  # this process of it, on the monotonic clock, as all times here
    steps_before: int | None = None  # that it had when this process of it began
    first: tuple[float, int] | None = None  # when it was first seen with a new step, and its steps then
    seen: tuple[float, int] | None = None  # the same, now

    @property
    def own(self) -> int:
        """Steps that it has trained itself."""
        return max((self.steps or 0) - self.base, 0)

    @property
    def base(self) -> int:
        """Steps that it has taken over from another run, or will."""
        return self.run.shared if self.own_from is None else self.own_from


class Overview:
    """Tells people how far an ablation is. A `Watcher`.

    Args:
        metric: what counts, as `metrics/mAP50-95`.
        places: runs at a time.
        finished: the runs that were finished before, with their value of the metric (NaN for none).
        stream: where to write; standard output by default. Only a terminal gets colours and a live overview.
        select: which evaluation of a run counts.
    """

    def __init__(
        self, plan: Plan, metric: str, places: int, finished: Mapping[Key, float], stream: TextIO | None = None,
        select: Literal["last", "best"] = "last",
    ) -> None:  # fmt: skip
        self._stream = stream or sys.stdout
        self._encoding = getattr(self._stream, "encoding", None) or "utf-8"
        # not rich's own guess: FORCE_COLOR would make a terminal of a log file
        terminal = self._stream.isatty()
        self._console = Console(file=self._stream, highlight=False, markup=False, emoji=False) if terminal else None
        if self._console is not None and (self._console.is_dumb_terminal or not self._console.is_terminal):
            self._console = None
        self._blocks = "━─" if self._encoding.lower().startswith("utf") else "#-"
        self._live: Live | None = None
        self._plan, self._metric, self._places, self._best = plan, metric, places, select == "best"
        self._names = _names(plan.schedules, self._encoding)
        self._seen = {run.key: _Seen(run) for run in plan.runs}
        for key, seen in self._seen.items():
            if key in finished:
                seen.state, seen.value, seen.steps = "finished", finished[key], seen.run.steps
            else:
                self._read(seen)
        self._measured: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])  # variant: steps, seconds
        self._starts: list[float] = []  # seconds between the beginning of a process and its first step
        self._told = time.monotonic()
        self._shown: tuple[Snapshot, float] = self._snapshot(), self._told

    # --- what happens -----------------------------------------------------------------------------------------------

    def began(self, run: PlannedRun) -> None:
        """A run begins, or goes on."""
        seen = self._seen[run.key]
        self._keep_measure(seen)
        self._read(seen)
        seen.state, seen.began = "running", time.monotonic()
        seen.steps_before, seen.first, seen.seen = seen.steps, None, None
        if self._console is None:
            have = f", goes on at step {seen.steps:,} of {run.steps:,}" if seen.steps is not None else ""
            new = f", {run.steps:,} steps" + (f", the first {run.shared:,} taken over" if run.shared else "")
            self._say(f"begins: {self._title(run)}{have or new}")
        self._show()

    def ended(self, run: PlannedRun, done: Done) -> None:
        """A run ended, or its process is gone; it may begin again."""
        seen = self._seen[run.key]
        self._read(seen)
        if done.outcome == "finished":
            seen.steps = run.steps
            seen.value = end_value(run.folder / "metrics.jsonl", self._metric, self._best)
        self._measure(seen)
        seen.state = done.outcome if done.outcome in {"finished", "interrupted"} else "failed"
        self._keep_measure(seen)
        took = clock(time.monotonic() - seen.began)
        if seen.state == "failed":
            what = "failed" if done.outcome == "failed" else "died"
            log = f"; its log: {done.job.log}" if done.job.log else ""
            self._say(f"{what}: {self._title(run)}, after {took}: {done.detail}{log}", "bold red")
        elif self._console is None:
            self._say(f"{done.outcome}: {self._title(run)}{self._value_words(seen)}, {took}; {self._runs_done()}")
        self._show()

    def look(self) -> None:
        """See how far the runs are. Called about once a second."""
        for seen in self._seen.values():
            if seen.state == "running":
                self._read(seen)
                self._measure(seen)
        self._show()
        now = time.monotonic()
        if self._console is None and now - self._told >= _PLAIN_INTERVAL:
            self._told = now
            self._say(overview_text.progress_words(self._shown[0]))
            if (best := overview_text.best_words(self._shown[0])) is not None:
                self._say(best)

    def close(self) -> None:
        """Leave the last overview on the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._stream.flush()

    # --- how far the runs are ---------------------------------------------------------------------------------------

    def _read(self, seen: _Seen) -> None:
        """Read where a run is. A record that begins with another run's counts once the run itself has begun."""
        folder = seen.run.folder
        steps = steps_taken(folder / "metrics.jsonl")
        if seen.own_from is None or steps is None:
            own = None
            with suppress(OSError, ValueError, KeyError, UserError):  # it is being made
                own = own_steps(folder)
            seen.own_from = own[0] if own is not None else None
        seen.steps = None if seen.own_from is None else max(steps or 0, seen.own_from)

    def _measure(self, seen: _Seen) -> None:
        """Note how many steps this process has taken in what time, from the first that was seen of it on."""
        now = time.monotonic()
        if seen.steps is None:
            return
        if seen.first is None:
            before = seen.base if seen.steps_before is None else seen.steps_before
            if seen.steps == before:
                return
            seen.first = now, seen.steps
            self._starts.append(now - seen.began)
        seen.seen = now, seen.steps

    def _keep_measure(self, seen: _Seen) -> None:
        """Add what a process has taken to what its variant's have, for it is over."""
        if seen.first is None or seen.seen is None:
            return
        (start, first), (end, last) = seen.first, seen.seen
        if last <= first:  # it was over before it was looked at twice; its start counts as a part of its steps
            first, start = seen.base if seen.steps_before is None else seen.steps_before, seen.began
            self._starts.pop()
        measured = self._measured[seen.run.variant]
        measured[0], measured[1] = measured[0] + max(last - first, 0), measured[1] + end - start
        seen.first = seen.seen = None

    def _paces(self) -> dict[str, float] | None:
        """Seconds per step of each variant, evaluations included, as measured here; None before anything was."""
        sums = {name: list(self._measured[name]) for name in self._names}
        for seen in self._seen.values():
            if seen.first is not None and seen.seen is not None and seen.seen[1] > seen.first[1]:
                sums[seen.run.variant][0] += seen.seen[1] - seen.first[1]
                sums[seen.run.variant][1] += seen.seen[0] - seen.first[0]
        steps, seconds = (sum(s[k] for s in sums.values()) for k in (0, 1))
        if not steps:
            return None
        return {name: s / n if n else seconds / steps for name, (n, s) in sums.items()}

    def _left(self) -> float:
        left = [s for s in self._seen.values() if s.state in {"waiting", "running"}]
        paces = self._paces()
        if not left or paces is None:
            return 0.0 if not left else float("nan")
        return seconds_left(
            [s.run for s in left], self._places, lambda run, first, last: paces[run.variant] * (last - first),
            sum(self._starts) / len(self._starts) if self._starts else 0.0,
            {s.run.key: s.steps for s in left if s.steps is not None},
            {s.run.key for s in left if s.state == "running"},
        )  # fmt: skip

    def _snapshot(self) -> Snapshot:
        cells: dict[str, dict[int, Cell]] = {name: {} for name in self._names.values()}
        for seen in self._seen.values():
            share = min((seen.steps or 0) / seen.run.steps, 1.0)
            cells[self._names[seen.run.variant]][seen.run.seed] = Cell(seen.state, share, seen.value)
        runs = self._seen.values()
        return Snapshot(
            metric=self._metric.partition("/")[2] or self._metric,
            seeds=tuple(sorted({s.run.seed for s in runs})),
            cells=cells,
            done=sum(s.own for s in runs),
            steps=sum(s.own if s.state == "failed" else s.run.steps - s.base for s in runs),
            places=self._places,
            left=self._left(),
        )

    # --- what is said -----------------------------------------------------------------------------------------------

    def _title(self, run: PlannedRun) -> str:
        return f"{self._names[run.variant]}, seed {run.seed}"

    def _value_words(self, seen: _Seen) -> str:
        name = self._metric.partition("/")[2] or self._metric
        return f": {name} {metric(seen.value)}" if seen.state == "finished" else ""

    def _runs_done(self) -> str:
        done = sum(seen.state == "finished" for seen in self._seen.values())
        return f"{done} of {len(self._seen)} runs done"

    def _say(self, text: str, style: str = "") -> None:
        """Print lines for good, above the overview if there is one."""
        text = printable(text, self._encoding)
        if self._console is not None:
            self._console.print(Text(text, style=style), soft_wrap=True)
        else:
            self._stream.write(text + "\n")
            self._stream.flush()

    def _show(self) -> None:
        self._shown = self._snapshot(), time.monotonic()
        if self._console is None:
            return
        if self._live is None:
            self._live = Live(
                console=self._console, get_renderable=self._screen, refresh_per_second=4, redirect_stdout=False,
                redirect_stderr=False,
            )  # fmt: skip
            self._live.start()

    def _screen(self) -> Text:
        """The overview. Rich asks for it from a thread of its own, some times a second."""
        snapshot, at = self._shown  # read once: the other thread may replace it meanwhile
        snapshot = replace(snapshot, left=max(snapshot.left - (time.monotonic() - at), 0.0))
        width = self._console.width - 1  # some terminals wrap a line that fills the last column
        lines = overview_text.screen(snapshot, width, self._console.height - 1, self._blocks)
        text = Text(no_wrap=True, overflow="crop")
        for k, line in enumerate(lines):
            for piece, style in line:
                text.append(piece, style)
            if k + 1 < len(lines):
                text.append("\n")
        return text


def _names(variants: Iterable[str], encoding: str) -> dict[str, str]:
    """How each variant is called here; two that look the same once they are fit to be printed are numbered."""
    names: dict[str, str] = {}
    for variant in variants:
        name = printable(variant, encoding).replace("\n", "?")
        same = sum(other == name or other.startswith(f"{name} (") for other in names.values())
        names[variant] = f"{name} ({same + 1})" if name in names.values() else name
    return names
