"""The composed form: what it means, that it comes back as it went, and how it says what is wrong."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from yolo_cosine.config.load import load_config
from yolo_cosine.schedules.build import build_schedule
from yolo_cosine.schedules.catalogue import EXAMPLES
from yolo_cosine.schedules.compose import Join
from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.expression import Clock, read_phases, write_phases
from yolo_cosine.schedules.run import standard_groups
from yolo_cosine.schedules.table import SchedulePlan

CLOCK = Clock(10, 100)
COSINE = {"curve": "cosine", "end": 0.0, "for": "rest"}


def read(*phases):
    return read_phases(list(phases), CLOCK, "phases")


def test_each_phase_starts_where_the_one_before_ended_and_the_last_ends_with_the_run():
    schedule = read(
        {"curve": "linear", "start": 0, "end": 1, "for": "1ep"}, {"curve": "constant", "for": "60%"}, COSINE
    )
    assert [schedule(k) for k in (0, 5, 10, 69, 70)] == [0.0, 0.5, 1.0, 1.0, 1.0]
    assert schedule(99) == schedule(10**9) == 0.0 < schedule(98)


def test_shares_that_add_up_to_the_whole_do_so_in_steps():
    third = {"curve": "constant", "for": "33.333333%"}
    schedule = read_phases([third, third, {**third, "for": "33.333334%"}], Clock(7, 101), "phases")
    assert schedule.starts == (0, 34, 67)


@pytest.mark.parametrize(("then", "expected"), [("hold", [0.0, 0.0]), ("rise", [0.0, 1.0]), ("restart", [1.0, 1.0])])
def test_what_follows_a_period(then, expected):
    schedule = read({**COSINE, "start": 1, "period": "40it", "then": then})
    assert [schedule(40), schedule(80)] == pytest.approx(expected, abs=1e-12)


def test_a_period_longer_than_its_phase_is_cut_off():
    schedule = read({**COSINE, "period": "120%"})
    assert schedule(99) == pytest.approx(0.0732, abs=1e-3)


@given(st.lists(st.sampled_from(sorted(EXAMPLES)), min_size=1, max_size=4), st.integers(5, 60))
def test_written_and_read_again_it_is_the_same(names, length):
    schedule = Join(tuple(EXAMPLES[n] for n in names), tuple(k * length for k in range(len(names))))
    text = yaml.safe_dump(write_phases(schedule))
    again = read_phases(yaml.safe_load(text), Clock(10, 1000), "phases")
    assert [again(k) for k in range(400)] == [schedule(k) for k in range(400)]


def test_the_short_form_is_short_for_phases():
    short = ["epochs=10", "warmup_epochs=2", "lrf=0.1", "warmup_bias_lr=0"]
    phases = "phases=[{curve: linear, start: 0, end: 1, for: 2ep}, {curve: cosine, end: 0.1, for: rest}]"
    one, other = (SchedulePlan.of(load_config(None, o), 13, "x").lines() for o in (short, ["epochs=10", phases]))
    assert list(one.values()) == list(other.values())


MISTAKES = [  # phases, what the message says
    ([{**COSINE, "curve": "cosin"}], r"phases\.0\.curve: 'cosin' is no curve; did you mean cosine\?"),
    ([{"end": 0, "for": "rest"}], r"phases\.0\.curve: missing; name one of .*linear"),
    ([{"curve": "cosine", "for": "rest"}], r"phases\.0\.end: missing; cosine needs it"),
    ([{**COSINE, "endd": 1}], r"phases\.0\.endd: cosine has no such argument; did you mean end\?"),
    ([{**COSINE, "end": "x"}], r"phases\.0\.end: 'x' is not a finite number"),
    ([{**COSINE, "end": float("nan")}], r"phases\.0\.end: nan is not a finite number"),
    ([{**COSINE, "for": 5}], r"phases\.0\.for: 5 has no unit; write 5ep for epochs or 5it for steps"),
    ([{**COSINE, "for": "5"}], r"phases\.0\.for: '5' is not a duration"),
    ([{**COSINE, "for": "0it"}], r"phases\.0\.for: 0it is no time at all"),
    ([{"curve": "cosine", "end": 0}], r"phases\.0\.for: missing"),
    ([COSINE, COSINE], r"phases\.1\.for: rest .* phases\.0 takes it already"),
    ([{**COSINE, "for": "50%"}], r"phases: the phases take 50 steps .* less than the run's 100 .*for: rest"),
    ([{**COSINE, "for": "60%"}, {**COSINE, "for": "5ep"}], r"phases: the phases take 110 steps .* more than the run's 100"),
    ([{**COSINE, "for": "110%"}, COSINE], r"phases\.1\.for: rest is nothing"),
    ([{**COSINE, "for": "0.1%"}, COSINE], r"phases\.0\.for: 0\.1% is less than a step"),
    ([{**COSINE, "period": "40%"}], r"phases\.0\.period: 40% .* shorter than its phase .*then: hold, rise or restart"),
    ([{**COSINE, "then": "stop"}], r"phases\.0\.then: 'stop': cosine has hold, rise, restart"),
    ([{"curve": "step", "gamma": 0.1, "every": "1ep", "then": "hold", "for": "rest"}], r"then: .* which has no end"),
    ([{"curve": "step", "gamma": 0.1, "every": 3, "for": "rest"}], r"phases\.0\.every: 3 has no unit"),
    ([{"curve": "cosine-restarts", "end": 0, "T_0": "0it", "for": "rest"}], r"phases\.0\.T_0: 0 steps is no cycle"),
    ([{"curve": "multistep", "milestones": "3ep", "for": "rest"}], r"phases\.0\.milestones: '3ep' is no list"),
    ([{"curve": "multistep", "milestones": ["3ep", "2ep"], "for": "rest"}], r"phases\.0\.milestones: .* not in order"),
    ([{"curve": "cyclic", "base": 0, "peak": 1, "up": "1ep", "mode": "saw", "for": "rest"}], r"mode: 'saw' is none of"),
    ([{"curve": "repeat", "schedule": 3, "for": "rest"}], r"phases\.0\.schedule: 3 is no schedule"),
    ([{"curve": "repeat", "schedule": {"curve": "linear", "end": 0}, "for": "rest"}], r"schedule\.period: missing"),
    ([{"curve": "repeat", "times": 2.5, "schedule": {"phases": [COSINE]}, "for": "rest"}], r"rest has no meaning inside"),
    ([{"curve": "clip", "low": 2, "high": 1, "schedule": COSINE, "for": "rest"}], r"schedule\.for: cosine has no such"),
    ([], r"phases: \[\] is no list of phases"),
    ("cosine", r"phases: 'cosine' is no list of phases"),
    ([3], r"phases\.0: 3 is no phase"),
]  # fmt: skip


@pytest.mark.parametrize(("phases", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_mistakes(phases, message):
    with pytest.raises(InvalidSchedule, match=message):
        read_phases(phases, CLOCK, "phases")


BUILD_MISTAKES = [  # overrides, what the message says
    (["preset=transformer.cosine"], "preset: 'transformer.cosine' is not known"),
    (["preset=transformers"], "has several schedules; write one of"),
    (["preset=transformers.cosin"], "did you mean cosine"),
    (["preset=transformers.cosine", "preset_args.warmup=3"], "warmup: there is no such argument"),
    (["preset_args.x=3"], "preset: yolo-cosine is none"),
    (["preset=yolov5", "phases=[{curve: constant, for: rest}]"], "only one can give the learning rate"),
    (["group_phases.biass=[{curve: constant, for: rest}]"], "there is no such group; did you mean bias"),
    (["period=50%"], "say what follows: after_period: hold, rise or restart"),
    (["after_period=hold"], "there is none; write one"),
    (["period=50%", "after_period=rise", "curve=linear"], "rise is for curve: cosine"),
    (["curve=exponential", "lrf=0"], "lrf: 0 is where an exponential decay never gets"),
    (["warmup_curve=exponential"], "warmup_start: 0 is where an exponential warmup never leaves"),
    (["lr_update=epoch", "warmup_curve=cosine"], "does not go with lr_update: epoch"),
    (["lr_factors={layers 0-9: 0.1, layers 9-12: 0.2}"], "layers 0-9 and 9-12 overlap"),
    (["lr_factors={biases: 2}"], "is neither a group .* nor layers"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "message"), BUILD_MISTAKES, ids=[o[0] for o, _ in BUILD_MISTAKES])
def test_mistakes_of_a_configuration(overrides, message):
    with pytest.raises(InvalidSchedule, match=message):
        config = load_config(None, ["epochs=10", *overrides])
        build_schedule(config, standard_groups(config), 10)


def test_what_is_not_used_or_not_reached_is_said():
    plan = SchedulePlan.of(
        load_config(None, ["epochs=10", "lrf=0.2", "phases=[{curve: constant, for: rest}]"]), 10, "x"
    )
    assert "not used: lrf=0.2" in plan.schedule.notes[0]
    plan = SchedulePlan.of(load_config(None, ["epochs=10", "period=120%"]), 10, "x")
    assert "longer than what the run leaves" in plan.schedule.notes[0]


def test_momentum_weight_decay_and_groups_have_phases_of_their_own():
    config = load_config(None, [
        "epochs=10", "phases=[{curve: cosine, end: 0, for: rest}]", "group_phases.bias=[{curve: constant, value: 2, for: rest}]",
        "momentum_phases=[{curve: linear, start: 0.95, end: 0.85, for: rest}]", "lr_factors={norm: 3, layers 0-9: 0.1}",
        "weight_decay_phases=[{curve: linear, end: 0, for: rest}]",
    ])  # fmt: skip
    groups = standard_groups(config)
    schedule = build_schedule(config, groups, 10)
    at = {g.name: schedule.lr[g.name](50) / schedule.lr["weight"](50) for g in groups}
    assert at["norm"] == pytest.approx(3) and at["weight_layers_0-9"] == pytest.approx(0.1)
    assert at["norm_layers_0-9"] == pytest.approx(0.3)
    assert schedule.lr["bias"](7) == 2
    assert (schedule.momentum(0), schedule.momentum(99)) == (0.95, 0.85)
    assert (schedule.weight_decay(0), schedule.weight_decay(99)) == (1.0, 0.0)
