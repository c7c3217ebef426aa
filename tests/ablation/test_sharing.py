"""What runs have in common is trained once, and every run is, bit for bit, what it would have been by itself."""

from __future__ import annotations

import pytest
import torch

from tests.ablation.conftest import loop_of, plan_of, write_spec
from tests.faults.compare import Ending, differences
from yolo_cosine.ablation.job import Job, own_steps, run_job
from yolo_cosine.ablation.spec import load_ablation
from yolo_cosine.sinks.jsonl import read_records


def alone(run, folder):
    """The folder of the same run, trained by itself."""
    threads = torch.get_num_threads()
    config = {**run.config.model_dump(mode="json"), "runs": str(folder)}
    try:
        done = run_job(
            Job(run.variant, run.seed, str(folder / run.folder.name), config, threads=1, log=str(folder / "log"))
        )
    finally:
        torch.set_num_threads(threads)
    assert done.outcome == "finished", done.detail
    return folder / run.folder.name


def ending(run_dir):
    """What a run left behind, without what says where it lies and whose steps it took over."""
    found = Ending.read(run_dir)
    found.checkpoint.pop("config")
    found.record[:] = [r for r in found.record if not (r["event"] == "notice" and "steps are those of" in r["text"])]
    return found


def test_all_runs_end(ablated):
    _, plan = ablated
    records = [r for run in plan.runs for r in read_records(run.folder / "metrics.jsonl")]
    assert [r["reason"] for r in records if r["event"] == "end"] == 8 * ["finished"]


def test_what_is_shared_is_trained_once(ablated):
    _, plan = ablated
    # three steps of warmup and the first of the decay; mosaic ends after epoch 2, or 3; "longer" carries the trunk
    assert {run.variant: run.shared for run in plan.runs} == {"longer": 0, "cosine": 4, "late": 6, "constant": 9}
    for run in plan.runs:
        begun, taken = own_steps(run.folder)
        assert (begun, begun + taken) == (run.shared, run.steps)
        steps = [r["step"] for r in read_records(run.folder / "metrics.jsonl") if r["event"] == "step"]
        assert steps == list(range(run.steps))
    assert plan.steps == 2 * (12 * 3 + 15) and plan.steps_to_train == plan.steps - 2 * (4 + 6 + 9)


@pytest.mark.parametrize("variant", ["cosine", "late", "constant", "longer"])
def test_a_shared_run_equals_one_by_itself(ablated, variant, tmp_path):
    _, plan = ablated
    run = next(r for r in plan.runs if r.key == (variant, 1))
    assert differences(ending(run.folder), ending(alone(run, tmp_path)), saved="best") == []


def test_nothing_is_left_of_the_forks(ablated):
    _, plan = ablated
    assert [run.folder for run in plan.runs if (run.folder / "forks").exists()] == []


def test_without_sharing_every_run_begins_anew(small_shapes, tmp_path):
    plan = plan_of(load_ablation(write_spec(tmp_path, small_shapes), ["share=false"]))
    assert {run.shared for run in plan.runs} == {0} and plan.steps_to_train == plan.steps


def test_a_run_that_fails_does_not_keep_the_others(small_shapes, tmp_path):
    bad = {"curve": "constant", "lr0": 1e30, "nonfinite": {"skips": 0, "rewinds": 0}}
    plan = plan_of(load_ablation(write_spec(tmp_path, small_shapes, variants={"bad": bad, "good": {}}, seeds=1)))
    loop = loop_of(plan, places=1)
    loop.train()
    assert set(loop.failed) == {("bad", 0)} and "no finite number" in loop.failed["bad", 0]
    assert loop.finished == {("good", 0)}


def test_where_a_fork_never_comes_to_be_the_steps_are_trained(ablated, small_shapes, tmp_path):
    """As after the run that should have made it has failed, or was finished before anybody wanted it."""
    plan = plan_of(load_ablation(write_spec(tmp_path, small_shapes, seeds=1)))
    loop = loop_of(plan)
    loop.finished |= {run.key for run in plan.runs if run.variant != "late"}
    loop._waiting = [run for run in plan.runs if run.variant == "late"]
    loop.train()
    late = next(run for run in plan.runs if run.variant == "late")
    assert own_steps(late.folder) == (0, late.steps)
    forked = next(run for run in ablated[1].runs if run.key == ("late", 0))
    assert differences(ending(late.folder), ending(forked.folder), saved="best") == []
