"""nanochat's three schedules. It is a script and no package, so its formulas are written down here a second time.

Source: karpathy/nanochat, scripts/base_train.py.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.presets import from_native


def build(common=None, **arguments):
    return from_native("nanochat", "get_lr_multiplier", arguments, common)


def multiplier(i, total, warmup, warmdown, final):
    if i < warmup:
        return (i + 1) / warmup
    if i <= total - warmdown:
        return 1.0
    left = (total - i) / warmdown
    return left + (1 - left) * final


def muon_momentum(i, total, warmdown):
    if i < 400:
        return 0.85 + 0.12 * i / 400
    if i >= total - warmdown:
        return 0.97 - 0.07 * (i - total + warmdown) / warmdown
    return 0.97


def equal_or_refused(ask, formula):
    try:
        expected = formula()
    except ZeroDivisionError:
        with pytest.raises(InvalidSchedule, match="the index is past num_iterations, and no warmdown goes on there"):
            ask()
    else:
        assert ask() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(max_examples=300, deadline=None)
@given(
    total=st.integers(1, 900),
    warmup=st.integers(0, 950),
    ratio=st.just(0.0) | st.floats(0, 1.5),
    final=st.floats(0, 1),
)
def test_equals_the_formulas(total, warmup, ratio, final):
    schedule = build(num_iterations=total, warmup_steps=warmup, warmdown_ratio=ratio, final_lr_frac=final)
    warmdown = round(ratio * total)
    edges = (0, 1, warmup - 1, warmup, total - warmdown, total - warmdown + 1, 399, 400, total - 1, total, total + 1)
    for i in {max(0, i) for i in (*edges, *range(0, 1000, 37))}:
        equal_or_refused(lambda i=i: schedule.lr(i), lambda i=i: multiplier(i, total, warmup, warmdown, final))
        equal_or_refused(lambda i=i: schedule.momentum(i), lambda i=i: muon_momentum(i, total, warmdown))
        assert schedule.weight_decay(i) == pytest.approx(0.28 * (1 + math.cos(math.pi * i / total)) / 2, abs=1e-12)


def test_the_defaults():
    schedule = build(num_iterations=1000)
    assert [schedule.lr(i) for i in (0, 39, 350, 1000)] == pytest.approx([1 / 40, 1.0, 1.0, 0.05])
    assert [schedule.momentum(i) for i in (0, 1000)] == pytest.approx([0.85, 0.90])
    assert [schedule.weight_decay(i) for i in (0, 500, 1000)] == pytest.approx([0.28, 0.14, 0.0])


def test_the_length_is_the_runs_and_every_rate_is_multiplied():
    schedule = build({"total_iters": 100, "lr0": [0.3, 0.02]}, warmup_steps=0)
    assert schedule.length == 100
    assert [schedule.lr(100, k) for k in (0, 1)] == pytest.approx([0.015, 0.001])


MISTAKES = [
    ({}, "num_iterations is missing; give it, or the run's total_iters"),
    ({"num_iterations": 0}, "num_iterations: 0 is no run; write at least 1"),
    ({"num_iterations": 10, "warmup_steps": -1}, "warmup_steps: -1 is below 0"),
    ({"num_iterations": 10, "warmdown_ratio": -0.1}, "warmdown_ratio: -0.1 is below 0"),
    ({"num_iterations": 10, "final_lr_frac": math.inf}, "final_lr_frac: inf is no number to go to"),
    ({"num_iterations": 10, "weight_decay_scaled": "0.2"}, "wrong type"),
    ({"num_iterations": 10, "warmup_ratio": 0.1}, "warmup_ratio: .* did you mean warmdown_ratio"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes(arguments, message):
    with pytest.raises(InvalidSchedule, match=message):
        build(**arguments)
