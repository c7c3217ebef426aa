"""Combinators: what they make of the schedules in them, and the pieces that speak for them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_cosine.schedules.compose import (
    Clip,
    EpochWise,
    Join,
    Noise,
    Product,
    RampInto,
    Repeat,
    Rounded,
    Scale,
    Shift,
    join,
    segment,
)
from yolo_cosine.schedules.curves import Constant, Cosine, Exponential, InvalidSchedule, Linear, OneMinusSqrt, Step
from yolo_cosine.schedules.cycles import CosineRestarts, Cyclic

DOWN = Linear(1.0, 0.0, 4)
UP = Linear(0.0, 1.0, 4)

TABLE = [  # schedule, step, expected
    (Join((UP, Constant(0.7), DOWN), (0, 4, 6)), 3, 0.75),
    (Join((UP, Constant(0.7), DOWN), (0, 4, 6)), 5, 0.7),
    (Join((UP, Constant(0.7), DOWN), (0, 4, 6)), 7, 0.75),
    (Join((UP, Constant(0.7), DOWN), (0, 4, 6)), 10**9, 0.0),
    (Join((UP, DOWN), (0, 2.5)), 3, 0.875),  # a joint between two steps
    (Join((UP, DOWN), (0, 0)), 0, 1.0),  # a piece of no steps
    (Join((Cosine(1.0, 0.0, 100), DOWN), (0, 2)), 2, 1.0),  # cut off on the way
    (Scale(DOWN, 0.5), 1, 0.375),
    (Scale(DOWN, -1.0), 2, -0.5),
    (Shift(DOWN, 3), 0, 0.25),
    (Shift(DOWN, 3), 1, 0.0),
    (Shift(DOWN, -3), 2, 1.0),
    (Shift(DOWN, -3), 4, 0.75),
    (Shift(DOWN, -3), 10**9, 0.0),
    (Clip(DOWN, low=0.4), 3, 0.4),
    (Clip(DOWN, high=0.6), 0, 0.6),
    (Clip(DOWN, low=0.4, high=0.6), 2, 0.5),
    (Clip(DOWN), 3, 0.25),
    (Repeat(DOWN), 4, 1.0),
    (Repeat(DOWN), 4 * 10**8 + 3, 0.25),
    (Repeat(DOWN, 2), 7, 0.25),
    (Repeat(DOWN, 2), 8, 0.0),
    (Repeat(DOWN, 2), 10**9, 0.0),
    (Repeat(Linear(1.0, 0.0, 4, "continue"), 2), 9, -0.25),
    (Repeat(Cyclic(0.0, 1.0, up=2), 2), 10, 1.0),  # goes on as it does past its end
    (Repeat(Repeat(DOWN, 2), 2), 12, 1.0),
    (Repeat(Linear(1.0, 0.0, 2.5)), 5, 1.0),
    (Product((DOWN, UP)), 1, 0.1875),
    (Product((DOWN, Constant(0.5), Constant(3.0))), 2, 0.75),
    (EpochWise(DOWN, 3), 2, 1.0),
    (EpochWise(DOWN, 3), 3, 0.75),
    (EpochWise(DOWN, 3), 10**9, 0.0),
    (RampInto(0.0, DOWN, 4), 0, 0.0),
    (RampInto(0.0, DOWN, 4), 2, 0.25),
    (RampInto(0.0, DOWN, 4), 4, 0.0),
    (RampInto(10.0, Constant(0.01), 2), 1, 5.005),  # biases fall into the rate
    (Rounded(Scale(DOWN, 10.0)), 3, 2),  # 2.5 to even
    (Rounded(Scale(DOWN, -10.0)), 0, 1),
    (Noise(DOWN, std=0.0), 1, 0.75),
    (Noise(DOWN, std=0.3, begin=2), 1, 0.75),
    (Noise(DOWN, std=0.3, stop=1), 1, 0.75),
]


@pytest.mark.parametrize(("schedule", "step", "expected"), TABLE)
def test_table(schedule, step, expected):
    assert schedule(step) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (Join((UP, DOWN), (0, 9)), 13),
        (Scale(DOWN, 2.0), 4),
        (Shift(DOWN, 3), 1),
        (Shift(DOWN, 9), 0),
        (Shift(DOWN, -3), 7),
        (Clip(DOWN), 4),
        (Repeat(DOWN), 4),
        (Repeat(DOWN, 3), 12),
        (Product((DOWN, Cosine(1, 0, 9))), 9),
        (EpochWise(DOWN, 3), 12),
        (Noise(DOWN), 4),
    ],
)
def test_length(schedule, steps):
    assert schedule.steps == steps


def test_join_leaves_out_what_has_no_steps():
    assert join(Linear(0, 1, 0), DOWN) == DOWN
    assert join(UP, Constant(1.0, 0), DOWN) == Join((UP, DOWN), (0, 4))
    assert join(UP, Constant(1.0, 0)).pieces == (UP, Constant(1.0, 0))  # but for the last, which goes on


def test_rounded_gives_whole_numbers():
    values = {Rounded(Linear(1, 4, 50))(k) for k in range(60)}
    assert values == {1, 2, 3, 4} and all(type(v) is int for v in values)


@given(seed=st.integers(0, 10**6), step=st.integers(0, 10**9), std=st.floats(0, 0.5), every=st.integers(1, 50))
def test_noise_stays_within_two_deviations_and_shares_its_draws(seed, step, std, every):
    noisy = Noise(Constant(1.0), std, seed, every)
    assert 1 - 2 * std - 1e-12 <= noisy(step) <= 1 + 2 * std + 1e-12
    first = step - step % every
    assert noisy(first) == noisy(step) == noisy(first + every - 1)


lengths = st.integers(1, 40)
levels = st.floats(0.01, 2)
curves = st.one_of(
    st.builds(Constant, levels, lengths),
    st.builds(Linear, levels, levels, lengths, st.sampled_from(["hold", "continue"])),
    st.builds(Cosine, levels, levels, lengths),
    st.builds(OneMinusSqrt, levels, levels, lengths),
    st.builds(Exponential, levels, st.floats(0.5, 1.0), lengths),
    st.builds(Step, levels, st.floats(0.1, 1.0), lengths),
    st.builds(CosineRestarts, levels, st.just(0.0), lengths),
)
trees = st.recursive(
    curves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map(lambda pieces: join(*pieces)),
        st.builds(EpochWise, inner, st.integers(1, 9)),
        st.builds(RampInto, levels, inner, st.integers(0, 30)),
        st.builds(Scale, inner, levels),
    ),
    max_leaves=8,
)


@given(schedule=trees, data=st.data())
def test_segments_speak_for_a_schedule_without_gap(schedule, data):
    step = 0
    while step < 200:
        piece, start, until = segment(schedule, step)
        assert until > step
        last = math.ceil(min(until, 220)) - 1
        for k in {step, data.draw(st.integers(step, last)), last}:
            assert piece(k - start) == schedule(k)
        step = last + 1


@given(schedule=trees, factor=levels, by=st.integers(0, 50), step=st.integers(0, 300))
def test_scaled_and_shifted_is_the_same_elsewhere(schedule, factor, by, step):
    assert Scale(Shift(schedule, by), factor)(step) == factor * schedule(step + by)
    assert Clip(schedule, low=0.2, high=0.6)(step) == min(max(schedule(step), 0.2), 0.6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Join((UP,), (0, 4)), "starts: 2 for 1 pieces; each piece has one start"),
        (lambda: Join((), ()), "starts: 0 for 0 pieces"),
        (lambda: Join((UP, DOWN), (4, 0)), r"starts: \[4, 0\] are not in order; put the pieces in the order"),
        (lambda: Clip(UP, 2.0, 1.0), "low: 2.0 is above high=1.0; exchange them"),
        (lambda: Repeat(Constant(1.0)), "what is repeated has no steps; give it a length"),
        (lambda: Repeat(UP, -1), "times: -1 is below 0; write 0 for ever"),
        (lambda: Product(()), "schedules: there is none; write at least one"),
        (lambda: EpochWise(UP, 0), "steps_per_epoch: 0 is no epoch; write 1 or more"),
        (lambda: Noise(UP, every=0), "every: 0 steps is no length; write at least 1it"),
        (lambda: Noise(UP, std=-0.1), "std: -0.1 is not from 0 to 0.5"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(InvalidSchedule, match=message):
        make()
