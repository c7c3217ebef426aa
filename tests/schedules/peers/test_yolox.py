"""YOLOX' schedules: equal to its formulas at every step, and clear about mistakes.

YOLOX is no package that a test could install. `update_lr` below states the formulas of its `yolox/utils/lr_scheduler.py`
(6ddff48); the pinned values were recorded from that file and the loop of `yolox/core/trainer.py`.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.compose import Join
from yolo_cosine.schedules.curves import Constant, Cosine, InvalidSchedule, Power
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.presets import from_native, schedules_of

RUN = {"lr": 0.01, "iters_per_epoch": 20, "total_epochs": 10}
WARM = RUN | {"warmup_epochs": 2}
YOLOX = WARM | {"no_aug_epochs": 3, "min_lr_ratio": 0.05}
SEMI = YOLOX | {"semi_epoch": 5, "iters_per_epoch_semi": 30}


def half_wave(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def update_lr(name: str, i: int, a: dict) -> float:
    """What the scheduler says at iteration `i`, by the peer's formulas."""
    lr, per_epoch = a["lr"], a["iters_per_epoch"]
    total = per_epoch * a["total_epochs"]
    if name == "cos":
        return lr * half_wave(i / total)
    if name == "multistep":
        cut = [int(total * m / a["total_epochs"]) for m in a["milestones"]]
        return lr * a.get("gamma", 0.1) ** sum(i >= m for m in cut)
    warmup = per_epoch * a["warmup_epochs"]
    start = a.get("warmup_lr_start", 1e-6 if name == "warmcos" else 0)
    if i <= warmup:
        return start + (lr - start) * (i / warmup) ** (1 if name == "warmcos" else 2)
    if name == "warmcos":
        return lr * half_wave((i - warmup) / (total - warmup))
    low = lr * a.get("min_lr_ratio", 0.2)
    no_aug = per_epoch * a["no_aug_epochs"]
    position, flat = i - warmup, total - no_aug
    if name == "yoloxsemiwarmcos":
        semi, semi_per_epoch = per_epoch * a["semi_epoch"], a["iters_per_epoch_semi"]
        flat = semi + semi_per_epoch * (a["total_epochs"] - a["semi_epoch"] - a["no_aug_epochs"])
        if i > semi:
            position = semi - warmup + (i - semi) * per_epoch / semi_per_epoch
    return low if i >= flat else low + (lr - low) * half_wave(position / (total - warmup - no_aug))


def assert_same(name: str, arguments: dict) -> None:
    ours = from_native("yolox", name, arguments)
    built = arguments.get("warmup_lr", 0) if arguments.get("warmup_epochs", 0) else arguments["lr"]
    assert ours.lr(0) == pytest.approx(built, rel=1e-12)
    for i in range(1, 2 * arguments["iters_per_epoch"] * arguments["total_epochs"] + 20):
        try:
            expected = update_lr(name, i, arguments)
        except ZeroDivisionError:
            with pytest.raises(InvalidSchedule, match="warmup_epochs"):
                ours.lr(i)
        else:
            assert ours.lr(i) == pytest.approx(expected, rel=1e-9, abs=1e-15), i


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("cos", RUN),
        (
            "cos",
            WARM | {"name": "cos", "warmup_lr": 1e-4, "warmup_lr_start": 0, "no_aug_epochs": 15, "min_lr_ratio": 1},
        ),
        ("cos", RUN | {"total_epochs": 1, "iters_per_epoch": 1}),
        ("warmcos", WARM),
        ("warmcos", WARM | {"warmup_epochs": 0}),
        ("warmcos", WARM | {"warmup_epochs": 0.33, "warmup_lr": 1e-6}),
        ("warmcos", WARM | {"warmup_epochs": 10}),
        ("warmcos", WARM | {"warmup_epochs": 12, "warmup_lr_start": 0.02}),
        ("yoloxwarmcos", YOLOX),
        ("yoloxwarmcos", YOLOX | {"warmup_epochs": 0}),
        ("yoloxwarmcos", YOLOX | {"warmup_epochs": 0, "no_aug_epochs": 10}),
        ("yoloxwarmcos", YOLOX | {"no_aug_epochs": 8}),
        ("yoloxwarmcos", YOLOX | {"no_aug_epochs": 0, "min_lr_ratio": 0}),
        ("yoloxwarmcos", YOLOX | {"warmup_epochs": 0.04, "warmup_lr": 1e-3}),
        ("yoloxwarmcos", YOLOX | {"lr": 0.0, "warmup_lr": 1e-4, "warmup_lr_start": 1e-4}),
        ("yoloxsemiwarmcos", SEMI),
        ("yoloxsemiwarmcos", SEMI | {"iters_per_epoch_semi": 7, "warmup_lr": 1e-4, "warmup_lr_start": 1e-4}),
        ("yoloxsemiwarmcos", SEMI | {"semi_epoch": 1}),
        ("yoloxsemiwarmcos", SEMI | {"semi_epoch": 2}),
        ("yoloxsemiwarmcos", SEMI | {"semi_epoch": 9}),
        ("yoloxsemiwarmcos", SEMI | {"semi_epoch": 9, "iters_per_epoch_semi": 7}),
        ("yoloxsemiwarmcos", SEMI | {"no_aug_epochs": 8}),
        ("multistep", RUN | {"milestones": [5, 8]}),
        ("multistep", RUN | {"milestones": [8, 2.52, 8], "gamma": 0.5}),
        ("multistep", RUN | {"milestones": [0]}),
        ("multistep", RUN | {"milestones": []}),
    ],
)
def test_equal_to_the_formulas(name, arguments):
    assert_same(name, arguments)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(["warmcos", "yoloxwarmcos", "yoloxsemiwarmcos"]),
    warmup=st.sampled_from([0, 0.3, 1, 2, 5, 9]),
    no_aug=st.sampled_from([0, 0.5, 1, 4, 15]),
    semi=st.sampled_from([0, 1, 2.5, 4, 9]),
    sizes=st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 12)),
    rates=st.tuples(*[st.sampled_from([0, 1e-4, 0.02])] * 2),
    ratio=st.sampled_from([0, 0.2, 1, 1.5]),
)
def test_equal_to_the_formulas_for_any_arguments(name, warmup, no_aug, semi, sizes, rates, ratio):
    per_epoch, epochs, per_semi_epoch = sizes
    a = {"lr": 0.01, "iters_per_epoch": per_epoch, "total_epochs": epochs, "warmup_epochs": warmup}
    a |= {"warmup_lr": rates[0], "warmup_lr_start": rates[1]}
    left = epochs - warmup
    if name != "warmcos":
        a |= {"no_aug_epochs": no_aug, "min_lr_ratio": ratio}
        left -= no_aug
    if name == "yoloxsemiwarmcos":
        a |= {"semi_epoch": semi, "iters_per_epoch_semi": per_semi_epoch}
    assume(left == 0 or abs(left) > 1e-9)  # a length of nothing but rounding
    assert_same(name, a)


@pytest.mark.parametrize(
    ("name", "arguments", "step", "rate"),
    [
        ("cos", RUN | {"iters_per_epoch": 30, "total_epochs": 1}, 29, 2.7390523158632995e-05),
        ("warmcos", WARM | {"lr": 0.02, "iters_per_epoch": 25, "total_epochs": 8, "warmup_epochs": 1}, 1, 0.00080096),
        ("warmcos", WARM | {"lr": 0.02, "iters_per_epoch": 25, "total_epochs": 8, "warmup_epochs": 1}, 199, 1.61132071e-6),
        ("yoloxwarmcos", YOLOX | {"iters_per_epoch": 37, "total_epochs": 50, "warmup_epochs": 5}, 11, 3.53542732e-05),
        ("yoloxwarmcos", YOLOX | {"warmup_epochs": 0, "iters_per_epoch": 25, "total_epochs": 12, "no_aug_epochs": 2},
         5, 0.00999062696003429),
    ],
)  # fmt: skip
def test_recorded_values(name, arguments, step, rate):
    assert from_native("yolox", name, arguments).lr(step) == pytest.approx(rate, rel=1e-8)


def test_step_0_has_the_rate_that_the_optimizer_was_built_with():
    assert from_native("yolox", "yoloxwarmcos", YOLOX | {"warmup_lr": 1e-3}).lr(0) == pytest.approx(1e-3)
    assert from_native("yolox", "yoloxwarmcos", YOLOX | {"warmup_epochs": 0}).lr(0) == 0.01
    assert from_native("yolox", "multistep", RUN | {"milestones": [0]}).lr(0) == 0.01
    assert from_native("yolox", "multistep", RUN | {"milestones": [0]}).lr(1) == pytest.approx(0.001)


def test_the_usual_one_is_three_plain_curves():
    assert from_native("yolox", "yoloxwarmcos", YOLOX).factors == (
        Join((Power(0.0, 1.0, 40, 2), Cosine(1.0, 0.05, 100)), (0, 40)),
    )
    assert from_native("yolox", "cos", RUN).factors == (CosinePeriodic(1.0, 0.0, 200),)


def test_no_aug_epochs_that_leave_no_cosine():
    ours = from_native("yolox", "yoloxwarmcos", YOLOX | {"no_aug_epochs": 15})
    assert ours.lr(40) == 0.01
    assert ours.lr(41) == pytest.approx(0.0005)
    assert ours.factors[0].pieces[1] == Constant(0.05)
    assert "no_aug_epochs" in ours.notes[0]
    assert from_native("yolox", "yoloxwarmcos", YOLOX).notes == ()


def test_past_the_end():
    assert from_native("yolox", "cos", RUN).lr(400) == pytest.approx(0.01)
    assert from_native("yolox", "warmcos", WARM).lr(200 + 160) == pytest.approx(0.01)
    assert from_native("yolox", "yoloxwarmcos", YOLOX).lr(10**9) == pytest.approx(0.0005)


def test_all_groups_have_one_rate_and_the_run_fills_in():
    run = {"lr0": 0.02, "epochs": 10, "iters_per_epoch": 20}
    ours = from_native("yolox", "yoloxwarmcos", {"warmup_epochs": 2, "no_aug_epochs": 3}, run)
    assert (ours.lr(40), ours.lr(199), ours.length) == (0.02, pytest.approx(0.004), 200)
    groups = from_native("yolox", "cos", RUN, {"lr0": [0.01, 0.1]})
    assert [groups.lr(50, g) for g in (0, 1)] == [groups.lr(50), groups.lr(50)]
    assert from_native("yolox", "yoloxsemiwarmcos", SEMI).length == 5 * 20 + 5 * 30


def test_schedules_are_complete():
    assert set(schedules_of("yolox")) == {"cos", "warmcos", "yoloxwarmcos", "yoloxsemiwarmcos", "multistep"}


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("linear", RUN, "'linear' is no schedule"),
        ("yoloxwarmcos", WARM, "no_aug_epochs is missing"),
        ("warmcos", RUN, "warmup_epochs is missing"),
        ("multistep", RUN, "milestones is missing"),
        ("cos", RUN | {"name": "warmcos"}, "name: 'warmcos' is not the schedule 'cos'; leave it out"),
        ("cos", {"iters_per_epoch": 20, "total_epochs": 10}, "lr is missing"),
        ("cos", RUN | {"total_epochs": 0}, "total_epochs: 0 makes no run; write at least 1"),
        ("cos", RUN | {"iters_per_epoch": -5}, "iters_per_epoch: -5 makes no run"),
        ("cos", RUN | {"lr": -0.1}, "lr: -0.1 is not a number from 0 on"),
        ("cos", RUN | {"lr": math.nan}, "lr: nan is not a number"),
        ("warmcos", RUN | {"warmup_epochs": -1}, "warmup_epochs: -1 is not a number from 0 on; write one"),
        ("yoloxwarmcos", YOLOX | {"no_aug_epochs": -1}, "no_aug_epochs: -1 is not"),
        ("yoloxwarmcos", YOLOX | {"min_lr_ration": 0.1}, "did you mean min_lr_ratio?"),
        ("yoloxsemiwarmcos", SEMI | {"iters_per_epoch_semi": 0}, "iters_per_epoch_semi: 0 is no epoch; write at least 1"),
        ("multistep", RUN | {"milestones": 5}, "wrong type"),
        ("cos", RUN | {"lr": "0.1"}, "wrong type"),
    ],
)  # fmt: skip
def test_mistakes(name, arguments, message):
    with pytest.raises(InvalidSchedule, match=message.replace("?", r"\?")):
        from_native("yolox", name, arguments)


def test_no_value_after_a_warmup_as_long_as_the_run():
    ours = from_native("yolox", "warmcos", WARM | {"warmup_epochs": 10})
    assert ours.lr(200) == 0.01
    with pytest.raises(InvalidSchedule, match=r"warmup_epochs: the warmup takes all the time .* shorten it"):
        ours.lr(201)
