"""YOLOv5's schedules against a loop that makes its calls: PyTorch's LambdaLR once an epoch, numpy.interp in the warmup.

YOLOv5 is no package. The order of the calls is that of `train.py` (ultralytics/yolov5, 5081342): `last_epoch` is set one
behind before the loop, a step is a warmup step up to and with `nw`, and the scheduler is stepped after an epoch.
"""

from __future__ import annotations

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.presets import from_native

HYPERPARAMETERS = {
    "lr0": 0.01, "lrf": 0.01, "momentum": 0.937, "warmup_epochs": 3.0, "warmup_momentum": 0.8, "warmup_bias_lr": 0.1,
}  # fmt: skip


def replay(
    steps_per_epoch: int, epochs: int, batch_size: int = 16, optimizer: str = "SGD", cos_lr: bool = False, **hyp
):
    """Every step's learning rates, momentum (Adam: beta1) and accumulation."""
    hyp = SimpleNamespace(**HYPERPARAMETERS | hyp)
    build, of_momentum = {
        "SGD": (torch.optim.SGD, {"momentum": hyp.momentum}),
        "Adam": (torch.optim.Adam, {"betas": (hyp.momentum, 0.999)}),
        "AdamW": (torch.optim.AdamW, {"betas": (hyp.momentum, 0.999)}),
        "RMSProp": (torch.optim.RMSprop, {"momentum": hyp.momentum}),
    }[optimizer]
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(3)]
    built = build(groups, lr=hyp.lr0, **of_momentum)

    def target(epoch: int) -> float:
        left = (1 + math.cos(math.pi * epoch / epochs)) / 2 if cos_lr else 1 - epoch / epochs
        return hyp.lrf + (1 - hyp.lrf) * left

    scheduler = torch.optim.lr_scheduler.LambdaLR(built, target)
    scheduler.last_epoch = -1
    ends = [0, max(round(hyp.warmup_epochs * steps_per_epoch), 100)]
    steps, accumulate = [], max(round(64 / batch_size), 1)
    for step in range(epochs * steps_per_epoch):
        epoch = step // steps_per_epoch
        if step <= ends[1]:
            accumulate = max(1, np.interp(step, ends, [1, 64 / batch_size]).round())
            for k, group in enumerate(built.param_groups):
                first = hyp.warmup_bias_lr if k == 0 else 0.0
                group["lr"] = np.interp(step, ends, [first, group["initial_lr"] * target(epoch)])
                if "momentum" in group:
                    group["momentum"] = np.interp(step, ends, [hyp.warmup_momentum, hyp.momentum])
        group = built.param_groups[0]
        momentum = group["momentum"] if "momentum" in group else group["betas"][0]
        steps.append(([g["lr"] for g in built.param_groups], momentum, accumulate))
        if (step + 1) % steps_per_epoch == 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                scheduler.step()
    return steps


def assert_equal(arguments: dict, steps_per_epoch: int) -> None:
    name = "cosine" if arguments.get("cos_lr") else "linear"
    ours = from_native("yolov5", name, arguments, {"iters_per_epoch": steps_per_epoch})
    for k, (rates, momentum, accumulate) in enumerate(replay(steps_per_epoch, **arguments)):
        assert [ours.lr(k, g) for g in range(3)] == pytest.approx(rates, rel=1e-12, abs=1e-15), f"step {k}"
        assert ours.momentum(k) == pytest.approx(momentum, rel=1e-12), f"step {k}"
        assert ours.accumulate(k) == accumulate, f"step {k}"


@pytest.mark.parametrize(
    ("arguments", "steps_per_epoch"),
    [
        ({"epochs": 6, "cos_lr": True}, 60),
        ({"epochs": 6, "cos_lr": False}, 60),
        ({"epochs": 3}, 20),  # the warmup outlasts the run
        ({"epochs": 5, "warmup_epochs": 0.0, "cos_lr": True}, 50),  # it ends at the first step of an epoch
        ({"epochs": 5, "warmup_epochs": 0.0}, 101),  # and at the last one
        ({"epochs": 4, "warmup_epochs": 1.5, "lrf": 0.0, "batch_size": 24}, 77),
        ({"epochs": 1, "warmup_epochs": 0.5, "batch_size": 128}, 150),
        ({"epochs": 6, "optimizer": "AdamW", "lr0": 0.001, "lrf": 1.0}, 40),
        ({"epochs": 6, "optimizer": "Adam", "batch_size": 1}, 40),
        ({"epochs": 4, "optimizer": "RMSProp", "warmup_momentum": 0.1}, 40),
    ],
    ids=str,
)
def test_every_step_is_the_peers(arguments, steps_per_epoch):
    assert_equal(arguments, steps_per_epoch)


@settings(max_examples=20, deadline=None)
@given(
    arguments=st.fixed_dictionaries(
        {
            "epochs": st.integers(1, 8),
            "batch_size": st.integers(1, 200),
            "lr0": st.floats(1e-4, 1),
            "lrf": st.floats(0, 1),
            "warmup_epochs": st.floats(0, 9),
            "warmup_bias_lr": st.floats(0, 1),
            "optimizer": st.sampled_from(["SGD", "AdamW"]),
            "cos_lr": st.booleans(),
        }
    ),
    steps_per_epoch=st.integers(1, 60),
)
def test_any_arguments_give_the_peers_steps(arguments, steps_per_epoch):
    assert_equal(arguments, steps_per_epoch)


def test_after_the_warmup_every_epoch_has_the_rate_of_the_one_before():
    ours = from_native("yolov5", "linear", {"epochs": 10}, {"iters_per_epoch": 50})
    rate = [0.01 * (1 - epoch / 10 * 0.99) for epoch in range(10)]
    assert ours.lr(150) == ours.lr(199) == pytest.approx(rate[3])  # the warmup ends at step 150, in epoch 3
    assert ours.lr(200) == ours.lr(249) == pytest.approx(rate[3])  # which the next epoch repeats
    assert ours.lr(499) == pytest.approx(rate[8])  # the last epoch runs at that of the one before


def test_past_the_end_the_line_falls_on_and_the_cosine_rises_again():
    line, cosine = (
        from_native("yolov5", name, {"epochs": 5}, {"iters_per_epoch": 50}) for name in ("linear", "cosine")
    )
    assert line.lr(50 * 6) == pytest.approx(0.0001)  # epoch 6 has the rate of epoch 5
    assert line.lr(50 * 11) == pytest.approx(0.01 * (1 - 2 * 0.99))
    assert cosine.lr(50 * 11) == pytest.approx(0.01)


def test_a_short_warmup_is_a_hundred_steps_and_said_to_be():
    ours = from_native("yolov5", "linear", {"epochs": 10, "warmup_epochs": 0.0}, {"iters_per_epoch": 40})
    assert ours.lr(50, "weight") == pytest.approx(0.01 * (1 - 0.1 * 0.99) / 2)
    assert ours.lr(0, "bias") == 0.1
    assert "100 steps" in ours.notes[0]
    short = from_native("yolov5", "linear", {"epochs": 2}, {"iters_per_epoch": 40})
    assert "not over when the run is, after 80" in short.notes[0]


def test_a_resumed_run_has_the_rates_of_an_uninterrupted_one():
    run = {"iters_per_epoch": 40, "lr0": 0.02}
    whole = from_native("yolov5", "cosine", {"epochs": 12}, run)
    resumed = from_native("yolov5", "cosine", {"epochs": 12, "resume_at_epoch": 7}, run)
    assert resumed.factors == whole.factors
    assert resumed.groups[0].lr0 == 0.02
    assert "first update" in resumed.notes[-1]


def test_a_log_has_the_rate_of_each_epochs_last_step():
    steps = from_native("yolov5", "cosine", {"epochs": 5}, {"iters_per_epoch": 50})
    logged = from_native("yolov5", "cosine", {"epochs": 5}, {"iters_per_epoch": 50, "granularity": "epoch"})
    assert [logged.lr(e, "bias") for e in range(5)] == [steps.lr(50 * e + 49, "bias") for e in range(5)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, r"epochs: 0 is no whole number"),
        ({"batch_size": 0.5}, r"batch_size: 0\.5 is no whole number"),
        ({"lr0": 0.0}, r"lr0: 0 has no multiple"),
        ({"lrf": "0.1"}, r"lrf: '0\.1' is no finite number"),
        ({"warmup_epochs": float("inf")}, r"warmup_epochs: inf is no finite number"),
        ({"optimizer": "MuSGD"}, r"optimizer: 'MuSGD' is none of the peer's; write one of SGD"),
        ({"cos_lr": True}, r"cos_lr: True is not the schedule 'linear'"),
        ({"resume_at_epoch": 0}, r"resume_at_epoch: 0 is not inside a run of 100 epochs; write 1 to 99"),
        ({"batch": 16}, r"batch: there is no such argument; did you mean batch_size\?"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(InvalidSchedule, match=message):
        from_native("yolov5", "linear", arguments, {"iters_per_epoch": 10})
