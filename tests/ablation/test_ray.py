"""Runs on a Ray cluster, here of two workers on this machine, end as those that are trained without it."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read where Ray is imported
ray = pytest.importorskip("ray")

from tests.ablation.conftest import Listener, plan_of, write_spec  # noqa: E402
from tests.ablation.test_loop import TWO, check_as_undisturbed, once  # noqa: E402
from yolo_cosine.ablation.job import Job  # noqa: E402
from yolo_cosine.ablation.ray_executor import RayExecutor  # noqa: E402
from yolo_cosine.ablation.run import Loop  # noqa: E402
from yolo_cosine.ablation.spec import load_ablation  # noqa: E402
from yolo_cosine.errors import UserError  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


def planned(folder, data):
    return plan_of(load_ablation(write_spec(folder, data, seeds=1, variants=TWO)))


def loop_on_ray(plan, **keys):
    executor = RayExecutor(None, None, 1)
    assert executor.places == 2
    return Loop(plan, executor, Listener(), 1, set(), **keys)


def test_runs_that_are_killed_and_stopped_go_on(small_shapes, tmp_path, ablated, monkeypatch):
    monkeypatch.setattr("yolo_cosine.ablation.run._LOOK", 0.02)
    plan, asked = planned(tmp_path, small_shapes), []
    first = plan.runs[0]
    loop = loop_on_ray(plan, stopping=lambda: bool(asked))
    kill, killed = once(first, 5, lambda found: os.kill(found[0], signal.SIGKILL))
    stop, _ = once(first, 8, asked.append)

    def looks():
        kill()
        if ("died", first.key) in loop.watcher.told:
            stop()

    loop.watcher.looks = looks
    loop.train()
    assert killed and asked and loop.failed == {} and len(loop.finished) < 2
    assert [what for what, key in loop.watcher.told if key == first.key] == ["began", "died", "began", "interrupted"]
    # it was the run that stopped, not its process that was ended
    assert "stopped by SIGINT after" in first.log.read_text()
    again = loop_on_ray(plan)
    again.train()
    assert again.failed == {} and len(again.finished) == 2
    check_as_undisturbed(plan, ablated)


def test_a_job_that_fails_says_why_and_one_that_waits_can_be_stopped(tmp_path):
    executor = RayExecutor(None, 3, 1)
    config = {"data": str(tmp_path / "nothing.yaml"), "runs": str(tmp_path), "name": "a"}
    executor.start(Job("a", 0, str(tmp_path / "a"), config, threads=1, log=str(tmp_path / "a.log")))
    found = []
    while not found:
        found = executor.wait(0.1)
    assert [d.outcome for d in found] == ["failed"] and "nothing.yaml" in found[0].detail
    # Ray has two CPUs, and a task of another's has both
    taken = ray.remote(num_cpus=2)(lambda: time.sleep(30)).remote()
    time.sleep(1.0)
    executor.start(Job("b", 0, str(tmp_path / "b"), config, threads=1))
    assert executor.wait(0.1) == []
    executor.stop()
    deadline = time.monotonic() + 20
    while not (found := executor.wait(0.1)) and time.monotonic() < deadline:
        pass
    assert [d.outcome for d in found] == ["interrupted"]
    ray.cancel(taken, force=True)


def test_what_no_node_can_hold():
    with pytest.raises(UserError, match="threads: 3, and no node of the Ray cluster has more than 2 CPUs"):
        RayExecutor(None, None, 3)
    assert RayExecutor(None, None, 2).places == 1


def test_ray_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'yolo-cosine\[ray\]'"):
        RayExecutor(None)
