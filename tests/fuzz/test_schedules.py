"""Schedules composed of anything."""

from __future__ import annotations

import math

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz.conftest import ANYTHING, FUZZ, NUMBERS, TEXT, in_time, outcome, spoiled_tree
from yolo_cosine.config.explain import validate
from yolo_cosine.schedules.build import build_schedule
from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.describe import parts
from yolo_cosine.schedules.presets import argument_names, peers, schedules_of
from yolo_cosine.schedules.run import RunSchedule, standard_groups

DOWN = {"curve": "cosine", "start": 1, "end": 0.1, "period": "2ep"}
PHASES = [
    [{"curve": "linear", "start": 0, "end": 1, "for": "3it"}, {"curve": "cosine", "end": 0.01, "for": "rest"}],
    [{"curve": "polynomial", "end": 0, "power": 2, "period": "50%", "then": "continue", "for": "rest"}],
    [{"curve": "power", "end": 0.5, "power": 0.5, "for": "50%"}, {"curve": "geometric", "end": 0.1, "for": "50%"}],
    [{"curve": "exponential", "gamma": 0.9, "every": "1ep", "staircase": True, "bound": 0.2, "for": "rest"}],
    [{"curve": "cosine-restarts", "end": 0, "T_0": "2ep", "T_mult": 2, "decay": 0.5, "warmup": "1it", "for": "rest"}],
    [{"curve": "inverse-sqrt", "timescale": "1ep", "for": "1ep"}, {"curve": "inverse-time", "rate": 0.5, "for": "rest"}],
    [{"curve": "sigmoid", "gamma": 0.1, "middle": "2ep", "for": "1ep"}, {"curve": "tanh", "end": 0, "lower": -3, "for": "rest"}],
    [{"curve": "step", "gamma": 0.1, "every": "1ep", "for": "1ep"}, {"curve": "rex", "end": 0, "for": "rest"}],
    [{"curve": "multistep", "milestones": ["1ep", "2ep"], "gamma": [0.1, 0.5], "for": "rest"}],
    [{"curve": "piecewise", "values": [1, 0.5], "boundaries": ["1ep"], "for": "rest"}],
    [{"curve": "cyclic", "base": 0.1, "peak": 1, "up": "1ep", "down": "2it", "mode": "exp_range", "gamma": 0.9, "for": "rest"}],
    [{"curve": "one-cycle", "start": 0, "peak": 1, "end": 0, "pct_start": 0.3, "anneal": "linear", "for": "rest"}],
    [{"curve": "scale", "factor": 2, "schedule": {"curve": "clip", "low": 0.2, "schedule": DOWN}, "for": "rest"}],
    [{"curve": "shift", "by": "-1ep", "schedule": {"curve": "noise", "std": 0.1, "every": "2it", "schedule": DOWN}, "for": "rest"}],
    [{"curve": "repeat", "times": 3, "schedule": {"phases": [{"curve": "constant", "for": "2it"}]}, "for": "rest"}],
    [{"curve": "product", "schedules": [DOWN, {"curve": "constant", "value": 2}], "for": "rest"}],
    [{"curve": "epoch-wise", "steps_per_epoch": 3, "by_epoch": {"curve": "rounded", "schedule": DOWN}, "for": "rest"}],
    [{"curve": "ramp-into", "start": 0, "warmup": "1ep", "target": DOWN, "for": "rest"}],
]  # fmt: skip
SHORT = {
    "epochs": 6, "curve": "cosine", "lrf": 0.1, "period": "80%", "after_period": "restart", "warmup_epochs": 1.5,
    "warmup_curve": "linear", "warmup_start": 0.1, "warmup_bias_lr": 0.1, "lr_update": "step", "lr0": 0.01, "batch": 4,
    "momentum_phases": PHASES[0], "lr_factors": {"bias": 2}, "plateau": {"factor": 0.5},
    "extensions": [{"how": "decay", "step": 9, "epochs": 4, "curve": "linear", "lrf": 0.1}],
}  # fmt: skip
FIELDS = ("phases", "momentum_phases", "weight_decay_phases")
texts = st.sampled_from(
    ["1it", "-1it", "0.3it", "2.5ep", "100%", "9" * 400 + "ep", "linear", "hold", "continue", "rise", "restart"]
)


def try_out(config: object, steps_per_epoch: int) -> None:
    """Build the schedule of a run, ask it for values, and read its phases."""
    schedule = outcome(lambda: build_schedule(config, standard_groups(config), steps_per_epoch), "")
    if schedule is None:
        return
    assert isinstance(schedule, RunSchedule) and schedule.steps >= 1
    last = schedule.steps - 1
    for step in {0, min(1, last), last // 3, last // 2, last}:
        for curve in (*schedule.lr.values(), schedule.momentum, schedule.weight_decay):
            try:
                with in_time():
                    value = curve(step)
            except InvalidSchedule:  # a peer's that has no value there
                continue
            assert type(value) in (int, float) and math.isfinite(value), (step, value, curve)
        assert schedule.accumulate(step) >= 1 and schedule.accumulate(step) == int(schedule.accumulate(step))
    for curve in schedule.lr.values():
        assert outcome(lambda curve=curve: parts(curve, schedule.steps), "") is not None


@settings(FUZZ, max_examples=400)
@given(
    phases=st.sampled_from(PHASES).flatmap(lambda phases: spoiled_tree(phases, ANYTHING | texts)),
    field=st.sampled_from(FIELDS),
    epochs=st.sampled_from([1, 6, 10**6]),
    steps_per_epoch=st.sampled_from([1, 7, 10**6]),
)
@example([{"curve": "linear", "end": 10**400, "for": "rest"}], "phases", 6, 7)
@example([{"curve": "constant", "for": 10**400}], "phases", 6, 7)
def test_phases(phases, field, epochs, steps_per_epoch):
    config = outcome(lambda: validate({"epochs": epochs, field: phases}, "fuzz.yaml"), "fuzz.yaml")
    if config is not None:
        try_out(config, steps_per_epoch)


@settings(FUZZ, max_examples=300)
@given(
    content=spoiled_tree(SHORT, ANYTHING | texts), drop=st.sets(st.sampled_from(sorted(SHORT))), steps=st.integers(1, 9)
)
@example({"period": 10**400}, set(), 3)
def test_the_short_form(content, drop, steps):
    if isinstance(content, dict):
        kept = {key: value for key, value in content.items() if key not in drop}
        config = outcome(lambda: validate(kept, "fuzz.yaml"), "fuzz.yaml")
        if config is not None:
            try_out(config, steps)


NATIVE = [(peer, schedule) for peer in peers() for schedule in schedules_of(peer)]


@st.composite
def presets(draw):
    """A peer's schedule, with anything for some of its arguments."""
    peer, schedule = draw(st.sampled_from(NATIVE))
    names = argument_names(peer, schedule)
    return {
        "preset": f"{peer}.{schedule}",
        "preset_args": draw(st.dictionaries(st.sampled_from(names) if names else TEXT, NUMBERS | ANYTHING, max_size=4)),
        "epochs": draw(st.sampled_from([1, 6, 100])),
        "lr_update": draw(st.sampled_from(["step", "epoch"])),
    }


@settings(FUZZ, max_examples=300)
@given(content=presets(), steps=st.integers(1, 9))
@example({"preset": "schedulefree.RAdamScheduleFree", "preset_args": {"betas": {}}}, 3)
@example({"preset": "schedulefree.AdamWScheduleFreePaper", "preset_args": {"betas": []}}, 3)
@example({"preset": "mmengine.schedule_1x", "preset_args": {"lr": 0, "gamma": None}}, 3)
@example({"preset": "transformers.constant_with_warmup", "preset_args": {"num_warmup_steps": 1e308}}, 3)
@example(
    {"preset": "pytorch_optimizer.CosineAnnealingWarmRestarts", "preset_args": {"T_0": 1, "T_mult": 2147483648}}, 3
)
@example({"preset": "timm.CosineLRScheduler", "preset_args": {"cycle_limit": 2147483648, "cycle_mul": 2}}, 3)
@example(
    {"preset": "transformers.cosine_with_restarts", "preset_args": {"num_cycles": 2147483648, "num_warmup_steps": 0}}, 3
)
@example(
    {
        "preset": "fvcore.StepWithFixedGammaParamScheduler",
        "preset_args": {"base_value": 1, "num_decays": 2147483648, "gamma": 0.5, "num_updates": 9},
    },
    3,
)
def test_presets(content, steps):
    config = outcome(lambda: validate(content, "fuzz.yaml"), "fuzz.yaml")
    if config is not None:
        try_out(config, steps)
