from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_cosine.schedules.compose import EpochWise, RampInto, Rounded, join
from yolo_cosine.schedules.curves import Constant, Cosine, Linear

TABLE = [  # schedule, step, expected
    (Constant(0.5, 7), 0, 0.5),
    (Constant(0.5, 7), 10**9, 0.5),
    (Linear(0.0, 1.0, 4), 0, 0.0),
    (Linear(0.0, 1.0, 4), 1, 0.25),
    (Linear(0.0, 1.0, 4), 4, 1.0),
    (Linear(0.0, 1.0, 4), 10**9, 1.0),
    (Linear(10.0, 1.0, 0), 0, 1.0),
    (Cosine(1.0, 0.0, 4), 0, 1.0),
    (Cosine(1.0, 0.0, 4), 1, (1 + math.sqrt(0.5)) / 2),
    (Cosine(1.0, 0.0, 4), 2, 0.5),
    (Cosine(1.0, 0.2, 4), 4, 0.2),
    (Cosine(1.0, 0.2, 4), 10**9, 0.2),
    (Cosine(1.0, 0.2, 0), 0, 0.2),
    (join(Linear(0.0, 1.0, 2), Cosine(1.0, 0.0, 2)), 0, 0.0),
    (join(Linear(0.0, 1.0, 2), Cosine(1.0, 0.0, 2)), 1, 0.5),
    (join(Linear(0.0, 1.0, 2), Cosine(1.0, 0.0, 2)), 2, 1.0),
    (join(Linear(0.0, 1.0, 2), Cosine(1.0, 0.0, 2)), 3, 0.5),
    (join(Linear(0.0, 1.0, 2), Cosine(1.0, 0.0, 2)), 4, 0.0),
    (join(Linear(0.0, 1.0, 0), Cosine(1.0, 0.0, 2)), 0, 1.0),
    (EpochWise(Linear(1.0, 0.0, 2), 10), 9, 1.0),
    (EpochWise(Linear(1.0, 0.0, 2), 10), 10, 0.5),
    (EpochWise(Linear(1.0, 0.0, 2), 10), 20, 0.0),
    (RampInto(10.0, Constant(1.0), 4), 0, 10.0),
    (RampInto(10.0, Constant(1.0), 4), 2, 5.5),
    (RampInto(10.0, Constant(1.0), 4), 4, 1.0),
    (RampInto(0.0, Linear(1.0, 0.0, 8), 4), 2, 0.375),
    (RampInto(0.0, Constant(1.0), 0), 0, 1.0),
    (Rounded(Linear(1, 4, 6)), 1, 2),  # 1.5 rounds to even
    (Rounded(Linear(1, 4, 6)), 3, 2),  # 2.5 rounds to even
    (Rounded(Constant(0.1)), 0, 1),
]


@pytest.mark.parametrize(("schedule", "step", "expected"), TABLE)
def test_table(schedule, step, expected):
    assert schedule(step) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (join(Linear(0, 1, 3), Cosine(1, 0, 5)), 8),
        (join(Linear(0, 1, 0), Cosine(1, 0, 5)), 5),
        (EpochWise(Cosine(1, 0, 3), 4), 12),
        (RampInto(0, Cosine(1, 0, 9), 2), 9),
        (Rounded(Linear(1, 2, 6)), 6),
    ],
)
def test_length(schedule, steps):
    assert schedule.steps == steps


levels = st.floats(0, 10, allow_nan=False)


@given(curve=st.sampled_from([Linear, Cosine]), start=levels, end=levels, steps=st.integers(1, 10**6), data=st.data())
def test_bounds_ends_and_monotony(curve, start, end, steps, data):
    schedule = curve(start, end, steps)
    step = data.draw(st.integers(0, steps))
    low, high = min(start, end), max(start, end)
    slack = 1e-12 * (1 + high)
    assert low - slack <= schedule(step) <= high + slack
    assert schedule(0) == pytest.approx(start, abs=slack)
    assert schedule(steps) == schedule(10**9) == end
    falls = schedule(step) >= schedule(step + 1) - slack
    rises = schedule(step) <= schedule(step + 1) + slack
    assert falls if start >= end else rises


@given(warmup=st.integers(1, 500), decay=st.integers(1, 500))
def test_join_is_continuous_where_its_pieces_meet(warmup, decay):
    schedule = join(Linear(0.0, 1.0, warmup), Cosine(1.0, 0.01, decay))
    jumps = [abs(schedule(k + 1) - schedule(k)) for k in range(warmup + decay)]
    assert max(jumps) <= max(1 / warmup, math.pi / 2 / decay) + 1e-12
    assert max(schedule(k) for k in range(warmup + decay + 1)) == 1.0  # the base rate is reached


def test_cosine_equals_its_recursion():
    """PyTorch's CosineAnnealingLR computes each value from the one before; ours does not, and is the same."""
    steps, start, end = 10_000, 1.0, 0.01
    schedule, value = Cosine(start, end, steps), start
    for k in range(1, steps + 1):
        value = (1 + math.cos(math.pi * k / steps)) / (1 + math.cos(math.pi * (k - 1) / steps)) * (value - end) + end
        assert schedule(k) == pytest.approx(value, abs=1e-12)


def test_the_package_needs_no_torch():
    code = "import sys, yolo_cosine.schedules.build; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
