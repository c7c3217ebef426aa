from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_cosine.schedules import curves
from yolo_cosine.schedules.compose import EpochWise, RampInto, Rounded, join
from yolo_cosine.schedules.curves import (
    Constant,
    Cosine,
    Exponential,
    Geometric,
    InvalidSchedule,
    InverseSqrt,
    InverseTime,
    Linear,
    MultiStep,
    OneMinusSqrt,
    Piecewise,
    Polynomial,
    Power,
    Rex,
    Sigmoid,
    Step,
    Tanh,
    kind,
)

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
    (Linear(1.0, 0.0, 4, "continue"), 6, -0.5),
    (Linear(1.0, 0.3, 0, "continue"), 6, 0.3),
    (Polynomial(1.0, 0.0, 4, 2.0), 1, 0.5625),
    (Polynomial(1.0, 0.2, 4, 0.5), 3, 0.6),
    (Polynomial(1.0, 0.2, 4, 0.5), 10**9, 0.2),
    (Polynomial(1.0, 0.0, 4, 2.0, "continue"), 8, 1.0),  # an even power rises again
    (Polynomial(1.0, 0.0, 4, 1.0, "continue"), 8, -1.0),
    (Power(0.0, 1.0, 4), 2, 0.25),
    (Power(0.0, 1.0, 4, 4.0), 2, 0.0625),
    (Power(0.0, 1.0, 4), 10**9, 1.0),
    (Geometric(1.0, 0.01, 4), 2, 0.1),
    (Geometric(1.0, 0.01, 4), 4, 0.01),
    (Geometric(1.0, 0.01, 4), 8, 0.01),
    (Geometric(1.0, 0.01, 4, "continue"), 8, 0.0001),
    (Geometric(1.0, 10.0, 1, "continue"), 10**9, math.inf),
    (Exponential(1.0, 0.5), 3, 0.125),
    (Exponential(1.0, 0.25, every=4), 2, 0.5),
    (Exponential(1.0, 0.25, every=4, staircase=True), 7, 0.25),
    (Exponential(1.0, 0.5, bound=0.2), 10**9, 0.2),
    (Exponential(1.0, 2.0, bound=8.0), 10**9, 8.0),
    (Exponential(1.0, 2.0), 10**9, math.inf),
    (Exponential(1.0, 0.5), 10**9, 0.0),
    (InverseSqrt(1.0, 100), 0, 1.0),
    (InverseSqrt(1.0, 100), 300, 0.5),
    (InverseTime(1.0, 0.5, every=10), 20, 0.5),
    (InverseTime(1.0, 0.5, every=10, staircase=True), 29, 0.5),
    (Tanh(1.0, 0.0, 10), 7, 0.5),
    (Tanh(1.0, 0.0, 10), 0, (1 + math.tanh(7)) / 2),
    (Tanh(1.0, 0.1, 10), 10, 0.1),
    (Sigmoid(1.0, 0.1, 50), 50, 0.5),
    (Sigmoid(1.0, 0.1, 50), 10**9, 0.0),
    (Sigmoid(1.0, -0.1, 50), 10**9, 1.0),
    (OneMinusSqrt(1.0, 0.0, 4), 1, 0.5),
    (OneMinusSqrt(1.0, 0.1, 4), 4, 0.1),
    (Rex(1.0, 0.0, 4), 2, 2 / 3),
    (Rex(1.0, 0.1, 4), 4, 0.1),
    (Step(1.0, 0.5, 10), 9, 1.0),
    (Step(1.0, 0.5, 10), 10, 0.5),
    (Step(1.0, 0.5, 10), 39, 0.125),
    (Step(1.0, 2.0, 10), 10**9, math.inf),
    (MultiStep(1.0, (5, 8)), 4, 1.0),
    (MultiStep(1.0, (5, 8)), 5, 0.1),
    (MultiStep(1.0, (5, 8)), 10**9, 0.01),
    (MultiStep(1.0, (5, 5)), 5, 0.01),
    (MultiStep(1.0, (5, 8), (0.5, 0.3)), 8, 0.15),
    (MultiStep(1.0, ()), 10**9, 1.0),
    (Piecewise((1.0, 0.5, 2.0), (3, 6)), 2, 1.0),
    (Piecewise((1.0, 0.5, 2.0), (3, 6)), 3, 0.5),
    (Piecewise((1.0, 0.5, 2.0), (3, 6)), 10**9, 2.0),
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
ONE_WAY = [Linear, Cosine, Polynomial, Power, OneMinusSqrt, Rex]


@given(curve=st.sampled_from(ONE_WAY), start=levels, end=levels, steps=st.integers(1, 10**6), data=st.data())
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


@given(start=levels, end=levels, steps=st.integers(1, 10**6), step=st.integers(0, 10**6))
def test_what_ends_at_zero_is_never_below_it(start, end, steps, step):
    """No negative rate by rounding, whichever curve."""
    for curve in (*ONE_WAY, Tanh):
        assert curve(start, 0.0, steps)(step) >= 0.0
    low, high = sorted((start + 1e-3, end + 1e-3))
    assert low * (1 - 1e-12) <= Geometric(start + 1e-3, end + 1e-3, steps)(step) <= high * (1 + 1e-12)


@pytest.mark.parametrize("make", [Exponential, InverseTime], ids=lambda c: c.kind)
def test_every_length_is_above_zero(make):
    with pytest.raises(InvalidSchedule, match="every: 0 steps is no length; write at least 1it"):
        make(1.0, 0.5, every=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Step(1, 0.1, 0), "every: 0 steps is no length; write at least 1it"),
        (lambda: InverseSqrt(1, 0), "timescale: 0 steps is no length; write at least 1it"),
        (lambda: Geometric(0, 1, 5), "start: 0 is not above 0; a geometric curve never leaves 0"),
        (lambda: Piecewise((1.0, 2.0, 3.0), (5, 3)), r"boundaries: \[5, 3\] are not in order; sort them"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InvalidSchedule, match=message):
        make()


def test_names_of_kinds_are_unique():
    with pytest.raises(ValueError, match="two kinds of schedule are called 'cosine'"):
        kind("cosine")(Cosine)


def test_the_room_reads_and_writes_nothing():
    """Neither files nor the network, the clock or global randomness: a schedule is a function of its arguments."""
    trees = [(p, ast.parse(p.read_text(encoding="utf-8"))) for p in Path(curves.__file__).parent.rglob("*.py")]
    assert len(trees) > 30
    for path, tree in trees:
        imported = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        imported |= {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
        forbidden = {
            "os",
            "io",
            "pathlib",
            "shutil",
            "socket",
            "subprocess",
            "sys",
            "time",
            "datetime",
            "torch",
            "numpy",
        }
        assert not imported & forbidden, path
        called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        assert not called & {"open", "print", "input", "eval", "exec"}, path
