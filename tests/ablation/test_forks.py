"""Which forks the loop keeps, and for how long."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from yolo_cosine.ablation.job import Done
from yolo_cosine.ablation.plan import Plan, PlannedRun
from yolo_cosine.ablation.run import Loop
from yolo_cosine.engine.fork import fork_folder


@pytest.fixture
def loop(tmp_path):
    """A loop whose second run begins from the first one, which has put its state aside."""
    first = PlannedRun("a", 0, tmp_path / "a", None, 20, forks=frozenset({8}))
    second = PlannedRun("b", 0, tmp_path / "b", None, 20, forks_from=((first.key, 8),))
    for name in (fork_folder(first.folder, 8), first.folder / "forks/.step-00000007.tmp"):
        name.mkdir(parents=True)
    watcher = SimpleNamespace(ended=lambda run, done: None)
    return Loop(Plan((first, second), {}), None, watcher, 1, set())


def end(loop, run, outcome, asked=False):
    loop._waiting = [other for other in loop._waiting if other is not run]
    loop._end(run, Done(None, outcome), asked)


@pytest.mark.parametrize(("outcome", "asked"), [("interrupted", True), ("died", True), ("failed", False)])
def test_a_fork_is_there_for_a_run_that_was_stopped_before_it_began(outcome, asked, loop):
    first, second = loop.plan.runs
    end(loop, first, "finished")
    end(loop, second, outcome, asked)
    assert fork_folder(first.folder, 8).is_dir()


def test_nothing_is_left_when_nobody_needs_it(loop):
    first, second = loop.plan.runs
    end(loop, first, "finished")
    assert fork_folder(first.folder, 8).is_dir()
    end(loop, second, "finished")
    assert not (first.folder / "forks").exists() and first.folder.is_dir()
