"""Where campaigns are run, and what they count."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.compare import Ending, differences
from tests.faults.forks import ForkServer
from tests.faults.runs import Case, Inputs, last_line


@dataclass
class Tally:
    """The counts of a campaign and what it found."""

    title: str
    counts: Counter[str] = field(default_factory=Counter)
    failures: dict[str, list[str]] = field(default_factory=dict)  # complaints of the trials that have some

    def judge(self, what: str, complaints: list[str]) -> None:
        """Count a trial as good, or write down what is wrong with it."""
        self.counts["as it should be" if not complaints else "NOT as it should be"] += 1
        if complaints:
            self.failures[what] = complaints

    def __str__(self) -> str:
        """The counts, one a line, and below them what fell short."""
        width = max(map(len, self.counts))
        lines = [self.title, *(f"  {name:{width}}  {count:>5}" for name, count in self.counts.items() if count)]
        for what, complaints in self.failures.items():
            lines += [f"  - {what}", *(f"      {complaint}" for complaint in complaints)]
        return "\n".join(lines)


class Lab:
    """Where campaigns are run: the fork server, what the runs read, and the quiet runs, each made when it is asked for.

    Args:
        folder: for all that is written; a failed case keeps its folder, and others are deleted.
        tiny: whether the network is a very small one, in place of yolo11n.
        keys: of the configuration of all runs.
    """

    def __init__(self, server: ForkServer, folder: Path, tiny: bool = False, **keys: Any) -> None:
        self.server, self.folder, self._keys = server, folder, keys
        self.inputs = Inputs.make(folder / "inputs", tiny)
        self._quiet: dict[str, tuple[Case, Ending]] = {}
        self._cases = 0

    def quiet(self, every: str = "1it", **keys: Any) -> tuple[Case, Ending]:
        """A run that nobody disturbs, and how it ends. Three checkpoints are kept."""
        keys = {"checkpoint": {"every": every, "keep": 3}, **self._keys, **keys}
        name = json.dumps(keys, sort_keys=True)
        if name not in self._quiet:
            case = Case(self.server, self.folder / f"quiet-{len(self._quiet)}", self.inputs, keys)
            outcome = case.begin()
            if outcome.code:
                raise RuntimeError(f"the quiet run failed: {last_line(outcome)}; see {case.folder}/logs")
            ending = Ending.read(case.run_dir)
            strange = differences(ending, ending)  # what cannot be read, or is told twice even there
            if strange:
                raise RuntimeError(f"the quiet run left something out: {strange}; see {case.folder}")
            self._quiet[name] = case, ending
        return self._quiet[name]

    def case(self, keys: dict[str, Any], folder: Path | None = None) -> Case:
        """A new case with a folder of its own."""
        self._cases += 1
        place = self.folder / f"case-{self._cases:03}"
        return Case(self.server, folder or place, self.inputs, keys, place / "logs")

    def clear(self, case: Case, complaints: list[str]) -> None:
        """Delete a case's folder, but not where there is something to look at."""
        if not complaints:
            shutil.rmtree(case.folder, ignore_errors=True)
