"""What the overview of an ablation says, as text: pure functions from values to lines of pieces with a style each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from yolo_cosine.sinks.console_text import clock, metric

Line = list[tuple[str, str]]  # (text, style of rich)

_CELL = 8  # columns of a run
_MEAN = 8  # columns of a variant's mean
_LEAST_NAME, _MOST_NAME = 16, 40  # columns of a variant's name, if it has so many letters
_STYLES = {
    "waiting": "dim", "running": "cyan", "finished": "green", "failed": "bold red", "interrupted": "yellow"
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """A run, as the overview shows it."""

    state: str  # one of "waiting", "running", "finished", "failed", "interrupted"
    share: float = 0.0  # of its steps that it has, 0 to 1
    value: float = float("nan")  # of the metric, once it is finished; NaN where there is none

    @property
    def text(self) -> str:
        match self.state:
            case "waiting":
                return "wait" if self.share == 0 else f"({percent(self.share)})"
            case "running":
                return percent(self.share)
            case "finished":
                return metric(self.value, "done")
            case "interrupted":
                return "stopped"
        return self.state


@dataclass(frozen=True)
class Snapshot:
    """An ablation at a moment."""

    metric: str  # as people read it: mAP50-95
    seeds: tuple[int, ...]
    cells: Mapping[str, Mapping[int, Cell]]  # of each variant (its name fit to be printed) and seed
    done: int  # steps that are trained
    steps: int  # to be trained in all, but for those of runs that failed
    places: int  # runs at a time
    left: float  # seconds; NaN where it is not known yet

    def count(self, state: str) -> int:
        """How many runs are in a state."""
        return sum(cell.state == state for row in self.cells.values() for cell in row.values())

    def values(self, variant: str) -> dict[int, float]:
        """The metric of the seeds of a variant that are finished and have one."""
        row = self.cells[variant]
        return {s: c.value for s, c in row.items() if c.state == "finished" and not math.isnan(c.value)}

    def mean(self, variant: str) -> float:
        """The mean of `values`; NaN where there are none."""
        values = self.values(variant).values()
        return sum(values) / len(values) if values else float("nan")

    def best(self) -> str | None:
        """The variant with the highest mean so far."""
        known = [name for name in self.cells if self.values(name)]
        return max(known, key=self.mean, default=None)


def printable(text: str, encoding: str | None) -> str:
    """Text that cannot steer a terminal, in letters that its encoding has. Lines stay lines."""
    text = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    encoding = encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def percent(share: float) -> str:
    """A share in whole percent; 100% only where all is done, so that 99.9% is 99%."""
    return f"{math.floor(share * 100 + 1e-9)}%"


def shortened(name: str, width: int) -> str:
    """A name in at most `width` columns; the middle is left out, for names of a grid differ at their ends too."""
    if cell_len(name) <= width:
        return name
    if width < 5:
        return set_cell_size(name, width)
    head = (width - 3) // 2
    tail = name
    while cell_len(tail) > width - 3 - head:
        tail = tail[1:]
    return set_cell_size(name, head) + "..." + tail


def counts(s: Snapshot) -> str:
    """`4 of 9 runs done, 2 running, 1 failed, 2 waiting`."""
    runs = sum(len(row) for row in s.cells.values())
    parts = [f"{s.count('finished')} of {runs} runs done"]
    words = {"running": "running", "failed": "failed", "interrupted": "stopped", "waiting": "waiting"}
    parts += [f"{s.count(state)} {word}" for state, word in words.items() if s.count(state)]
    return ", ".join(parts)


def best_words(s: Snapshot) -> str | None:
    """The best variant and the best run so far; None before a run is finished."""
    best = s.best()
    if best is None:
        return None
    n = len(s.values(best))
    runs = [(value, name, seed) for name in s.cells for seed, value in s.values(name).items()]
    value, name, seed = max(runs, key=lambda run: run[0])
    of = f"mean of {n} seeds" if n > 1 else "one seed"
    return (
        f"best {s.metric} so far: {best} {metric(s.mean(best))} ({of}); best run: {name}, seed {seed}: {metric(value)}"
    )


def progress_words(s: Snapshot) -> str:
    """How far an ablation is, in one line; for logs and files."""
    share = percent(s.done / s.steps if s.steps else 1.0)
    parts = [f"{share} of {s.steps:,} steps", counts(s), f"{clock(s.left)} left"]
    running = [
        f"{name} seed {seed} {cell.text}"
        for name, row in s.cells.items()
        for seed, cell in row.items()
        if cell.state == "running"
    ]
    if running:
        parts.append("now " + ", ".join(running[:4]) + (f" and {len(running) - 4} more" if len(running) > 4 else ""))
    return "; ".join(parts)


def screen(s: Snapshot, width: int, height: int, blocks: str = "━─") -> list[Line]:
    """The whole overview in at most `width` columns and `height` lines: a line for each variant, and what they come to.

    A cell for each run where there is room for it, else what the runs of a variant come to. Of more variants than there
    are lines, those where something happens are shown.
    """
    foot = [_bar(s, width, blocks)]
    foot += [[(line, "")] for line in _wrapped(f"{counts(s)}; {s.places} at a time", width)]
    best = best_words(s)
    if best is not None:
        foot += [[(line, "green")] for line in _wrapped(best, width)[:3]]
    foot = foot[: max(height - 3, 2)]
    longest = max(map(cell_len, s.cells), default=0)
    as_grid = width - _CELL * len(s.seeds) - _MEAN >= min(longest, _LEAST_NAME)
    columns = _CELL * len(s.seeds) + _MEAN if as_grid else sum(_SUMS.values())
    name_width = max(min(longest, width - columns, _MOST_NAME), 5)
    shown, hidden = _chosen(s, max(height - len(foot) - 1, 1))
    heading, line = (_heading_of_runs, _line_of_runs) if as_grid else (_heading_of_sums, _line_of_sums)
    lines = [[(" " * name_width, ""), (heading(s), "bold")]]
    for name in shown:
        style = "green" if name == s.best() else ""
        lines.append([(set_cell_size(shortened(name, name_width), name_width), style), *line(s, name)])
    if hidden:
        lines.append([(_hidden_words(s, hidden)[:width], "dim")])
    return lines + foot


def _heading_of_runs(s: Snapshot) -> str:
    title = "seed " if len(str(max(s.seeds))) <= _CELL - 6 else ""
    return "".join(f"{title + str(seed):>{_CELL}}" for seed in s.seeds) + f"{'mean':>{_MEAN}}"


def _line_of_runs(s: Snapshot, name: str) -> Line:
    cells = [(f"{cell.text:>{_CELL}}", _STYLES[cell.state]) for cell in (s.cells[name][seed] for seed in s.seeds)]
    return [*cells, (f"{metric(s.mean(name)):>{_MEAN}}", "")]


# Columns of a variant whose runs are not shown one by one.
_SUMS = {"done": 9, "running": 11, "failed": 7, "mean": _MEAN}


def _heading_of_sums(s: Snapshot) -> str:
    return "".join(f"{title:>{width}}" for title, width in _SUMS.items())


def _line_of_sums(s: Snapshot, name: str) -> Line:
    row = list(s.cells[name].values())
    done, failed = (sum(cell.state == state for cell in row) for state in ("finished", "failed"))
    shares = [cell.share for cell in row if cell.state == "running"]
    running = f"{len(shares)} at {percent(sum(shares) / len(shares))}" if shares else "-"
    return [
        (f"{f'{done}/{len(row)}':>{_SUMS['done']}}", _STYLES["finished"] if done == len(row) else ""),
        (f"{running:>{_SUMS['running']}}", _STYLES["running"]),
        (f"{failed or '-':>{_SUMS['failed']}}", _STYLES["failed"] if failed else ""),
        (f"{metric(s.mean(name)):>{_SUMS['mean']}}", ""),
    ]


def _chosen(s: Snapshot, room: int) -> tuple[list[str], list[str]]:
    """The variants that are shown, and the others, both in their order."""
    names = list(s.cells)
    if len(names) <= room:
        return names, []

    def interest(name: str) -> tuple[int, float]:
        states = {cell.state for cell in s.cells[name].values()}
        rank = 0 if "running" in states else 1 if "failed" in states else 2 if "finished" in states else 3
        mean = s.mean(name)
        return rank, 0.0 if math.isnan(mean) else -mean

    kept = set(sorted(names, key=interest)[: max(room - 1, 1)])
    return [name for name in names if name in kept], [name for name in names if name not in kept]


def _hidden_words(s: Snapshot, names: Sequence[str]) -> str:
    cells = [cell for name in names for cell in s.cells[name].values()]
    parts = {word: sum(cell.state == state for cell in cells) for state, word in _WORDS.items()}
    said = ", ".join(f"{count} {word}" for word, count in parts.items() if count)
    return f"and {len(names)} more variant{'s' if len(names) > 1 else ''}: runs {said}"


_WORDS = {
    "finished": "done", "running": "running", "failed": "failed", "interrupted": "stopped", "waiting": "waiting"
}  # fmt: skip


def _bar(s: Snapshot, width: int, blocks: str) -> Line:
    share = s.done / s.steps if s.steps else 1.0
    left = f"  {clock(s.left)} left"
    for rest in (f" {percent(share):>4} of {s.steps:,} steps{left}", f" {percent(share):>4}{left}"):
        bar = min(width - len(rest), 40)
        if bar >= 6:
            break
    bar = max(bar, 0)
    filled = min(round(share * bar), bar)
    return [(f"{blocks[0] * filled}{blocks[1] * (bar - filled)}{rest}"[:width], "cyan")]


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` columns; broken at spaces where there are any."""
    lines, line = [], ""
    for word in text.split(" "):
        word = shortened(word, width)
        if line and cell_len(line) + 1 + cell_len(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line]
