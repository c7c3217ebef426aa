"""What an ablation will train, told before it is trained."""

from __future__ import annotations

import multiprocessing
import re

import pytest

from tests.ablation.conftest import plan_of, write_spec
from yolo_cosine.ablation import estimate as estimating
from yolo_cosine.ablation.estimate import Cost, Estimate, measure
from yolo_cosine.ablation.plan_text import estimate_text, plan_text
from yolo_cosine.ablation.spec import load_ablation
from yolo_cosine.errors import UserError
from yolo_cosine.report.terminal_chart import legend


def planned(folder, data, **keys):
    ablation = load_ablation(write_spec(folder, data, **keys))
    return plan_of(ablation), ablation


def test_the_plan_in_words(tmp_path, small_shapes):
    plan, ablation = planned(tmp_path, small_shapes, seeds=3)
    text = plan_text(plan, ablation, colour=False)
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "tiny: 4 variants x 3 seeds (0, 1, 2) = 12 runs"
    assert "cosine    4 epochs of 3 steps (baseline); curve: cosine" in lines
    assert "longer    5 epochs of 3 steps; curve: constant, epochs: 5" in lines
    assert "longer: all of its 15 steps are trained" in lines
    for run in plan.runs:  # that the plan is right is tested elsewhere
        if run.forks_from:
            owner = run.forks_from[0][0][0]
            step = "step" if run.shared == 1 else "steps"
            left = run.steps - run.shared
            assert (
                f"{run.variant}: its first {run.shared} {step} are those of {owner}; it begins there and trains the last {left}"
                in lines
            )
    saved = 1 - plan.steps_to_train / plan.steps
    cost = (
        f"cost: {plan.steps_to_train} steps; each run by itself would make {plan.steps} steps, so {saved:.0%} are saved"
    )
    assert cost in lines
    order = next(line for line in lines if line.startswith("order: "))
    assert order.startswith("order: longer, ") and order.count("cosine") == 1
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("folder: ")) <= 100
    assert "⠀" in text or "⡇" in text  # the chart


def test_the_tree_is_indented_below_what_a_run_begins_from(tmp_path, small_shapes):
    plan, ablation = planned(tmp_path, small_shapes)
    lines = plan_text(plan, ablation, colour=False).splitlines()
    depth = {
        found[2]: len(found[1]) for line in lines if (found := re.match(r"( +)(\w+): (?:its first|all of its)", line))
    }
    assert set(depth) == set(ablation.variants)
    for run in plan.runs:
        if run.forks_from:
            assert depth[run.variant] == depth[run.forks_from[0][0][0]] + 2


def test_nothing_is_shared(tmp_path, small_shapes):
    text = plan_text(*planned(tmp_path, small_shapes, share=False), colour=False)
    assert "nothing is shared" in text and "cost: 102 steps\n" in text  # (3 * 12 + 15) * 2


def test_names_cannot_steer_the_terminal_and_phases_are_told_shortly(tmp_path, small_shapes):
    phases = [{"curve": "linear", "start": 0, "end": 1, "for": "1ep"}, {"curve": "constant", "for": "rest"}]
    variants = {"a\x1b[2J\nb": {"phases": phases}, "x" * 300: {"checkpoint": {"keep": 7}}, "base": None}
    text = plan_text(*planned(tmp_path, small_shapes, variants=variants), colour=False)
    assert "\x1b" not in text and "a?[2J?b" in text
    words = " ".join(text.split())
    assert "phases: linear for 1ep, constant for rest" in words
    assert "checkpoint.keep: 7" in words and "the base as it is" in words
    # two variants with the same rates are one line of the chart
    assert any(re.fullmatch(r" +x+\.\.\.x+, base", line) for line in text.splitlines())


def test_the_legend():
    assert legend(["a", "b"], colour=False).split() == ["a", "b"]
    assert legend(["a", "b"], colour=True).count("\x1b[34m") == 1


@pytest.mark.parametrize(
    ("every", "first", "last", "expected"),
    [("1ep", 0, 12, 4), ("2ep", 0, 12, 2), ("5it", 0, 12, 3), ("5it", 5, 12, 2), ("1ep", 3, 11, 2), ("100ep", 0, 12, 1),
     ("100ep", 0, 11, 0), ("1ep", 12, 12, 0), ("100ep", 12, 12, 0)],
)  # fmt: skip
def test_evaluations_of_a_stretch(tmp_path, small_shapes, every, first, last, expected):
    variants = {"a": {"eval_every": every}, "b": {"eval_every": every, "curve": "linear"}}
    plan, _ = planned(tmp_path, small_shapes, variants=variants)
    assert estimating._evaluations(plan, plan.runs[0], first, last) == expected


def test_an_estimate_is_measured_and_leaves_nothing_behind(tmp_path, small_shapes, monkeypatch):
    monkeypatch.chdir(tmp_path)
    variants = {"small": None, "other curve": {"curve": "linear"}, "large": {"imgsz": 160}}
    plan, ablation = planned(tmp_path, small_shapes, variants=variants, share=False)
    before = sorted(tmp_path.rglob("*"))
    estimate = measure(plan, 2, 1, seconds=0.3)
    assert sorted(tmp_path.rglob("*")) == before and not multiprocessing.active_children()
    small, large = estimate.costs
    assert small.variants == ("small", "other curve") and large.variants == ("large",)
    assert all(value > 0 for cost in (small, large) for value in (cost.step, cost.evaluation, cost.start))
    assert small.steps >= 2  # an update has two; the mean of both processes
    assert estimate.evaluations == 6 * 4
    work = sum(
        2 * len(cost.variants) * (12 * cost.step + 4 * cost.evaluation) for cost in estimate.costs
    )  # of which two places do half each, and begin three runs
    start = (2 * small.start + large.start) / 3
    assert work / 2 + 3 * start <= estimate.seconds * 1.001 < work + 6 * start
    text = plan_text(plan, ablation, estimate, colour=False)
    assert "2 runs at a time, 1 thread each" in text and "small, other curve: " in text
    assert "an evaluation (all 10 images)" in text and "24 evaluations" in " ".join(text.split())


def test_a_long_evaluation_is_broken_off(small_shapes):
    class Evaluator:
        batch = 2

        class store:
            index = range(100)

        def __call__(self, model):
            for _ in range(50):
                self.between_batches()

    class Trainer:
        evaluator, ema = Evaluator(), type("Ema", (), {"model": None})

    assert estimating._time_evaluation(Trainer, 0.0)[1] == 4
    assert estimating._time_evaluation(Trainer, 60.0)[1] == 100


def test_what_cannot_be_trained_is_a_mistake(tmp_path, small_shapes):
    plan, _ = planned(tmp_path, small_shapes, variants={"a": None, "b": {"imgsz": 100}})
    with pytest.raises(UserError, match="imgsz: 100 is no multiple of the stride"):
        measure(plan, 2, 1, seconds=0.1)
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed(tmp_path, small_shapes, monkeypatch):
    plan, _ = planned(tmp_path, small_shapes)
    monkeypatch.setattr(estimating, "_work", _die)
    with pytest.raises(UserError, match=r"killed by SIGKILL.*of 2 that train at a time; write a smaller parallel"):
        measure(plan, 2, 1, seconds=0.1)


def _die(*arguments):
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def test_the_words_of_an_estimate():
    cost = Cost(("a", "b"), 2.0, 0.123456, 41, 250.0, 64, 5000)
    text = " ".join(estimate_text(Estimate(3723.0, 12, 1, None, (cost,))).split())
    assert text.startswith("expected time on this machine: 1:02:03, one run at a time measured just now in one process")
    assert "0.123 s a step (41 steps), 4:10 an evaluation (64 of 5,000 images), 2 s to begin a run" in text
