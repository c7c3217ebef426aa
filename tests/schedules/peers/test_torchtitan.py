"""TorchTitan's schedule. It is no package, so its formula is written down here a second time.

Source: pytorch/torchtitan, torchtitan/components/optimizer/lr_scheduler.py.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.presets import from_native

SHAPES = {
    "linear": lambda p: 1 - p,
    "sqrt": lambda p: 1 - math.sqrt(p),
    "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2,
}


def build(**arguments):
    return from_native("torchtitan", "linear_warmup_stable_decay", arguments, {"lr0": [1e-3, 1e-4]})


def formula(i, total, warmup, decay_ratio, decay_type, least):
    """Factor of update `i` as the source counts it: full for one update more than there is room for, then the decay."""
    warmup = min(warmup, total)
    decay = total - warmup
    if decay_ratio is not None and warmup + round(total * decay_ratio) <= total:
        decay = round(total * decay_ratio)
    full_until = total + 1 - decay
    if i < warmup:
        return (i + 1) / warmup
    if i < full_until:
        return 1.0
    return least + (1 - least) * SHAPES[decay_type]((i + 1 - full_until) / decay)


@settings(max_examples=200, deadline=None)
@given(
    total=st.integers(1, 300),
    warmup=st.integers(0, 350),
    decay_ratio=st.none() | st.floats(0, 1.2),
    decay_type=st.sampled_from(sorted(SHAPES)),
    least=st.floats(0, 1.5),
)
def test_equals_the_formula(total, warmup, decay_ratio, decay_type, least):
    schedule = build(
        warmup_steps=warmup,
        decay_ratio=decay_ratio,
        decay_type=decay_type,
        min_lr_factor=least,
        training_steps=total,
    )
    for i in {*range(0, total, 3), warmup, max(0, warmup - 1), total - 1, total, total + 1, 2 * total + 5}:
        try:
            expected = formula(i, total, warmup, decay_ratio, decay_type, least)
        except ZeroDivisionError:
            with pytest.raises(InvalidSchedule, match="the index is past total_steps, and no decay goes on there"):
                schedule.lr(i)
            continue
        assert schedule.lr(i) == pytest.approx(1e-3 * expected, rel=1e-9, abs=1e-15)
        assert schedule.lr(i, 1) == pytest.approx(1e-4 * expected, rel=1e-9, abs=1e-16)


def test_the_first_update_is_not_at_0_and_the_last_not_at_the_end():
    schedule = build(warmup_steps=10, training_steps=100)
    assert [schedule.lr(i) for i in (0, 9, 10, 99, 100)] == pytest.approx([1e-4, 1e-3, 1e-3, 1e-3 / 90, 0.0], abs=1e-18)


@pytest.mark.parametrize(("decay_type", "factor"), [("linear", -1.0), ("sqrt", 1 - math.sqrt(2)), ("cosine", 1.0)])
def test_past_the_end_nothing_is_held(decay_type, factor):
    schedule = build(warmup_steps=0, training_steps=50, decay_type=decay_type)
    assert schedule.lr(100) == pytest.approx(1e-3 * factor)


def test_the_warmup_is_200_updates_unless_told_and_the_length_is_the_runs():
    schedule = from_native("torchtitan", "linear_warmup_stable_decay", {}, {"lr0": 1.0, "total_iters": 1000})
    assert schedule.lr(0) == 1 / 200
    assert schedule.length == 1000


def test_total_steps_is_before_training_steps():
    assert build(warmup_steps=5.9, total_steps=20, training_steps=7) == build(warmup_steps=5, training_steps=20)


MISTAKES = [
    ({}, "total_iters is missing"),
    ({"training_steps": -1}, "total_steps: -1 is below 0"),
    ({"training_steps": 10, "warmup_steps": -1}, "warmup_steps: -1 is below 0; write 0"),
    ({"training_steps": 10, "decay_ratio": -0.5}, "decay_ratio: -0.5 is below 0"),
    ({"training_steps": 10, "decay_type": "exp"}, "decay_type: 'exp' is none of linear, sqrt, cosine"),
    ({"training_steps": 10, "min_lr_factor": math.nan}, "min_lr_factor: nan is no share"),
    ({"training_steps": "10"}, "wrong type"),
    ({"training_steps": 10, "lr_min": 0.1}, "lr_min: there is no such argument"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes(arguments, message):
    with pytest.raises(InvalidSchedule, match=message):
        build(**arguments)
