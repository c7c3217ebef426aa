"""MultimediaTechLab/YOLO's schedules against PyTorch's own schedulers, called as that project calls them.

It is no package. The order of the calls is that of `yolo/utils/model_utils.py` and `yolo/tools/solver.py`
(MultimediaTechLab/YOLO, c4cb5f6): the scheduler is built before the warmup, SequentialLR joins them at `w - 1`, every
epoch draws its lines towards the rates that it finds, and the scheduler is stepped after it.
"""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.presets import from_native

STEPS_PER_EPOCH = 4


def replay(name: str, arguments: dict, warmup: float | None, lr0: float, epochs: int) -> list[list[float]]:
    """Every step's learning rates of the bias, conv and norm groups."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(3)]
    optimizer = torch.optim.SGD(groups, lr=lr0, momentum=0.937)
    schedulers = torch.optim.lr_scheduler
    scheduler = getattr(schedulers, name)(optimizer, **arguments)
    if warmup is not None:

        def share(epoch: int) -> float:
            return (epoch + 1) / warmup if epoch < warmup else 1.0

        ramp = schedulers.LambdaLR(optimizer, [lambda e: 10 - 9 * share(e), share, share])
        scheduler = schedulers.SequentialLR(optimizer, [ramp, scheduler], [warmup - 1])
    before, steps = [0.1, 0.0, 0.0], []
    for _ in range(epochs):
        towards = [group["lr"] for group in optimizer.param_groups]
        for batch in range(1, STEPS_PER_EPOCH + 1):
            share_done = batch / STEPS_PER_EPOCH
            steps.append([a + (b - a) * share_done for a, b in zip(before, towards, strict=True)])
            for group, rate in zip(optimizer.param_groups, steps[-1], strict=True):
                group["lr"] = rate
        before = towards
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scheduler.step()
    return steps


def ours(name: str, arguments: dict, warmup: float | None = None, lr0: float = 0.01, **optimizer):
    scheduler = {"type": name, "args": arguments, "warmup_epochs": warmup}
    return from_native(
        "mtl_yolo", f"{name}+warmup", {"scheduler": scheduler, "optimizer": {"lr": lr0, **optimizer}},
        {"iters_per_epoch": STEPS_PER_EPOCH},
    )  # fmt: skip


def assert_equal(name: str, arguments: dict, warmup: float | None, lr0: float = 0.01, epochs: int = 12) -> None:
    found = ours(name, arguments, warmup, lr0)
    for k, rates in enumerate(replay(name, arguments, warmup, lr0, epochs)):
        assert [found.lr(k, g) for g in range(3)] == pytest.approx(rates, rel=1e-9, abs=1e-13), f"step {k}"


SCHEDULERS = [
    ("LinearLR", {"start_factor": 1, "end_factor": 0.01, "total_iters": 12}),
    ("LinearLR", {"start_factor": 0.5, "end_factor": 0.1, "total_iters": 5}),
    ("CosineAnnealingLR", {"T_max": 6, "eta_min": 0.0001}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2, "eta_min": 0.001}),
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [2, 5], "gamma": 0.1}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("PolynomialLR", {"total_iters": 8, "power": 2.0}),
    ("ConstantLR", {"factor": 0.25, "total_iters": 4}),
    ("OneCycleLR", {"max_lr": 0.05, "total_steps": 20}),
    ("CyclicLR", {"base_lr": 0.001, "max_lr": 0.02, "step_size_up": 3}),
]


@pytest.mark.parametrize("warmup", [None, 0, 0.5, 1.0, 2, 2.5, 3.0, 20.0])
@pytest.mark.parametrize(("name", "arguments"), SCHEDULERS, ids=str)
def test_every_step_is_the_peers(name, arguments, warmup):
    assert_equal(name, arguments, warmup)


@settings(max_examples=25, deadline=None)
@given(
    scheduler=st.one_of(
        st.tuples(
            st.just("LinearLR"),
            st.fixed_dictionaries(
                {
                    "start_factor": st.floats(0.01, 1),
                    "end_factor": st.floats(0, 1),
                    "total_iters": st.integers(1, 30),
                }
            ),
        ),
        st.tuples(
            st.just("CosineAnnealingLR"),
            st.fixed_dictionaries({"T_max": st.integers(1, 30), "eta_min": st.floats(0, 0.1)}),
        ),
    ),
    warmup=st.one_of(st.none(), st.integers(0, 15), st.floats(0, 15)),
    lr0=st.floats(1e-4, 1),
)
def test_any_arguments_give_the_peers_steps(scheduler, warmup, lr0):
    assert_equal(*scheduler, warmup, lr0)


def test_only_an_epochs_last_step_has_its_value():
    found = ours("LinearLR", {"start_factor": 1, "end_factor": 0.01, "total_iters": 20}, warmup=3.0)
    ends = [STEPS_PER_EPOCH * epoch - 1 for epoch in range(1, 4)]
    assert [found.lr(k, "conv") for k in ends] == pytest.approx([0.01 / 3, 0.02 / 3, 0.01])
    assert [found.lr(k, "bias") for k in ends] == pytest.approx([0.07, 0.04, 0.01])
    assert found.lr(0, "conv") == pytest.approx(0.01 / 3 / STEPS_PER_EPOCH)
    assert found.lr(0, "bias") == pytest.approx(0.1 + (0.07 - 0.1) / STEPS_PER_EPOCH)


def test_the_first_epoch_starts_from_zero_without_a_warmup_too():
    found = ours("LinearLR", {"start_factor": 1, "end_factor": 0.01, "total_iters": 8})
    assert found.lr(0, "norm") == pytest.approx(0.01 / STEPS_PER_EPOCH)
    assert found.lr(STEPS_PER_EPOCH - 1, "norm") == pytest.approx(0.01)


def test_past_its_period_the_cosine_rises_again():
    found = ours("CosineAnnealingLR", {"T_max": 5})
    assert found.lr(STEPS_PER_EPOCH * 6 - 1) == pytest.approx(0.0, abs=1e-12)
    assert found.lr(STEPS_PER_EPOCH * 11 - 1) == pytest.approx(0.01)


def test_momentum_takes_three_epochs_whatever_the_configuration_says():
    found = ours("LinearLR", {"total_iters": 8}, warmup=1.0, momentum=0.5)
    n = 3 * STEPS_PER_EPOCH
    momenta = [found.momentum(k) for k in (0, n // 2 - 1, n - 1, n, 10 * n)]
    assert momenta == pytest.approx([0.8 + 0.137 / n, 0.8685, 0.937, 0.937, 0.937])


def test_the_configuration_may_be_written_as_in_its_own_file():
    arguments = {"start_factor": 1, "end_factor": 0.01, "total_iters": 8}
    own = {"type": "LinearLR", "warmup": {"epochs": 3.0}, "args": arguments}
    found = from_native(
        "mtl_yolo", "LinearLR", {"scheduler": own, "optimizer": {"type": "SGD", "args": {"lr": 0.01}}},
        {"iters_per_epoch": STEPS_PER_EPOCH},
    )  # fmt: skip
    assert found.factors == ours("LinearLR", arguments, warmup=3.0).factors
    assert found.factors[1] == found.factors[2] != found.factors[0]


@pytest.mark.parametrize(
    ("name", "native", "message"),
    [
        ("LinearLR", {"scheduler": {"type": "StepLR"}}, r"scheduler\.type: 'StepLR' is not the schedule 'LinearLR'"),
        ("LinearLR", {"scheduler": {"warm": 3}}, r"scheduler\.warm: there is no such key"),
        ("LinearLR", {"optimizer": {"lr": -1.0}}, r"lr: -1\.0 .* write a rate above 0"),
        ("LinearLR", {"scheduler": {"warmup_epochs": "3"}}, r"warmup\.epochs: '3' is no finite number"),
        ("LinearLR", {"scheduler": {"args": {"total_iter": 3}}}, r"total_iter: .* total_iters"),
        ("LinearLR", {"schedule": {}}, r"schedule: there is no such argument; did you mean scheduler\?"),
        ("ReduceLROnPlateau", {}, r"'ReduceLROnPlateau' is no schedule of it"),
    ],
)
def test_mistakes_are_named(name, native, message):
    with pytest.raises(InvalidSchedule, match=message):
        from_native("mtl_yolo", name, {"optimizer": {"lr": 0.1}} | native, {"iters_per_epoch": 10})


def test_the_learning_rate_is_needed():
    with pytest.raises(InvalidSchedule, match=r"lr0 is missing"):
        from_native("mtl_yolo", "LinearLR", {}, {"iters_per_epoch": 10})
