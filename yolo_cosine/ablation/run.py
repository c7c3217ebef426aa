"""The loop that trains the runs of an ablation: what is ready goes to a free place, until all have ended."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from yolo_cosine.ablation.executor import Executor
from yolo_cosine.ablation.job import Done, Job, is_begun
from yolo_cosine.ablation.plan import Key, Plan, PlannedRun
from yolo_cosine.ablation.tail import steps_taken
from yolo_cosine.engine.fork import fork_folder

_TRIES = 3  # of a run whose process is gone without a word
_LOOK = 1.0  # seconds between two looks at how far the runs are


class Watcher(Protocol):
    """Is told what becomes of the runs."""

    def began(self, run: PlannedRun) -> None: ...

    def ended(self, run: PlannedRun, done: Done) -> None: ...

    def look(self) -> None:
        """Called about once a second."""


@dataclass
class Loop:
    """Trains what is not finished. Runs that failed do not keep the others.

    Args:
        finished: the runs that need nothing any more.
        stopping: asked about once a second whether to save everything and stop.
    """

    plan: Plan
    executor: Executor
    watcher: Watcher
    threads: int | None
    finished: set[Key]
    stopping: Callable[[], bool] = lambda: False
    failed: dict[Key, str] = field(default_factory=dict)
    interrupted: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._runs = {run.key: run for run in self.plan.runs}
        self._waiting = [run for run in self.plan.runs if run.key not in self.finished]
        self._running: dict[Key, PlannedRun] = {}
        self._tries: dict[Key, int] = {}

    def train(self) -> None:
        """Train until all runs have ended, or `stopping` says so and all have stopped."""
        asked = False
        try:
            while self._running or (self._waiting and not asked):
                if not asked and self.stopping():
                    asked = True
                    self.executor.stop()
                while not asked and len(self._running) < self.executor.places and (run := self._next()) is not None:
                    self._start(run)
                for done in self.executor.wait(_LOOK):
                    self._end(self._running.pop((done.job.variant, done.job.seed)), done, asked)
                self.watcher.look()
        finally:
            self.executor.close()

    def _next(self) -> PlannedRun | None:
        """A run that can begin; where there are several, the one that most is waiting for."""
        ready = [run for run in self._waiting if self._is_ready(run)]
        return max(ready, key=self._behind, default=None)

    def _is_ready(self, run: PlannedRun) -> bool:
        if not run.forks_from or is_begun(run.folder):
            return True
        owner, step = run.forks_from[0]
        if owner not in self._running and owner not in {other.key for other in self._waiting}:
            return True  # with what there is: an earlier fork, or nothing, where this one never came to be
        # a fork gets its name when it is whole, and its owner goes on only then
        passed = steps_taken(self._runs[owner].folder / "metrics.jsonl") or 0
        return fork_folder(self._runs[owner].folder, step).is_dir() or passed > step + 1

    def _behind(self, run: PlannedRun) -> int:
        """Steps until the last of those is over that begin from it, or from one of these, if nothing has to wait."""
        after = [
            other.shared - run.shared + self._behind(other)
            for other in self._waiting
            if other.forks_from and other.forks_from[0][0] == run.key
        ]
        return max(run.steps - run.shared, *after, 0)

    def _start(self, run: PlannedRun) -> None:
        self._waiting.remove(run)
        self._running[run.key] = run
        job = Job(
            run.variant, run.seed, str(run.folder), run.config.model_dump(mode="json"),
            tuple((str(self._runs[owner].folder), step) for owner, step in run.forks_from),
            tuple(sorted(run.forks)), self.threads, str(run.log),
        )  # fmt: skip
        self.watcher.began(run)
        self.executor.start(job)

    def _end(self, run: PlannedRun, done: Done, asked: bool) -> None:
        if done.outcome == "died" and not asked:
            self._tries[run.key] = self._tries.get(run.key, 0) + 1
            if self._tries[run.key] < _TRIES:
                self._waiting.insert(0, run)  # it goes on from its last checkpoint
                self.watcher.ended(run, done)
                return
            done = replace(done, outcome="failed", detail=f"{done.detail}, {_TRIES} times")
        if done.outcome == "finished":
            self.finished.add(run.key)
        elif asked or done.outcome == "interrupted":
            self.interrupted.add(run.key)
        else:
            self.failed[run.key] = done.detail
        self.watcher.ended(run, done)
        self._clear_forks()

    def _clear_forks(self) -> None:
        """Delete what nobody will begin from any more."""
        # a run that was stopped before its first step begins from there another time
        stopped = [self._runs[key] for key in (*self.interrupted, *self.failed) if not is_begun(self._runs[key].folder)]
        begin = (*self._waiting, *self._running.values(), *stopped)
        needed = {(self._runs[owner].folder, step) for run in begin for owner, step in run.forks_from}
        for run in self.plan.runs:
            left = {step for step in run.forks if (run.folder, step) in needed}
            for step in run.forks - left:
                shutil.rmtree(fork_folder(run.folder, step), ignore_errors=True)
            if not left and run.key not in self._running:  # with what a process left that was killed while it wrote one
                shutil.rmtree(run.folder / "forks", ignore_errors=True)
