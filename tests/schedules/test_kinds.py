"""Every kind of schedule: its ends, its bounds, its steps, and its recursive definition."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pickle
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_cosine.schedules import curves, cycles
from yolo_cosine.schedules.catalogue import EXAMPLES, LENGTH
from yolo_cosine.schedules.compose import Join, Noise, segment
from yolo_cosine.schedules.curves import KINDS, InvalidSchedule

GENERAL = {name for name, cls in KINDS.items() if ".peers." not in cls.__module__}
HELD = ("linear", "cosine", "polynomial", "power", "geometric", "tanh", "one-minus-sqrt", "rex", "one-cycle")
FALLING = (
    "linear", "cosine", "polynomial", "geometric", "exponential", "inverse-sqrt", "inverse-time", "tanh", "sigmoid",
    "one-minus-sqrt", "rex", "step", "multistep", "scale", "shift", "clip", "epoch-wise",
)  # fmt: skip
SMOOTH = (
    "linear",
    "cosine",
    "cosine-periodic",
    "polynomial",
    "power",
    "exponential",
    "inverse-time",
    "sigmoid",
    "one-cycle",
)


def test_every_kind_has_an_example_and_is_documented():
    assert set(EXAMPLES) == GENERAL
    assert all(KINDS[name].__doc__ for name in KINDS)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_immutable_value_that_answers_everywhere(name):
    schedule = EXAMPLES[name]
    values = [schedule(k) for k in range(3 * LENGTH)]
    assert all(math.isfinite(v) for v in (*values, schedule(10**9)))
    low, high = (1, 4) if name == "rounded" else (0.0, 1.3 if name == "noise" else 1.0)
    assert all(low <= v <= high + 1e-12 for v in values)
    assert pickle.loads(pickle.dumps(schedule)) == schedule and hash(schedule) == hash(schedule)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(schedule, dataclasses.fields(schedule)[0].name, 3)


@pytest.mark.parametrize("name", HELD)
def test_the_end_is_reached_and_held(name):
    schedule = EXAMPLES[name]
    assert schedule(LENGTH) == schedule.end == schedule(LENGTH + 1) == schedule(10**9)
    assert schedule(LENGTH - 1) != schedule.end
    start = schedule.start
    assert schedule(0) == pytest.approx(start, abs=1e-6)


@pytest.mark.parametrize("name", FALLING)
def test_falls_all_the_way(name):
    values = [EXAMPLES[name](k) for k in range(2 * LENGTH)]
    assert all(a >= b - 1e-15 for a, b in itertools.pairwise(values))


@pytest.mark.parametrize("name", SMOOTH)
def test_no_step_is_a_jump(name):
    values = [EXAMPLES[name](k) for k in range(2 * LENGTH)]
    assert max(abs(a - b) for a, b in itertools.pairwise(values)) < 0.06


def test_the_periodic_cosine_comes_back_and_the_held_one_does_not():
    periodic, held = cycles.CosinePeriodic(0.01, 0.0001, 10), curves.Cosine(0.01, 0.0001, 10)
    assert (periodic(0), held(0)) == (0.01, 0.01)
    assert periodic(10) == held(10) == pytest.approx(0.0001)
    assert periodic(20) == pytest.approx(0.01)
    assert held(20) == 0.0001


@pytest.mark.parametrize("mult", [1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("limit", [0, 3])
def test_restarts_begin_at_the_peak(mult, limit):
    schedule = cycles.CosineRestarts(1.0, 0.1, T_0=8, T_mult=mult, decay=0.5, cycle_limit=limit)
    start = 0.0
    for cycle in range(3):
        at = math.ceil(start)
        assert schedule.cycle(at) == cycle
        if start == at:
            assert schedule(at) == pytest.approx(0.5**cycle)
        start += 8 * mult**cycle
    if limit:
        assert schedule(math.ceil(start)) == schedule(10**9) == 0.1


def test_a_decayed_peak_may_fall_below_the_end():
    schedule = cycles.CosineRestarts(1.0, 0.1, T_0=8, decay=0.5)
    assert schedule(8 * 3) == 0.125 and schedule(8 * 4) == 0.0625 < schedule(8 * 5 - 1)


def recursions():
    """(schedule, the value of step k from that of step k - 1), as schedulers that keep no formula compute it."""
    n, rate = 10**5, 0.9999
    end = 0.01
    cosine = lambda y, k: end + (y - end) * (1 + math.cos(math.pi * k / n)) / (1 + math.cos(math.pi * (k - 1) / n))  # noqa: E731
    yield curves.Linear(1.0, end, n), lambda y, k: y + (end - 1.0) / n
    yield curves.Cosine(1.0, end, n), cosine
    yield curves.Exponential(1.0, rate), lambda y, k: y * rate
    yield curves.Geometric(1.0, end, n), lambda y, k: y * end ** (1 / n)
    yield curves.Polynomial(1.0, 0.0, n, 2.0), lambda y, k: y * ((1 - k / n) / (1 - (k - 1) / n)) ** 2
    yield curves.Power(0.0, 1.0, n, 2.0), lambda y, k: y + (2 * k - 1) / n**2
    yield curves.InverseSqrt(1.0, 500), lambda y, k: y * math.sqrt((k - 1 + 500) / (k + 500))
    yield curves.InverseTime(1.0, 0.5, 10), lambda y, k: 1 / (1 / y + 0.05)
    yield curves.Step(1.0, 0.9, 1000), lambda y, k: y * 0.9 if k % 1000 == 0 else y
    yield curves.MultiStep(1.0, (30_000, 60_000, 60_000)), lambda y, k: y * {30_000: 0.1, 60_000: 0.01}.get(k, 1.0)
    yield (
        cycles.CosinePeriodic(1.0, end, 777),
        lambda y, k: end + (1 - end) * (1 + math.cos(math.pi * (k % 1554) / 777)) / 2,
    )
    yield (
        cycles.CosineRestarts(1.0, end, 250),
        lambda y, k: 1.0 if k % 250 == 0 else end + (1 - end) * (1 + math.cos(math.pi * (k % 250) / 250)) / 2,
    )
    yield (
        cycles.Cyclic(0.0, 1.0, up=512, down=1024),  # whose sums are exact
        lambda y, k: y + (1 / 512 if (k - 1) % 1536 < 512 else -1 / 1024),
    )


@pytest.mark.parametrize(("schedule", "advance"), list(recursions()), ids=lambda x: getattr(x, "kind", ""))
def test_equal_to_the_recursion_over_100000_steps(schedule, advance):
    value = schedule(0)
    worst = 0.0
    for k in range(1, 10**5):
        value = advance(value, k)
        worst = max(worst, abs(schedule(k) - value))
    assert worst <= 1e-12


@given(data=st.data())
def test_a_segment_speaks_for_its_schedule(data):
    schedule = EXAMPLES[data.draw(st.sampled_from(sorted(EXAMPLES)))]
    other = EXAMPLES[data.draw(st.sampled_from(sorted(EXAMPLES)))]
    joined = Join((schedule, other), (0, data.draw(st.integers(1, 150))))
    step = data.draw(st.integers(0, 300))
    piece, start, until = segment(joined, step)
    assert until > step
    for k in (step, min(until - 1, step + 7)):
        assert piece(k - start) == joined(k)


def test_noise_is_a_function_of_seed_and_step():
    base = curves.Constant(1.0)
    one, again, other = Noise(base, 0.2, 1), Noise(base, 0.2, 1), Noise(base, 0.2, 2)
    values = [one(k) for k in range(2000)]
    assert values == [again(k) for k in range(2000)] != [other(k) for k in range(2000)]
    mean = sum(values) / 2000
    assert abs(mean - 1) < 0.02
    assert 0.15 < math.sqrt(sum((v - mean) ** 2 for v in values) / 2000) < 0.2
    assert min(values) >= 0.6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cycles.CosineRestarts(1, 0, T_0=0), "T_0: 0 steps is no cycle; write at least 1it"),
        (lambda: cycles.CosineRestarts(1, 0, T_0=5, T_mult=0.5), "T_mult: 0.5"),
        (lambda: cycles.CosineRestarts(1, 0, T_0=5, warmup=5), "warmup: 5 steps do not fit"),
        (lambda: cycles.CosinePeriodic(1, 0, 0), "is no period"),
        (lambda: cycles.Cyclic(0, 1, up=0), "up: 0 steps is no length"),
        (lambda: cycles.OneCycle(0, 1, 0, 10, pct_start=1.5), "pct_start: 1.5 is no share"),
        (lambda: curves.Geometric(1, 0, 5), "end: 0 is not above 0"),
        (lambda: curves.MultiStep(1, (5, 3)), "milestones: .* are not in order; sort them"),
        (lambda: curves.MultiStep(1, (3, 5), (0.1,)), "gamma: 1 factors for 2 milestones"),
        (lambda: curves.Piecewise((1.0,), (3,)), "one value more than boundaries"),
        (lambda: curves.Polynomial(1, 0, 5, 0.5, "continue")(7), "power: 0.5 of a negative number"),
        (lambda: Noise(curves.Constant(1.0), 0.9), "std: 0.9"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InvalidSchedule, match=message):
        make()


def test_the_room_needs_no_torch():
    code = (
        "import pkgutil, importlib, sys, yolo_cosine.schedules as s\n"
        "for m in pkgutil.walk_packages(s.__path__, s.__name__ + '.'): importlib.import_module(m.name)\n"
        "assert not {'torch', 'numpy', 'ultralytics'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
