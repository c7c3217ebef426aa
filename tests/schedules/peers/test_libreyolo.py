"""LibreYOLO's schedulers: equal to its formulas at every step, and clear about mistakes.

LibreYOLO is not installed here. `update_lr` below states the formulas of its `libreyolo/training/scheduler.py`
(809009b); the pinned values were recorded from that file (c41461e).
"""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.compose import Join
from yolo_cosine.schedules.curves import Constant, Cosine, InvalidSchedule, Linear
from yolo_cosine.schedules.presets import from_native, schedules_of

RUN = {"lr": 0.01, "iters_per_epoch": 19, "total_epochs": 20}
NAMES = (
    "WarmupCosineScheduler", "LinearLRScheduler", "ConstantLRScheduler", "FlatCosineScheduler",
    "CosineAnnealingScheduler", "PolyLRScheduler",
)  # fmt: skip
DEFAULTS = {
    "WarmupCosineScheduler": {"warmup_epochs": 5, "warmup_lr_start": 0.0, "plateau_epochs": 15, "min_lr_ratio": 0.05},
    "LinearLRScheduler": {"warmup_epochs": 3, "warmup_lr_start": 1e-4, "min_lr_ratio": 0.01},
    "ConstantLRScheduler": {"warmup_epochs": 0, "warmup_lr_start": 0.0},
    "FlatCosineScheduler": {"warmup_epochs": 2, "warmup_lr_start": 1e-6, "no_aug_epochs": 4, "min_lr_ratio": 0.05},
    "CosineAnnealingScheduler": {"warmup_epochs": 3, "warmup_lr_start": 1e-4, "min_lr_ratio": 0.01},
    "PolyLRScheduler": {"warmup_epochs": 0, "warmup_lr_start": 0.0, "power": 0.9, "min_lr_ratio": 0.0},
}


def half_wave(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def update_lr(name: str, i: int, given_arguments: dict) -> float:
    """What the scheduler says at iteration `i`, by the peer's formulas."""
    a = DEFAULTS[name] | given_arguments
    lr, per_epoch, total = a["lr"], a["iters_per_epoch"], a["iters_per_epoch"] * a["total_epochs"]
    warmup, start, low = per_epoch * a["warmup_epochs"], min(a["warmup_lr_start"], lr), lr * a.get("min_lr_ratio", 1)
    if warmup > 0 and i <= warmup:
        return start + (lr - start) * (i / warmup) ** (2 if name == "WarmupCosineScheduler" else 1)
    if name == "WarmupCosineScheduler":
        plateau = per_epoch * a["plateau_epochs"]
        if i >= total - plateau:
            return low
        return low + (lr - low) * half_wave((i - warmup) / (total - warmup - plateau))
    if name == "FlatCosineScheduler":
        tail = min(per_epoch * a["no_aug_epochs"], max(0, total - warmup))
        if i < total - tail or i <= warmup:
            return lr
        return low + (lr - low) * half_wave(min(1, (i - total + tail) / max(1, tail)))
    progress = (i - warmup) / max(1, total - warmup)
    if name == "LinearLRScheduler":
        return lr - (lr - low) * progress
    if name == "CosineAnnealingScheduler":
        return low + (lr - low) * half_wave(progress)
    if name == "PolyLRScheduler":
        return low + (lr - low) * (1 - min(1, progress)) ** a["power"]
    return lr


def assert_same(name: str, arguments: dict) -> None:
    ours = from_native("libreyolo", name, arguments)
    for i in range(2 * arguments["iters_per_epoch"] * arguments["total_epochs"] + 20):
        assert ours.lr(i) == pytest.approx(update_lr(name, i, arguments), rel=1e-9, abs=1e-15), i


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "arguments",
    [
        RUN,
        RUN | {"warmup_epochs": 0},
        RUN | {"warmup_epochs": 20},
        RUN | {"warmup_epochs": 25},
        RUN | {"warmup_epochs": 0.1},
        RUN | {"total_epochs": 1, "warmup_epochs": 1},
        RUN | {"warmup_lr_start": 0.5, "min_lr_ratio": 0.5},
        RUN | {"lr": 0.0},
    ],
)
def test_equal_to_the_formulas(name, arguments):
    assert_same(name, arguments)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    warmup=st.sampled_from([0, 0.3, 1, 2, 5, 9]),
    tail=st.sampled_from([0, 0.5, 1, 4, 15]),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 7)),
    start=st.sampled_from([0, 1e-4, 0.02]),
    ratio=st.sampled_from([0, 0.2, 1, 1.5]),
    power=st.sampled_from([0, 0.5, 0.9, 1, 2]),
)
def test_equal_to_the_formulas_for_any_arguments(name, warmup, tail, sizes, start, ratio, power):
    a = {"lr": 0.01, "iters_per_epoch": sizes[0], "total_epochs": sizes[1], "warmup_epochs": warmup}
    a |= {"warmup_lr_start": start, "min_lr_ratio": ratio}
    a |= {"WarmupCosineScheduler": {"plateau_epochs": tail}, "FlatCosineScheduler": {"no_aug_epochs": tail}}.get(
        name, {}
    )
    a |= {"power": power} if name == "PolyLRScheduler" else {}
    left = sizes[1] - warmup - tail
    assume(left == 0 or abs(left) > 1e-9)  # a length of nothing but rounding
    assert_same(name, a)


@pytest.mark.parametrize(
    ("name", "arguments", "step", "rate"),
    [
        ("WarmupCosineScheduler", RUN, 5, 2.7700831024930743e-05),
        (
            "WarmupCosineScheduler",
            RUN | {"warmup_epochs": 0, "plateau_epochs": 0, "min_lr_ratio": 0.01},
            6,
            0.009993911347,
        ),
        ("LinearLRScheduler", RUN, 417, -0.0010340557275541808),
        ("ConstantLRScheduler", RUN | {"warmup_epochs": 2}, 5, 0.0013157894736842105),
        ("FlatCosineScheduler", RUN, 5, 0.001316657894736842),
        ("CosineAnnealingScheduler", RUN | {"warmup_epochs": 25}, 417, 0.008791157894736843),
    ],
)
def test_recorded_values(name, arguments, step, rate):
    assert from_native("libreyolo", name, arguments).lr(step) == pytest.approx(rate, rel=1e-9)


def test_step_0_has_the_functions_own_value():
    assert from_native("libreyolo", "LinearLRScheduler", RUN).lr(0) == pytest.approx(1e-4)
    no_room = RUN | {"warmup_epochs": 0, "plateau_epochs": 20}
    assert from_native("libreyolo", "WarmupCosineScheduler", no_room).lr(0) == pytest.approx(0.0005)


def test_past_the_end():
    total = 380
    rising = from_native("libreyolo", "CosineAnnealingScheduler", RUN | {"warmup_epochs": 0})
    assert rising.lr(total) == pytest.approx(0.0001)
    assert rising.lr(2 * total) == pytest.approx(0.01)
    assert from_native("libreyolo", "LinearLRScheduler", RUN).lr(2 * total) < 0
    for held in ("FlatCosineScheduler", "WarmupCosineScheduler", "PolyLRScheduler"):
        ours = from_native("libreyolo", held, RUN)
        assert ours.lr(total) == ours.lr(10**9)


def test_momentum_is_warmed_up_where_both_are_given():
    ours = from_native("libreyolo", "LinearLRScheduler", RUN | {"warmup_momentum": 0.8, "momentum": 0.9})
    assert [ours.momentum(i) for i in (0, 57, 400)] == [0.8, 0.9, 0.9]
    assert ours.momentum(19) == pytest.approx(0.8 + 0.1 / 3)
    with pytest.raises(InvalidSchedule, match="leaves momentum alone"):
        from_native("libreyolo", "LinearLRScheduler", RUN | {"momentum": 0.9}).momentum(0)


def test_composed_of_plain_curves():
    ours = from_native("libreyolo", "FlatCosineScheduler", RUN | {"warmup_lr_start": 0.001})
    warmed = (Linear(0.1, 1.0, 38), Constant(1.0), Cosine(1.0, 0.05, 76))
    assert ours.factors == (Join(warmed, (0, 38, 304)),)


def test_schedules_are_complete():
    assert set(schedules_of("libreyolo")) == set(NAMES)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("WarmupCosine", RUN, "did you mean WarmupCosineScheduler"),
        ("LinearLRScheduler", {"lr": 0.1, "total_epochs": 3}, "iters_per_epoch is missing"),
        ("LinearLRScheduler", RUN | {"iters_per_epoch": 0}, "iters_per_epoch: 0 makes no run; write at least 1"),
        ("LinearLRScheduler", RUN | {"warmup_epochs": -2}, "warmup_epochs: -2 is not a number from 0 on; write one"),
        ("WarmupCosineScheduler", RUN | {"plateau_epochs": -1}, "plateau_epochs: -1 is not"),
        ("FlatCosineScheduler", RUN | {"no_aug_epochs": math.inf}, "no_aug_epochs: inf is not"),
        ("FlatCosineScheduler", RUN | {"plateau_epochs": 3}, "plateau_epochs: there is no such argument"),
        ("ConstantLRScheduler", RUN | {"warmup_lr_start": -1e-3}, "warmup_lr_start: -0.001 is not"),
        ("PolyLRScheduler", RUN | {"power": -1}, "power: -1 is not a number from 0 on"),
    ],
)
def test_mistakes(name, arguments, message):
    with pytest.raises(InvalidSchedule, match=message):
        from_native("libreyolo", name, arguments)
