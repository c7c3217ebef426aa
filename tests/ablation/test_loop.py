"""An ablation that is killed, stopped or loses a run's process goes on, and ends as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.ablation.conftest import loop_of, plan_of, write_spec
from tests.ablation.test_sharing import ending
from tests.faults.compare import differences
from yolo_cosine.ablation.job import own_steps
from yolo_cosine.ablation.spec import load_ablation

TWO = {"longer": {"curve": "constant", "epochs": 5}, "cosine": {"curve": "cosine"}}
DRIVER = """
import sys
from tests.ablation.conftest import loop_of, plan_of
from yolo_cosine.ablation.spec import load_ablation
if __name__ == "__main__":
    loop_of(plan_of(load_ablation(sys.argv[1]))).train()
"""


@pytest.fixture
def plan(small_shapes, tmp_path):
    return plan_of(load_ablation(write_spec(tmp_path, small_shapes, seeds=1, variants=TWO)))


def taken(run):
    found = own_steps(run.folder) if (run.folder / "config.yaml").is_file() else None
    return found[1] if found else 0


def processes_of(log):
    """Processes that write a run's log."""
    found = []
    for process in os.listdir("/proc"):
        if process.isdigit():
            try:
                files = [os.readlink(f"/proc/{process}/fd/{n}") for n in os.listdir(f"/proc/{process}/fd")]
            except OSError:
                continue
            if any(name == str(log) for name in files):
                found.append(int(process))
    return found


def once(run, steps, act):
    """A function for the loop to call that acts when a run has taken so many steps."""
    acted = []

    def look():
        if not acted and taken(run) >= steps and (found := processes_of(run.log)):
            acted.append(found)
            act(found)

    return look, acted


def check_as_undisturbed(plan, ablated):
    quiet = {run.key: run for run in ablated[1].runs}
    for run in plan.runs:
        assert differences(ending(run.folder), ending(quiet[run.key].folder), saved="once") == [], run.key


def test_a_run_whose_process_is_killed_goes_on(plan, ablated, monkeypatch):
    loop = loop_of(plan)
    monkeypatch.setattr("yolo_cosine.ablation.run._LOOK", 0.02)
    loop.watcher.looks, acted = once(plan.runs[0], 6, lambda found: os.kill(found[0], signal.SIGKILL))
    loop.train()
    assert acted and ("died", plan.runs[0].key) in loop.watcher.told
    assert loop.failed == {} and len(loop.finished) == 2
    check_as_undisturbed(plan, ablated)


def test_an_ablation_that_is_stopped_goes_on(plan, ablated, monkeypatch):
    asked = []
    loop = loop_of(plan, stopping=lambda: bool(asked))
    monkeypatch.setattr("yolo_cosine.ablation.run._LOOK", 0.02)
    loop.watcher.looks, _ = once(plan.runs[0], 6, asked.append)
    loop.train()
    assert plan.runs[0].key in loop.interrupted and len(loop.finished) < 2
    again = loop_of(plan)
    again.train()
    assert again.failed == {} and len(again.finished) == 2
    check_as_undisturbed(plan, ablated)


def test_the_runs_of_an_ablation_that_is_killed_save_and_stop(plan, ablated, small_shapes, tmp_path):
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    process = subprocess.Popen([sys.executable, str(driver), str(tmp_path / "tiny.yaml")], env=environment)
    first = plan.runs[0]
    deadline = time.monotonic() + 60
    while taken(first) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    while processes_of(first.log) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(first.log) == [] and taken(first) >= 4
    loop_of(plan).train()
    check_as_undisturbed(plan, ablated)
