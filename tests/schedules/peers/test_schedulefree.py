"""Schedule-free optimizers' warmups, against the `scheduled_lr` of the package itself where it is installed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.peers.schedulefree_ import BiasCorrection, Rectification
from yolo_cosine.schedules.presets import from_native

WARM = ("SGDScheduleFree", "AdamWScheduleFree", "AdamWScheduleFreePaper")
CLOSURES = ("SGDScheduleFreeClosure", "AdamWScheduleFreeClosure", "RAdamScheduleFreeClosure")


@pytest.fixture(scope="module")
def schedulefree():
    return pytest.importorskip("schedulefree", reason="the peer is not installed, so there is nothing to compare with")


def record(module, schedule, arguments, updates):
    """`scheduled_lr` that each update used."""
    import torch

    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = getattr(module, schedule)([weight], **arguments)
    if schedule not in CLOSURES:
        optimizer.train()

    def closure():
        weight.grad = torch.ones(1)
        return 0.0

    rates = []
    for _ in range(updates):
        optimizer.step(closure)
        rates.append(optimizer.param_groups[0]["scheduled_lr"])
    return rates


@pytest.mark.parametrize("schedule", [*WARM, "SGDScheduleFreeReference", "AdamWScheduleFreeReference", *CLOSURES[:2]])
@pytest.mark.parametrize("warmup_steps", [0, 1, 2, 7, 2.5, -3])
def test_every_update_of_a_warmup_has_the_peers_rate(schedulefree, schedule, warmup_steps):
    arguments = {"lr": 0.03, "warmup_steps": warmup_steps}
    ours = from_native("schedulefree", schedule, arguments, {"lr0": 0.03})
    assert [ours.lr(i) for i in range(12)] == pytest.approx(record(schedulefree, schedule, arguments, 12), rel=1e-12)


@pytest.mark.parametrize("schedule", ["RAdamScheduleFree", "RAdamScheduleFreeClosure"])
@pytest.mark.parametrize("beta2", [0.999, 0.95, 0.7, 0.6, 0.0])
@pytest.mark.parametrize("silent", [True, False])
def test_radam_is_rectified_as_the_peer_does(schedulefree, schedule, beta2, silent):
    arguments = {"lr": 0.01, "betas": (0.9, beta2), "silent_sgd_phase": silent}
    ours = from_native("schedulefree", schedule, arguments, {"lr0": 0.01})
    theirs = record(schedulefree, schedule, arguments, 40)
    assert [ours.lr(i) for i in range(40)] == pytest.approx(theirs, rel=1e-12, abs=1e-15)


@settings(max_examples=25, deadline=None)
@given(
    schedule=st.sampled_from(WARM),
    lr=st.floats(1e-5, 2.0),
    warmup_steps=st.one_of(st.integers(0, 30), st.floats(0.1, 30)),
)
def test_any_warmup_is_the_peers(schedulefree, schedule, lr, warmup_steps):
    arguments = {"lr": lr, "warmup_steps": warmup_steps}
    ours = from_native("schedulefree", schedule, arguments, {"lr0": lr})
    theirs = record(schedulefree, schedule, arguments, 32)
    assert [ours.lr(i) for i in range(32)] == pytest.approx(theirs, rel=1e-9, abs=1e-12 * lr)


def test_a_wrapped_optimizer_keeps_its_rate():
    native = from_native("schedulefree", "ScheduleFreeWrapper", {"momentum": 0.95}, {"lr0": 0.02})
    assert [native.lr(i) for i in (0, 1000)] == [0.02, 0.02]


def test_the_warmup_never_starts_at_0_and_is_over_one_update_early():
    native = from_native("schedulefree", "AdamWScheduleFree", {"warmup_steps": 4}, {})
    assert [native.lr(i) for i in (0, 3, 4, 10**9)] == pytest.approx([0.000625, 0.0025, 0.0025, 0.0025])


def test_the_rate_is_the_arguments_or_else_the_runs_or_else_the_peers():
    def rate(arguments, common, group=0):
        return from_native("schedulefree", "SGDScheduleFree", arguments, common).lr(5, group)

    assert rate({}, {}) == 1.0
    assert rate({}, {"lr0": 0.2}) == 0.2
    assert rate({"lr": 0.3}, {"lr0": 0.2}) == pytest.approx(0.3)
    assert rate({"lr": 0.3}, {"lr0": 0.0}) == pytest.approx(0.3)
    assert rate({"lr": 0.0}, {"lr0": 0.2}) == 0.0
    assert rate({"lr": 0.3}, {"lr0": [0.2, 0.1]}, 1) == 0.1  # a group's own rate wins, as in any torch optimizer


def test_rectification_approaches_1():
    assert Rectification(0.999)(10**7) == pytest.approx(1.0)
    assert BiasCorrection(0.999)(10**7) == 1.0


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        ("SGDScheduleFree", {"lr": -1}, "lr: -1 is below 0"),
        ("SGDScheduleFree", {"weight_decay": -1}, "weight_decay: -1 is below 0"),
        ("SGDScheduleFree", {"momentum": 0}, "momentum: 0 is not between 0 and 1"),
        ("SGDScheduleFreeClosure", {"momentum": 1.0}, "momentum: 1.0 is not between 0 and 1"),
        ("SGDScheduleFree", {"warmup": 5}, "warmup: there is no such argument; did you mean warmup_steps"),
        ("AdamWScheduleFree", {"decay_at_z": True}, "decay_at_z: there is no such argument"),
        ("RAdamScheduleFree", {"warmup_steps": 5}, "warmup_steps: there is no such argument"),
        ("RAdamScheduleFree", {"betas": (0.9, 1.0)}, "beta2: 1.0 is not from 0 to below 1"),
        ("AdamWScheduleFreePaper", {"betas": (0.9, -0.1)}, "beta2: -0.1 is not from 0 to below 1"),
        ("SGDScheduleFre", {}, "did you mean SGDScheduleFree"),
    ],
)
def test_mistakes_are_named(schedule, arguments, message):
    with pytest.raises(InvalidSchedule, match=message):
        from_native("schedulefree", schedule, arguments, {})
