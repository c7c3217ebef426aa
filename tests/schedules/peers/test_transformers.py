"""transformers' schedules: equal to transformers itself, and clear about mistakes."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.compose import Join
from yolo_cosine.schedules.curves import Constant, InvalidSchedule, InverseSqrt, Linear
from yolo_cosine.schedules.cycles import CosinePeriodic, CosineRestarts
from yolo_cosine.schedules.presets import from_native

LR0S = [1e-3, 1e-4]

TABLE = [  # (schedule, num_warmup_steps, num_training_steps, the other arguments)
    ("constant", None, None, {}),
    ("constant", 7, 20, {}),
    ("constant_with_warmup", 0, None, {}),
    ("constant_with_warmup", 7, 5, {}),
    ("constant_with_warmup", 2.5, None, {}),
    ("constant_with_warmup", 0.5, None, {}),
    ("linear", 0, 1, {}),
    ("linear", 0, 0, {}),
    ("linear", 5, 20, {}),
    ("linear", 5.5, 20.25, {}),
    ("linear", 0.25, 20, {}),
    ("linear", 19.5, 20, {}),
    ("linear", 20, 20, {}),
    ("linear", 30, 20, {}),
    ("cosine", 0, 1, {}),
    ("cosine", 5, 20, {}),
    ("cosine", 30, 20, {}),
    ("cosine", 5, 20, {"num_cycles": 2}),
    ("cosine", 5, 20, {"num_cycles": 1.3}),
    ("cosine", 5, 20, {"num_cycles": 0}),
    ("cosine", 5, 20, {"num_cycles": -0.5}),
    ("cosine_with_min_lr", 5, 20, {"min_lr": 1e-5}),
    ("cosine_with_min_lr", 5, 20, {"min_lr": 5e-3}),
    ("cosine_with_min_lr", 5, 20, {"min_lr": -1e-4}),
    ("cosine_with_min_lr", 0, 20, {"min_lr_rate": 0.3, "num_cycles": 1}),
    ("cosine_with_min_lr", 25, 20, {"min_lr_rate": 0.3}),
    ("cosine_warmup_with_min_lr", 0, 20, {"min_lr": 1e-5}),
    ("cosine_warmup_with_min_lr", 1, 20, {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", 0.5, 20, {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", 5, 20, {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", 5.5, 20, {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", 25, 20, {"min_lr_rate": 0.1}),
    ("cosine_warmup_with_min_lr", 5, 20, {"min_lr_rate": -0.2, "num_cycles": 1.5}),
    ("cosine_warmup_with_min_lr", 5, 20, {"min_lr_rate": 0.0, "warmup_lr_rate": 0.3}),
    ("cosine_warmup_with_min_lr", 1, 20, {"min_lr_rate": 0.0, "warmup_lr_rate": 0.3}),
    ("cosine_warmup_with_min_lr", 1.5, 20, {"min_lr_rate": 0.0, "warmup_lr_rate": 0}),
    ("cosine_with_restarts", 0, 20, {}),
    ("cosine_with_restarts", 5, 20, {"num_cycles": 4}),
    ("cosine_with_restarts", 30, 20, {"num_cycles": 4}),
    ("cosine_with_restarts", 5, 20, {"num_cycles": 2.5}),
    ("cosine_with_restarts", 5, 20, {"num_cycles": 0.5}),
    ("cosine_with_restarts", 5, 20, {"num_cycles": 0}),
    ("polynomial", 5, 20, {}),
    ("polynomial", 0, 20, {"lr_end": 0, "power": 2}),
    ("polynomial", 5, 20.5, {"lr_end": 1e-5, "power": 0.5}),
    ("polynomial", 5, 20, {"lr_end": 1e-4, "power": 0}),
    ("polynomial", 5, 20, {"lr_end": -1e-4}),
    ("polynomial", 30, 20, {"lr_end": 1e-5, "power": 3}),
    ("inverse_sqrt", 0, None, {}),
    ("inverse_sqrt", 5, None, {}),
    ("inverse_sqrt", 5, 20, {"timescale": 2}),
    ("inverse_sqrt", 5, None, {"timescale": 500}),
    ("warmup_stable_decay", 0, 30, {"num_decay_steps": 0}),
    ("warmup_stable_decay", 5, 30, {"num_decay_steps": 10}),
    ("warmup_stable_decay", 5, 30, {"num_decay_steps": 10, "num_stable_steps": 2}),
    ("warmup_stable_decay", 5, None, {"num_decay_steps": 10, "num_stable_steps": 0, "min_lr_ratio": 0.2}),
    ("warmup_stable_decay", 5, None, {"num_decay_steps": 10, "num_stable_steps": -3, "min_lr_ratio": 0.2}),
    ("warmup_stable_decay", 5, 30, {"num_decay_steps": 10, "num_cycles": 1.2, "min_lr_ratio": 0.2}),
    ("warmup_stable_decay", 5, 30, {"num_decay_steps": 10, "num_cycles": 0, "min_lr_ratio": 0.2}),
    ("warmup_stable_decay", 15, 20, {"num_decay_steps": 10, "decay_type": "linear", "min_lr_ratio": 0.1}),
    ("warmup_stable_decay", 25, 20, {"num_decay_steps": 10, "decay_type": "1-sqrt", "min_lr_ratio": 0.1}),
    ("warmup_stable_decay", 6, 30, {"num_decay_steps": 9, "warmup_type": "cosine", "decay_type": "1-sqrt"}),
    ("warmup_stable_decay", 6, 30, {"num_decay_steps": 9, "warmup_type": "1-sqrt", "min_lr_ratio": 0.1}),
]


@pytest.fixture(scope="module")
def theirs():
    """A function that makes the peer's own scheduler, and its optimizer with two groups."""
    torch = pytest.importorskip("torch", reason="transformers schedules an optimizer of torch")
    module = pytest.importorskip("transformers.optimization", reason="parity with transformers needs transformers")

    def make(name, warmup=None, total=None, kwargs=None, lr0s=LR0S):
        groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr0} for lr0 in lr0s]
        optimizer = torch.optim.SGD(groups, lr=lr0s[0])
        scheduler = module.get_scheduler(name, optimizer, warmup, total, kwargs)
        optimizer.step()  # torch warns where a scheduler is stepped first
        return optimizer, scheduler

    return make


def ours(name, warmup, total, kwargs, lr0s=LR0S):
    arguments = {"num_warmup_steps": warmup, "num_training_steps": total, **kwargs}
    return from_native("transformers", name, arguments, {"lr0": lr0s})


@pytest.mark.parametrize(("name", "warmup", "total", "kwargs"), TABLE)
def test_equals_the_peer(theirs, name, warmup, total, kwargs):
    optimizer, scheduler = theirs(name, warmup, total, kwargs)
    schedule = ours(name, warmup, total, kwargs)
    for step in range(50):
        for k, group in enumerate(optimizer.param_groups):
            assert schedule.lr(step, k) == pytest.approx(group["lr"], rel=1e-12, abs=1e-18), step
        scheduler.step()


counts = st.integers(0, 300)
rates = st.floats(0, 1)
KWARGS = {
    "constant_with_warmup": st.just({}),
    "linear": st.just({}),
    "cosine": st.fixed_dictionaries({"num_cycles": st.floats(0, 5)}),
    "cosine_with_restarts": st.fixed_dictionaries({"num_cycles": st.integers(1, 12)}),
    "polynomial": st.fixed_dictionaries({"lr_end": st.floats(0, 9e-4), "power": st.floats(0.1, 4)}),
    "inverse_sqrt": st.fixed_dictionaries({"timescale": st.none() | st.integers(1, 1000)}),
    "cosine_with_min_lr": st.fixed_dictionaries({"min_lr": st.floats(0, 2e-3), "num_cycles": st.floats(0, 5)}),
    "cosine_warmup_with_min_lr": st.fixed_dictionaries({"min_lr_rate": rates, "warmup_lr_rate": st.none() | rates}),
    "warmup_stable_decay": st.fixed_dictionaries(
        {
            "num_decay_steps": counts,
            "num_stable_steps": st.none() | counts,
            "warmup_type": st.sampled_from(["linear", "cosine", "1-sqrt"]),
            "decay_type": st.sampled_from(["linear", "cosine", "1-sqrt"]),
            "min_lr_ratio": rates,
            "num_cycles": st.sampled_from([0.5, 1, 1.7]),
        }
    ),
}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(sorted(KWARGS)), warmup=counts, total=counts, data=st.data())
def test_equals_the_peer_whatever_the_arguments(theirs, name, warmup, total, data):
    kwargs = data.draw(KWARGS[name])
    if name == "polynomial" and warmup == total:
        total += 1
    _, scheduler = theirs(name, warmup, total, kwargs)
    factor, schedule = scheduler.lr_lambdas[0], ours(name, warmup, total, kwargs)
    steps = {0, 1, warmup - 1, warmup, warmup + 1, total - 1, total, total + 1, 1000, *range(0, 350, 7)}
    for step in sorted(step for step in steps if step >= 0):
        rest = max(1, total - warmup)
        if name == "cosine_with_restarts" and kwargs["num_cycles"] * (step - warmup) % rest == 0 and step > warmup:
            continue  # on a restart the peer rounds, see below
        assert schedule.lr(step) == pytest.approx(1e-3 * factor(step), rel=1e-9, abs=1e-15), step


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    metrics=st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.5, 0.50001, 1.0, -1.0, math.nan]), max_size=40),
    kwargs=st.fixed_dictionaries(
        {},
        optional={
            "mode": st.sampled_from(["min", "max"]),
            "factor": st.sampled_from([0.5, 0.9]),
            "patience": st.integers(0, 2),
            "threshold": st.sampled_from([0.0, 0.05]),
            "threshold_mode": st.sampled_from(["rel", "abs"]),
            "cooldown": st.integers(0, 3),
            "min_lr": st.sampled_from([0.0, 5e-5, [2e-4, 2e-4]]),
            "eps": st.sampled_from([0.0, 1e-8, 1e-5]),
        },
    ),
    greedy=st.none()
    | st.fixed_dictionaries(
        {},
        optional={
            "warmup": st.integers(0, 3),
            "max_lr": st.sampled_from([1.0, 2e-3, [2e-3, 1e-4]]),
            "smooth": st.booleans(),
            "window_size": st.integers(1, 4),
            "reset_start": st.integers(0, 3),
        },
    ),
)
def test_those_that_follow_a_metric_equal_the_peer(theirs, metrics, kwargs, greedy):
    name = "reduce_lr_on_plateau" if greedy is None else "greedy"
    kwargs |= greedy or {}
    optimizer, scheduler = theirs(name, kwargs=kwargs)
    schedule = from_native("transformers", name, {"metrics": metrics, **kwargs}, {"lr0": LR0S})
    for step in range(len(metrics) + 1):
        for k, group in enumerate(optimizer.param_groups):
            assert schedule.lr(step, k) == pytest.approx(group["lr"], rel=1e-12), step
        if step < len(metrics):
            scheduler.step(metrics[step])
    assert schedule.lr(10**6) == schedule.lr(len(metrics))


@pytest.mark.parametrize("warmup_init", [False, True])
@pytest.mark.parametrize("step", [0, 1, 9_998, 9_999, 10_000, 123_456])
def test_adafactor_equals_the_peer(warmup_init, step):
    module = pytest.importorskip("transformers.optimization", reason="parity with transformers needs transformers")
    group = {"lr": None, "relative_step": True, "warmup_init": warmup_init, "scale_parameter": False}
    arguments = {"warmup_init": warmup_init, "scale_parameter": False}
    schedule = from_native("transformers", "adafactor", arguments)
    assert schedule.lr(step) == pytest.approx(module.Adafactor._get_lr(group, {"step": step + 1}), rel=1e-12)


def test_adafactor_says_what_it_does_not_know():
    (note,) = from_native("transformers", "AdafactorSchedule", {}).notes
    assert "root mean square" in note


def test_a_restart_that_the_peer_misses_is_not_missed():
    schedule = ours("cosine_with_restarts", 0, 88, {"num_cycles": 22})
    assert [schedule.lr(step) for step in range(0, 88, 4)] == [1e-3] * 22
    assert schedule.lr(88) == 0.0
    assert schedule.notes == (
        "transformers misses the restart at step 60 by rounding and gives about 0 there; not imitated",
    )


@pytest.mark.parametrize(("rest", "cycles"), [(90, 21), (30, 7), (100, 3), (45, 27), (1000, 350)])
def test_restarts_fall_on_their_steps(rest, cycles):
    schedule = ours("cosine_with_restarts", 10, 10 + rest, {"num_cycles": cycles})
    peaks = {k * rest // cycles for k in range(cycles) if k * rest % cycles == 0}
    assert {step for step in range(rest) if schedule.lr(10 + step) == 1e-3} == peaks


def test_warmups_start_at_0_but_for_two():
    assert ours("linear", 4, 20, {}).lr(0) == 0.0
    assert ours("cosine_warmup_with_min_lr", 4, 20, {"min_lr_rate": 0.1}).lr(0) == 0.25e-3
    wsd = {"num_decay_steps": 5, "min_lr_ratio": 0.5}
    assert ours("warmup_stable_decay", 4, 20, wsd).lr(0) == 0.5e-3


def test_past_the_end_the_cosine_rises_and_others_hold():
    assert ours("cosine", 0, 20, {}).lr(40) == pytest.approx(1e-3)
    assert ours("cosine_with_restarts", 0, 20, {}).lr(40) == 0.0
    assert ours("linear", 0, 20, {}).lr(40) == 0.0
    assert ours("polynomial", 0, 20, {}).lr(40) == pytest.approx(1e-7)


def test_a_minimum_is_a_share_of_the_first_rate():
    schedule = ours("polynomial", 0, 20, {"lr_end": 1e-4})
    assert [schedule.lr(20, k) for k in (0, 1)] == pytest.approx([1e-4, 1e-5])


def test_a_polynomial_without_a_decay_has_no_value_at_the_end():
    schedule = ours("polynomial", 20, 20, {})
    assert schedule.lr(19) == pytest.approx(0.95e-3)
    with pytest.raises(InvalidSchedule, match="num_warmup_steps: 20 is the whole run"):
        schedule.lr(20)
    assert schedule.lr(21) == pytest.approx(1e-7)


COMPOSED = [
    ("linear", {}, Join((Linear(0.0, 1.0, 10), Linear(1.0, 0.0, 90)), (0, 10))),
    ("cosine", {}, Join((Linear(0.0, 1.0, 10), CosinePeriodic(1.0, 0.0, 90)), (0, 10))),
    (
        "cosine_with_restarts",
        {"num_cycles": 1.5},
        Join((Linear(0.0, 1.0, 10), CosineRestarts(1.0, 0.0, 60), Constant(0.0)), (0, 10, 100)),
    ),
    ("inverse_sqrt", {}, Join((Linear(0.0, 1.0, 10), InverseSqrt(1.0, 10)), (0, 10))),
]


@pytest.mark.parametrize(("name", "kwargs", "expected"), COMPOSED)
def test_is_composed_of_curves_that_all_groups_share(name, kwargs, expected):
    assert ours(name, 10, 100, kwargs).factors == (expected, expected)


def test_get_scheduler_names_the_schedule():
    arguments = {"name": "cosine_with_min_lr", "num_warmup_steps": 5, "scheduler_specific_kwargs": {"min_lr": 1e-5}}
    schedule = from_native("transformers", "get_scheduler", arguments, {"lr0": LR0S, "total_iters": 20})
    assert schedule == ours("cosine_with_min_lr", 5, 20, {"min_lr": 1e-5})
    ignored = {"name": "constant_with_warmup", "num_warmup_steps": 5, "scheduler_specific_kwargs": {"num_cycles": 3}}
    assert from_native("transformers", "get_scheduler", ignored).lr(9) == 1.0
    greedy = {"name": "greedy", "scheduler_specific_kwargs": {"metrics": [1.0, 1.0], "patience": 0, "min_lr": 0}}
    schedule = from_native("transformers", "get_scheduler", greedy, {"lr0": 0.5})
    assert [schedule.lr(k) for k in range(3)] == pytest.approx([0.5, 0.5 / 0.95, 0.5])


@pytest.mark.parametrize(("given_steps", "steps"), [(0, 0), (0.06, 21), (0.5, 172), (1, 1), (21.9, 21), (0.0001, 1)])
def test_the_trainer_takes_a_share_for_its_warmup(given_steps, steps):
    schedule = from_native("transformers", "Trainer", {"warmup_steps": given_steps}, {"lr0": LR0S, "total_iters": 344})
    assert schedule == ours("linear", steps, 344, {})


def test_the_trainers_warmup_equals_its_own():
    args = pytest.importorskip("transformers.training_args", reason="parity with transformers needs transformers")
    for share in (0.0, 0.03, 0.1, 0.999, 1.0, 7.8):
        fake = type("Arguments", (), {"warmup_steps": share})()
        warmup = args.TrainingArguments.get_warmup_steps(fake, 137)
        made = from_native("transformers", "Trainer", {"warmup_steps": share, "max_steps": 137}, {"lr0": LR0S})
        assert made == ours("linear", warmup, 137, {})


MISTAKES = [
    (
        "linear",
        {"num_warmup_steps": -1, "num_training_steps": 9},
        "num_warmup_steps: -1 is no number of steps; write 0",
    ),
    ("linear", {"num_warmup_steps": math.nan, "num_training_steps": 9}, "num_warmup_steps: nan is no number of steps"),
    (
        "linear",
        {"num_warmup_steps": None, "num_training_steps": 9},
        "num_warmup_steps is None, and this schedule needs it",
    ),
    ("linear", {"num_warmup_steps": 1, "num_training_steps": None}, "num_training_steps is None"),
    ("linear", {"num_warmup_steps": 1}, "num_training_steps is missing; give it, or the run's total_iters"),
    ("linear", {"num_training_steps": 9}, "num_warmup_steps is missing; write num_warmup_steps="),
    ("linear", {"num_warmup_steps": "10", "num_training_steps": 9}, "wrong type"),
    ("linear", {"warmup_steps": 1, "num_training_steps": 9}, "warmup_steps: .* did you mean num_warmup_steps"),
    ("cosine", {"num_warmup_steps": 1, "num_training_steps": 9, "num_cycles": "2"}, "wrong type"),
    (
        "cosine_with_restarts",
        {"num_warmup_steps": 1, "num_training_steps": 9, "num_cycles": -1},
        "num_cycles: -1 is no",
    ),
    ("cosine_with_min_lr", {"num_warmup_steps": 1, "num_training_steps": 9}, "min_lr is missing, and min_lr_rate too"),
    (
        "cosine_with_min_lr",
        {"num_warmup_steps": 1, "num_training_steps": 9, "min_lr": 0, "min_lr_rate": 0},
        "min_lr: 0 stands beside min_lr_rate=0; leave one out",
    ),
    ("cosine_with_min_lr", {"num_warmup_steps": 1, "num_training_steps": 9, "min_lr": "1e-5"}, "wrong type"),
    (
        "cosine_warmup_with_min_lr",
        {"num_warmup_steps": 1, "num_training_steps": 9, "min_lr_rate": 0.1, "warmup_lr_rate": -1},
        "warmup_lr_rate: -1 is below 0",
    ),
    (
        "polynomial",
        {"num_warmup_steps": 1, "num_training_steps": 9, "lr_end": 1.0},
        "lr_end: 1 is not below the default rate 1; write a lower one",
    ),
    ("polynomial", {"num_warmup_steps": 1, "num_training_steps": 9, "power": -1}, "power: -1 is below 0"),
    ("polynomial", {"num_warmup_steps": 0, "num_training_steps": 0}, "num_warmup_steps: 0 is the whole run"),
    ("inverse_sqrt", {"num_warmup_steps": 1, "timescale": 0}, "timescale: 0 steps is no length"),
    ("warmup_stable_decay", {"num_warmup_steps": 1, "num_decay_steps": 1}, "num_stable_steps is missing, and"),
    (
        "warmup_stable_decay",
        {"num_warmup_steps": 1, "num_decay_steps": 1, "num_stable_steps": 1, "warmup_type": "sqrt"},
        "warmup_type: 'sqrt' is unknown; write one of linear, cosine, 1-sqrt",
    ),
    (
        "warmup_stable_decay",
        {"num_warmup_steps": 1, "num_decay_steps": 1, "num_stable_steps": 1, "decay_type": "exp"},
        "decay_type: 'exp' is unknown",
    ),
    (
        "warmup_stable_decay",
        {"num_warmup_steps": 1, "num_decay_steps": 1, "num_stable_steps": 1, "min_lr_ratio": -0.1},
        "min_lr_ratio: -0.1 is below 0",
    ),
    ("get_scheduler", {"name": "cosin"}, "name: 'cosin' is no schedule of get_scheduler; write one of linear, cosine"),
    (
        "get_scheduler",
        {"name": "linear", "num_warmup_steps": 1, "num_training_steps": 9, "scheduler_specific_kwargs": {"power": 2}},
        "power: there is no such argument",
    ),
    ("Trainer", {"max_steps": 10, "warmup_steps": -1}, "warmup_steps: -1 is below 0; write 0"),
    ("Trainer", {}, "total_iters is missing"),
    ("reduce_lr_on_plateau", {}, "metrics is missing; write metrics="),
    ("reduce_lr_on_plateau", {"metrics": [], "factor": 1.0}, "factor: 1 lowers nothing"),
    ("reduce_lr_on_plateau", {"metrics": [], "min_lr": [0, 0]}, "min_lr: 2 for 1 groups; write one for all"),
    ("greedy", {"metrics": [], "factor": 1.0}, "factor: 1 is not between 0 and 1"),
    ("greedy", {"metrics": [], "mode": "up"}, "mode: 'up' is unknown; write min or max"),
    ("greedy", {"metrics": [], "threshold_mode": "up"}, "threshold_mode: 'up' is unknown; write rel or abs"),
    ("greedy", {"metrics": [], "patience": -1}, "patience: -1 is below 0"),
    ("greedy", {"metrics": [], "smooth": True, "window_size": 0}, "window_size: 0 averages nothing"),
    ("greedy", {"metrics": [], "max_lr": [1.0, 1.0]}, "max_lr: 2 for 1 groups"),
]


@pytest.mark.parametrize(("schedule", "arguments", "message"), MISTAKES)
def test_mistakes(schedule, arguments, message):
    with pytest.raises(InvalidSchedule, match=message):
        from_native("transformers", schedule, arguments)
