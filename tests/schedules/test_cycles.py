"""The curves that come back: their cycles, peaks and ends."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.cycles import CosinePeriodic, CosineRestarts, Cyclic, OneCycle

HALF = (1 + math.sqrt(0.5)) / 2  # of a cosine's height, after a quarter of its way

TABLE = [  # schedule, step, expected
    (CosinePeriodic(1.0, 0.2, 4), 0, 1.0),
    (CosinePeriodic(1.0, 0.0, 4), 1, HALF),
    (CosinePeriodic(1.0, 0.2, 4), 4, 0.2),
    (CosinePeriodic(1.0, 0.0, 4), 7, HALF),
    (CosinePeriodic(1.0, 0.2, 4), 8, 1.0),
    (CosinePeriodic(1.0, 0.2, 4), 8 * 10**8, 1.0),
    (CosineRestarts(1.0, 0.0, 4), 3, 1 - HALF),
    (CosineRestarts(1.0, 0.0, 4), 4, 1.0),
    (CosineRestarts(1.0, 0.0, 4, T_mult=2), 4, 1.0),
    (CosineRestarts(1.0, 0.0, 4, T_mult=2), 8, 0.5),
    (CosineRestarts(1.0, 0.0, 4, T_mult=2), 12, 1.0),
    (CosineRestarts(1.0, 0.0, 4, decay=0.5), 9, HALF / 4),
    (CosineRestarts(1.0, 0.0, 4, cycle_limit=2), 7, 1 - HALF),
    (CosineRestarts(1.0, 0.1, 4, cycle_limit=2), 8, 0.1),
    (CosineRestarts(1.0, 0.1, 4, cycle_limit=2), 10**9, 0.1),
    (CosineRestarts(1.0, 0.2, 8, warmup=4), 0, 0.2),
    (CosineRestarts(1.0, 0.2, 8, warmup=4), 2, 0.6),
    (CosineRestarts(1.0, 0.2, 8, warmup=4, warmup_start=0.0), 2, 0.5),
    (CosineRestarts(1.0, 0.0, 8, warmup=4, decay=0.5), 12, 0.5),  # the second cycle's peak is after its warmup
    (CosineRestarts(1.0, 0.0, 8, warmup=4), 5, HALF),
    (Cyclic(0.1, 0.5, up=4), 0, 0.1),
    (Cyclic(0.1, 0.5, up=4), 1, 0.2),
    (Cyclic(0.1, 0.5, up=4), 4, 0.5),
    (Cyclic(0.1, 0.5, up=4), 8, 0.1),
    (Cyclic(0.1, 0.5, up=4, down=2), 5, 0.3),
    (Cyclic(0.1, 0.5, up=4, mode="triangular2"), 12, 0.3),
    (Cyclic(0.1, 0.5, up=4, mode="triangular2"), 20, 0.2),
    (Cyclic(0.1, 0.5, up=4, mode="exp_range", gamma=0.5), 4, 0.1 + 0.4 / 16),
    (Cyclic(0.1, 0.5, up=4, mode="triangular2"), 10**9, 0.1),
    (OneCycle(0.1, 1.0, 0.0, 10, pct_start=0.4), 0, 0.1),
    (OneCycle(0.1, 1.0, 0.0, 10, pct_start=0.4), 2, 0.55),
    (OneCycle(0.1, 1.0, 0.0, 10, pct_start=0.4), 4, 1.0),
    (OneCycle(0.1, 1.0, 0.0, 10, pct_start=0.4), 7, 0.5),
    (OneCycle(0.1, 1.0, 0.0, 10, pct_start=0.4), 10, 0.0),
    (OneCycle(0.1, 1.0, 0.2, 10), 10**9, 0.2),
    (OneCycle(0.2, 1.0, 0.0, 10, pct_start=0.4, anneal="linear"), 1, 0.4),
    (OneCycle(0.2, 1.0, 0.0, 10, pct_start=0.4, anneal="linear"), 7, 0.5),
    (OneCycle(0.1, 1.0, 0.0, 10, pct_start=0.0), 0, 1.0),  # no way up
    (OneCycle(0.1, 1.0, 0.0, 10, pct_start=1.0, anneal="linear"), 9, 0.91),  # no way down
    (OneCycle(0.1, 1.0, 0.3, 0), 0, 0.3),
    (OneCycle(0.95, 0.85, 0.95, 10, pct_start=0.5), 5, 0.85),  # momentum goes the other way
]


@pytest.mark.parametrize(("schedule", "step", "expected"), TABLE)
def test_table(schedule, step, expected):
    assert schedule(step) == pytest.approx(expected, abs=1e-7 if step > 10**6 else 1e-15)


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (CosineRestarts(1, 0, 10), 10),
        (CosineRestarts(1, 0, 10, cycle_limit=3), 30),
        (CosineRestarts(1, 0, 10, T_mult=2, cycle_limit=3), 70),
        (Cyclic(0, 1, up=5), 10),
        (Cyclic(0, 1, up=5, down=2), 7),
    ],
)
def test_length(schedule, steps):
    assert schedule.steps == steps


shares = st.tuples(st.integers(1, 400), st.integers(1, 60)).map(lambda pair: pair[0] / pair[1])


@given(T_0=shares, T_mult=st.sampled_from([1.0, 1.5, 2.0, 3.0]), step=st.integers(0, 5000))
def test_cycles_of_any_length_tile_the_steps(T_0, T_mult, step):
    """Also where a cycle is a share of the run, and so no whole number of steps."""
    schedule = CosineRestarts(1.0, 0.0, T_0, T_mult)
    cycle = schedule.cycle(step)
    slack = 1e-8 + 1e-11 * step
    assert schedule.start_of(cycle) - slack <= step < schedule.start_of(cycle + 1) + slack
    assert 0.0 <= schedule(step) <= 1.0


@given(cycles=st.integers(1, 12), steps=st.integers(1, 3000), T_mult=st.sampled_from([1.0, 2.0, 3.0]))
def test_cycles_that_fill_the_run_end_with_it(cycles, steps, T_mult):
    """An even share for each cycle, rounded as it may be: the step after the last cycle is at the next one's peak."""
    T_0 = steps / sum(T_mult**k for k in range(cycles))
    schedule = CosineRestarts(1.0, 0.0, T_0, T_mult)
    assert schedule.cycle(steps) == cycles
    assert schedule(steps) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("T_mult", [1, 2, 3])
def test_restarts_equal_the_counting_of_100000_steps(T_mult):
    """PyTorch's CosineAnnealingWarmRestarts counts T_cur up to T_i, and multiplies T_i at a restart."""
    schedule = CosineRestarts(1.0, 0.01, 7, T_mult)
    position, length = 0, 7
    for k in range(10**5):
        expected = 0.01 + 0.99 * (1 + math.cos(math.pi * position / length)) / 2
        assert abs(schedule(k) - expected) <= 1e-12
        position += 1
        if position == length:
            position, length = 0, length * T_mult


@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from(["triangular", "triangular2"]))
def test_triangles_touch_base_and_peak_and_never_jump(up, down, mode):
    schedule = Cyclic(0.1, 0.9, up, down, mode)
    values = [schedule(k) for k in range(3 * (up + down) + 1)]
    halving = 0.5 if mode == "triangular2" else 1.0
    for cycle in range(3):
        assert values[cycle * (up + down)] == pytest.approx(0.1)
        assert values[cycle * (up + down) + up] == pytest.approx(0.1 + 0.8 * halving**cycle)
    assert max(abs(a - b) for a, b in itertools.pairwise(values)) <= 0.8 / min(up, down) + 1e-12


@given(st.integers(2, 500), st.floats(0, 1), st.sampled_from(["cosine", "linear"]))
def test_one_cycle_rises_to_the_peak_once_and_falls_to_the_end(steps, pct_start, anneal):
    schedule = OneCycle(0.1, 1.0, 0.001, steps, pct_start, anneal)
    peak = round(pct_start * steps)
    values = [schedule(k) for k in range(steps + 5)]
    assert all(a <= b for a, b in itertools.pairwise(values[: peak + (peak < steps)]))
    assert all(a >= b for a, b in itertools.pairwise(values[peak:]))
    assert max(values) <= 1.0 and values[steps:] == [0.001] * 5
    if peak < steps:
        assert values[peak] == 1.0


@pytest.mark.parametrize(
    "schedule",
    [CosineRestarts(1.0, 0.0, 2, decay=2.0), Cyclic(0.0, 1.0, up=3, mode="exp_range", gamma=1.1)],
    ids=["restarts", "cyclic"],
)
def test_growth_without_bound_is_infinite_and_no_error(schedule):
    assert schedule(10**6 + 1) == math.inf


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CosineRestarts(1, 0, 5, cycle_limit=-1), "cycle_limit: -1 is below 0; write 0 for no limit"),
        (lambda: CosineRestarts(1, 0, 5, warmup=-1), "warmup: -1 steps do not fit"),
        (lambda: Cyclic(0, 1, up=1, down=0), "down: 0 steps is no length; write at least 1it"),
        (lambda: OneCycle(0, 1, 0, 10, pct_start=-0.1), "pct_start: -0.1 is no share; write a number from 0 to 1"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InvalidSchedule, match=message):
        make()
