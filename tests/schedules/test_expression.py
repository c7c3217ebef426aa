"""Durations, starts, periods and parts of the composed form, and that any schedule comes back as it went."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules import compose as c
from yolo_cosine.schedules import curves, cycles
from yolo_cosine.schedules.curves import KINDS, InvalidSchedule
from yolo_cosine.schedules.expression import Clock, read_phases, write_phases
from yolo_cosine.schedules.presets import from_native

CLOCK = Clock(steps_per_epoch=10, steps=200)
REST = {"for": "rest"}
DOWN = {"curve": "linear", "end": 0}


def read(*phases, clock=CLOCK, start=1.0):
    return read_phases(list(phases), clock, "phases", start)


# Durations


@pytest.mark.parametrize(
    ("text", "steps"),
    [("3ep", 30), ("0.5ep", 5), ("25it", 25), ("5%", 10), ("12.5%", 25), (" 2 ep ", 20), ("0.26ep", 3)],
)
def test_a_phase_lasts_what_it_says(text, steps):
    schedule = read({"curve": "constant", "value": 0.5, "for": text}, {"curve": "constant", "value": 2, **REST})
    assert [schedule(k) for k in (0, steps - 1, steps)] == [0.5, 0.5, 2.0]


@given(shares=st.lists(st.integers(1, 50), min_size=1, max_size=12), steps=st.integers(600, 10**7))
def test_shares_of_the_whole_fill_the_run(shares, steps):
    """Whatever the rounding of each, and no boundary is a step off."""
    percents = [100 * share / sum(shares) for share in shares]
    phases = [{"curve": "constant", "value": k, "for": f"{p:.12f}%"} for k, p in enumerate(percents)]
    schedule = read(*phases, clock=Clock(10, steps))
    starts = schedule.starts if isinstance(schedule, c.Join) else (0,)
    for k, start in enumerate(starts):
        assert abs(start - steps * sum(shares[:k]) / sum(shares)) <= 0.5 + 1e-6
    assert schedule(steps - 1) == len(shares) - 1


@pytest.mark.parametrize("place", range(3))
def test_rest_may_stand_anywhere(place):
    phases = [{"curve": "constant", "value": k, "for": "10%"} for k in range(3)]
    phases[place] = {**phases[place], **REST}
    starts = {0: (0, 160, 180), 1: (0, 20, 180), 2: (0, 20, 40)}
    assert read(*phases).starts == starts[place]


def test_arguments_are_durations_too():
    schedule = read({"curve": "multistep", "milestones": ["3ep", "50%", "150it"], "gamma": 0.5, **REST})
    assert schedule.milestones == (30, 100, 150)
    assert read({"curve": "inverse-sqrt", "timescale": "2.5%", **REST}).timescale == 5
    restarts = read({"curve": "cosine-restarts", "end": 0, "T_0": "2.5%", **REST})
    assert (restarts.T_0, restarts.T_mult) == (5, 1.0)


# Starts and ends


def test_the_first_phase_starts_at_what_the_caller_says():
    assert read({**DOWN, **REST}, start=0.937)(0) == 0.937
    assert read({"curve": "constant", **REST}, start=0.937)(5) == 0.937


@pytest.mark.parametrize(
    ("before", "ended"),
    [
        ({"curve": "linear", "start": 0, "end": 0.6, "for": "50%"}, 0.6),
        ({"curve": "cosine", "end": 0.3, "for": "50%"}, 0.3),
        ({"curve": "constant", "value": 0.7, "for": "50%"}, 0.7),
        ({"curve": "step", "gamma": 0.5, "every": "5ep", "for": "50%"}, 0.25),
        ({"curve": "cosine", "end": 0, "period": "100%", "for": "50%"}, 0.5),  # cut off half-way
        ({"curve": "clip", "low": 0.2, "schedule": {"curve": "linear", "end": 0}, "for": "50%"}, 0.2),
        ({"curve": "cosine", "end": 0, "period": "5ep", "then": "rise", "for": "50%"}, 1.0),
    ],
)
def test_a_phase_starts_where_the_one_before_ended(before, ended):
    schedule = read(before, {**DOWN, **REST})
    assert schedule(100) == pytest.approx(ended, abs=1e-15)
    assert schedule(199) == 0.0


@given(st.integers(1, 300), st.integers(0, 299))
def test_only_the_last_phase_ends_with_its_own_last_step(steps, split):
    split = split % steps
    last = {"curve": "linear", "start": 1, "end": 0, **REST}
    first = [{"curve": "linear", "start": 0, "end": 1, "for": f"{split}it"}] if split else []
    schedule = read(*first, last, clock=Clock(10, steps))
    assert schedule(steps - 1) == 0.0
    assert schedule(split) == (1.0 if steps - split > 1 else 0.0)  # of one step, it is the end


# Periods, and what follows


@pytest.mark.parametrize(
    ("phase", "at", "expected"),
    [
        ({**DOWN, "period": "5ep", "then": "hold"}, 150, 0.0),
        ({**DOWN, "period": "5ep", "then": "continue"}, 75, -0.5),
        ({**DOWN, "period": "5ep", "then": "restart"}, 75, 0.5),
        ({**DOWN, "period": "5ep", "then": "restart"}, 100, 1.0),
        ({"curve": "cosine", "end": 0, "period": "5ep", "then": "rise"}, 75, 0.5),
        ({"curve": "cosine", "end": 0, "period": "5ep", "then": "rise"}, 100, 1.0),
        ({"curve": "cosine", "end": 0, "period": "5ep", "then": "restart"}, 75, 0.5),
        ({"curve": "cosine", "end": 0, "period": "5ep", "then": "restart"}, 50, 1.0),
        ({"curve": "polynomial", "end": 0, "power": 2, "period": "5ep", "then": "continue"}, 100, 1.0),
        ({"curve": "geometric", "end": 0.1, "period": "5ep", "then": "continue"}, 100, 0.01),
        ({"curve": "one-cycle", "start": 0, "peak": 1, "end": 0, "period": "5ep", "then": "restart"}, 65, 1.0),
        ({"curve": "rex", "end": 0.1, "period": "50it", "then": "hold"}, 10**9, 0.1),
        ({**DOWN, "period": "400it"}, 200, 0.5),  # a longer one is cut off
        ({**DOWN, "period": "199.5it"}, 0, 1.0),  # a period may end between two steps
        ({"curve": "cosine-periodic", "end": 0, "period": "5ep"}, 100, 1.0),  # needs no `then`: it has no end
    ],
)
def test_periods(phase, at, expected):
    assert read({**phase, **REST})(at) == pytest.approx(expected, abs=1e-15)


@given(st.integers(1, 400), st.sampled_from(["cosine", "linear", "rex", "one-minus-sqrt"]))
def test_a_shorter_period_needs_then_and_a_longer_does_not(period, curve):
    phase = {"curve": curve, "end": 0, "period": f"{period}it", **REST}
    if period < CLOCK.steps - 1:
        with pytest.raises(InvalidSchedule, match=rf"phases\.0\.period: {period}it .* is shorter .* then: hold"):
            read(phase)
        phase["then"] = "hold"
    assert read(phase).steps == period


def test_phases_within_phases():
    part = {"phases": [{"curve": "linear", "start": 0, "end": 1, "for": "1ep"}, {**DOWN, "for": "1ep"}]}
    schedule = read(
        {"curve": "repeat", "times": 3, "schedule": part, "for": "60it"}, {"curve": "constant", "value": 0.5, **REST}
    )
    assert [schedule(k) for k in (0, 5, 10, 15, 20, 30, 50, 59, 60)] == [
        0,
        0.5,
        1,
        0.5,
        0,
        1,
        1,
        pytest.approx(0.1),
        0.5,
    ]
    nested = {
        "phases": [{"curve": "repeat", "times": 2, "schedule": part, "for": "4ep"}, {"curve": "constant", "for": "1ep"}]
    }
    again = read({"curve": "repeat", "schedule": nested, **REST})
    assert [again(k) for k in (10, 30, 45, 60, 110)] == [1.0, 1.0, 0.0, 1.0, 1.0]


def test_combinators_give_their_length_to_their_parts():
    for name in ("scale", "clip", "noise", "rounded"):
        extra = {"factor": 2.0} if name == "scale" else {}
        schedule = read({"curve": name, "schedule": DOWN, **extra, **REST})
        assert schedule.schedule.steps == 199
    product = read({"curve": "product", "schedules": [DOWN, {"curve": "linear", "start": 0.0, "end": 2}], **REST})
    assert product(100) == pytest.approx((1 - 100 / 199) * 200 / 199)
    assert read({"curve": "ramp-into", "start": 0, "target": DOWN, "warmup": "1ep", **REST}).target.steps == 199


# There and back

levels = st.floats(0.001, 4)
whole = st.integers(1, 60)
any_length = st.one_of(whole, st.floats(0.3, 60).map(lambda x: round(x, 6)))
after = st.sampled_from(["hold", "continue"])
marks = st.lists(st.integers(0, 200), max_size=4).map(lambda m: tuple(sorted(m)))
with_period = st.one_of(
    st.builds(curves.Linear, levels, levels, any_length, after),
    st.builds(curves.Cosine, levels, levels, any_length),
    st.builds(curves.Polynomial, levels, levels, any_length, st.sampled_from([0.5, 1.0, 2.0])),
    st.builds(curves.Polynomial, levels, levels, any_length, st.sampled_from([1.0, 2.0]), after),
    st.builds(curves.Power, levels, levels, any_length, levels),
    st.builds(curves.Geometric, levels, levels, st.integers(10, 60), after),
    st.builds(curves.Tanh, levels, levels, any_length, st.just(-3.0), st.just(2.0)),
    st.builds(curves.OneMinusSqrt, levels, levels, any_length),
    st.builds(curves.Rex, levels, levels, any_length),
    st.builds(cycles.CosinePeriodic, levels, levels, any_length),
    st.builds(cycles.OneCycle, levels, levels, levels, any_length, st.floats(0, 1), st.sampled_from(["cosine", "linear"])),
    st.builds(cycles.CosineRestarts, levels, levels, any_length, st.sampled_from([1.0, 1.5, 2.0]), levels, st.integers(0, 3)),
    st.builds(cycles.Cyclic, levels, levels, whole, st.none() | whole, st.sampled_from(["triangular", "triangular2"])),
)  # fmt: skip
share = st.floats(0.1, 1)
endless = st.one_of(
    st.builds(curves.Constant, levels, steps=whole),
    st.builds(curves.Exponential, levels, share, any_length, st.booleans(), st.none() | levels, steps=whole),
    st.builds(curves.InverseSqrt, levels, any_length, steps=whole),
    st.builds(curves.InverseTime, levels, levels, any_length, st.booleans(), steps=whole),
    st.builds(curves.Sigmoid, levels, levels, whole, steps=whole),
    st.builds(curves.Step, levels, share, any_length, steps=whole),
    st.builds(curves.MultiStep, levels, marks, share, steps=whole),
    marks.map(lambda m: curves.MultiStep(1.0, m, tuple(0.5 + k for k in range(len(m))), steps=7)),
    marks.map(lambda m: curves.Piecewise(tuple(0.5 + k for k in range(len(m) + 1)), m, steps=7)),
)


def combined(inner):
    return st.one_of(
        st.lists(inner, min_size=1, max_size=4).map(lambda pieces: c.join(*pieces)),
        st.tuples(inner, inner, any_length).map(lambda t: c.Join(t[:2], (0, t[2]))),
        st.builds(c.Scale, inner, levels),
        st.builds(c.Shift, inner, st.integers(-20, 20)),
        st.builds(c.Clip, inner, st.none() | st.just(0.1), st.none() | st.just(0.9)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: c.Product(tuple(parts))),
        st.builds(c.EpochWise, inner, st.integers(1, 7)),
        st.builds(c.RampInto, levels, inner, any_length),
        st.builds(c.Rounded, inner),
        st.builds(c.Noise, inner, st.floats(0, 0.5), st.integers(0, 9), whole, st.integers(0, 9), st.integers(0, 99)),
    )


repeated = st.builds(c.Repeat, st.one_of(with_period, endless, st.builds(c.Scale, endless, levels)), st.integers(0, 3))
trees = st.recursive(st.one_of(with_period, endless, repeated), combined, max_leaves=6)


@settings(max_examples=300)
@given(schedule=trees)
def test_every_schedule_comes_back_as_it_went(schedule):
    text = yaml.safe_dump(write_phases(schedule))
    again = read_phases(yaml.safe_load(text), Clock(10, 10**6), "phases")
    steps = [*range(120), 10**4]
    assert [again(k) for k in steps] == [schedule(k) for k in steps]
    # what comes back is written as it was read; a length that nobody asks for, as a constant's, is not written at first
    written = write_phases(again)
    assert write_phases(read_phases(written, Clock(10, 10**6), "phases")) == written


@given(schedule=trees)
def test_every_schedule_is_a_value(schedule):
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert hash(schedule) == hash(pickle.loads(pickle.dumps(schedule)))


FILES = sorted((Path(__file__).parent / "peer_values").glob("*.json"))


def value(schedule, index):
    try:
        return schedule(index)
    except InvalidSchedule:
        return "none"  # where the peer raises


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_peers_schedules_come_back_too(file):
    for case in json.loads(file.read_text())["cases"]:
        if not case["index"]:
            continue
        found = from_native(file.stem, case["schedule"], case["native"], case["common"])
        for schedule in {*found.factors, *found.momenta}:
            again = read_phases(write_phases(schedule), Clock(7, 10**8), "phases")
            assert [value(again, k) for k in case["index"]] == [value(schedule, k) for k in case["index"]], case["id"]
            assert pickle.loads(pickle.dumps(schedule)) == schedule


# Mistakes, besides those in test_phases

MISTAKES = [  # phases, what the message says
    ([{"curve": ["cosine"], **REST}], r"phases\.0\.curve: \['cosine'\] is no curve"),
    ([{"curve": 3, **REST}], r"phases\.0\.curve: 3 is no curve; there are .*cosine, .*step"),
    ([{"curve": "zzz", **REST}], r"phases\.0\.curve: 'zzz' is no curve; there are "),
    ([{"curve": "Cosine", "end": 0, **REST}], r"did you mean cosine\?"),
    ([{"curve": "constant", "value": True, **REST}], r"phases\.0\.value: True is not a finite number"),
    ([{"curve": "constant", "value": "1", **REST}], r"phases\.0\.value: '1' is not a finite number"),
    ([{"curve": "constant", "value": None, **REST}], r"phases\.0\.value: None is not a finite number"),
    ([{"curve": "constant", "steps": "3ep", **REST}], r"phases\.0\.steps: constant has no such argument; it has value"),
    ([{"curve": "linear", "end": 0, "after": "continue", **REST}], r"phases\.0\.after: linear has no such argument"),
    ([{"curve": "linear", "end": 0, "then": "rise", **REST}], r"phases\.0\.then: 'rise': linear has hold, continue, restart"),
    ([{"curve": "cosine", "end": 0, "then": "continue", **REST}], r"then: 'continue': cosine has hold, rise, restart"),
    ([{"curve": "cosine-periodic", "end": 0, "period": "1ep", "then": "hold", **REST}], r"nothing follows after cosine-periodic"),
    ([{"curve": "exponential", "gamma": 0.9, "period": "1ep", **REST}], r"period: 1ep: exponential has no end to reach"),
    ([{"curve": "exponential", **REST}], r"phases\.0\.gamma: missing; exponential needs it"),
    ([{"curve": "exponential", "gamma": 0.9, "every": "0it", **REST}], r"phases\.0\.every: 0 steps is no length"),
    ([{"curve": "exponential", "gamma": 0.9, "staircase": 1, **REST}], r"staircase: 1 is not true or false"),
    ([{"curve": "cosine", "end": 0, "period": "0ep", **REST}], r"phases\.0\.period: 0ep is no time at all; write at least 1it"),
    ([{"curve": "cosine", "end": 0, "period": "-3it", **REST}], r"phases\.0\.period: -3it is no time at all"),
    ([{"curve": "cosine", "end": 0, "period": 80, **REST}], r"phases\.0\.period: 80 has no unit; write 80ep .* or 80it"),
    ([{"curve": "cosine", "end": 0, "for": "2.5it"}], r"phases\.0\.for: '2\.5it' is a fraction of a step; write whole steps"),
    ([{"curve": "cosine", "end": 0, "for": "-3ep"}], r"phases\.0\.for: '-3ep' is not a duration; write epochs as 3ep"),
    ([{"curve": "cosine", "end": 0, "for": "three"}], r"phases\.0\.for: 'three' is not a duration"),
    ([{"curve": "cosine", "end": 0, "for": ["3ep"]}], r"phases\.0\.for: \['3ep'\] is not a duration; write 3ep"),
    ([{"curve": "cosine", "end": 0, "for": True}], r"phases\.0\.for: True is not a duration"),
    ([{"curve": "geometric", "end": 0, **REST}], r"phases\.0\.end: 0 is not above 0; a geometric curve never gets there"),
    ([{"curve": "multistep", "milestones": [3], **REST}], r"phases\.0\.milestones\.0: 3 has no unit; write 3ep"),
    ([{"curve": "multistep", "milestones": ["3ep"], "gamma": [0.1, 0.2], **REST}], r"gamma: 2 factors for 1 milestones"),
    ([{"curve": "piecewise", "values": [1, 2], "boundaries": [], **REST}], r"values: 2 for 0 boundaries"),
    ([{"curve": "cosine-restarts", "end": 0, "T_0": "1ep", "T_mult": 0.5, **REST}], r"phases\.0\.T_mult: 0\.5 would shrink"),
    ([{"curve": "cosine-restarts", "end": 0, "T_0": "1ep", "cycle_limit": 1.5, **REST}], r"cycle_limit: 1\.5 is not a whole number"),
    ([{"curve": "epoch-wise", "by_epoch": {"curve": "constant"}, "steps_per_epoch": 0, **REST}], r"steps_per_epoch: 0 is no epoch"),
    ([{"curve": "product", "schedules": [], **REST}], r"phases\.0\.schedules: there is none"),
    ([{"curve": "product", "schedules": DOWN, **REST}], r"phases\.0\.schedules: .* is no list"),
    ([{"curve": "product", "schedules": [DOWN, {"curve": "linear"}], **REST}], r"phases\.0\.schedules\.1\.end: missing"),
    ([{"curve": "scale", "factor": 2, **REST}], r"phases\.0\.schedule: missing; scale needs it"),
    ([{"phases": [DOWN], "curve": "linear", **REST}], r"phases\.0\.curve: does not go with phases; put it into one"),
    ([{"phases": [], **REST}], r"phases\.0\.phases: \[\] is no list of phases"),
    ([{"curve": "repeat", "schedule": {"phases": [{**DOWN, "for": "3"}]}, **REST}], r"phases\.0\.schedule\.phases\.0\.for: '3' is not"),
    ([{"curve": "repeat", "schedule": {"curve": "constant"}, **REST}], r"what is repeated has no steps; give it a length"),
    ([{**DOWN, "for": "50%"}, {**DOWN, "for": "50%"}, {**DOWN, **REST}], r"phases\.2\.for: rest is nothing.*shorten one of them"),
    ([{**DOWN, "for": "99.9%"}, {**DOWN, **REST}], r"phases\.1\.for: rest is less than a step of this run; write at least 1it"),
    ([{**DOWN, "for": "5ep"}, {**DOWN, "for": "5ep"}], r"take 100 steps \(10 epochs\), less than the run's 200 \(20 epochs\)"),
    ([{1: 2, **DOWN, **REST}], r"phases\.0\.1: linear has no such argument"),
]  # fmt: skip


@pytest.mark.parametrize(("phases", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(phases, message):
    with pytest.raises(InvalidSchedule, match=message):
        read(*phases)


anything = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.floats(), st.text("a:.-3ep%", max_size=3), st.just("3ep"), st.just("1it"),
    st.lists(st.sampled_from([0, 1.5, "2it", "x"]), max_size=2), st.sampled_from([{}, DOWN, {"curve": "constant"}, {1: 2}]),
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(n for n, k in KINDS.items() if ".peers." not in k.__module__))
@settings(max_examples=40)
@given(data=st.data())
def test_junk_never_crashes(name, data):
    """Whatever stands there is a schedule, or the message begins with its place."""
    keys = [f.name for f in dataclasses.fields(KINDS[name])] + ["period", "then"]
    junk = data.draw(st.dictionaries(st.sampled_from(keys), anything))
    try:
        schedule = read({"curve": name, **junk, **REST})
    except InvalidSchedule as error:
        assert str(error).startswith("phases.0.")
    else:
        assert isinstance(schedule(3), int | float)
