"""What an optimizer gets is the schedule, however it is applied."""

from __future__ import annotations

import copy

import pytest
import torch

from yolo_cosine.config.load import load_config
from yolo_cosine.engine.apply import AppliedSchedule, applied
from yolo_cosine.schedules.build import build_schedule
from yolo_cosine.schedules.run import standard_groups

RUNS = {
    "short form": [],
    "by epoch": ["lr_update=epoch"],
    "ultralytics": ["preset=ultralytics"],
    "yolov5": ["preset=yolov5"],
    "restarts": ["period=30%", "after_period=restart"],
    "composed": [
        "phases=[{curve: power, start: 0, end: 1, for: 1ep}, {curve: step, gamma: 0.5, every: 2ep, for: 50%}, "
        "{curve: clip, low: 0.1, schedule: {curve: cosine, end: 0}, for: rest}]",
        "momentum_phases=[{curve: one-cycle, start: 0.95, peak: 0.85, end: 0.95, for: rest}]",
        "weight_decay_phases=[{curve: linear, start: 1, end: 0.1, for: rest}]",
        "group_phases.bias=[{curve: constant, value: 2, for: 40%}, {curve: linear, end: 0, for: rest}]",
    ],
}


def build(*overrides, adam=False):
    config = load_config(None, ["epochs=10", "warmup_epochs=2", *overrides])
    groups = standard_groups(config)
    settings = [
        {
            "params": [torch.nn.Parameter(torch.zeros(2))],
            "name": g.name,
            "weight_decay": 5e-4 if g.kind == "weight" else 0.0,
        }
        for g in groups
    ]
    optimizer = torch.optim.AdamW(settings, lr=1.0) if adam else torch.optim.SGD(settings, lr=1.0, momentum=0.9)
    schedule = build_schedule(config, groups, 12)
    return optimizer, groups, schedule, AppliedSchedule(optimizer, groups, schedule)


def check(optimizer, groups, schedule, step, factor=1.0):
    for settings, group in zip(optimizer.param_groups, groups, strict=True):
        assert settings["lr"] == pytest.approx(
            group.lr0 * factor * schedule.lr[group.name](step), rel=1e-15, abs=1e-300
        )
        decay = 5e-4 if group.kind == "weight" else 0.0
        assert settings["weight_decay"] == decay * schedule.weight_decay(step)


@pytest.mark.parametrize("steps", [range(120), (0, 3, 7, 80, 81, 119, 5, 0)], ids=["all", "jumping"])
@pytest.mark.parametrize("name", RUNS)
def test_every_step(name, steps):
    optimizer, groups, schedule, apply = build(*RUNS[name])
    for step in steps:
        apply(step)
        check(optimizer, groups, schedule, step)
        assert applied(optimizer)["momentum"] == schedule.momentum(step)


def test_a_factor_and_a_loaded_state():
    optimizer, groups, schedule, apply = build(*RUNS["composed"])
    for step in range(40):
        apply(step)
    apply.reset(0.1)
    apply(40)
    check(optimizer, groups, schedule, 40, factor=0.1)
    state = copy.deepcopy(optimizer.state_dict())
    for settings in state["param_groups"]:
        settings["lr"] = 77.0
    state["param_groups"][0]["weight_decay"] = 77.0
    optimizer.load_state_dict(state)
    apply.reset()
    apply(41)
    check(optimizer, groups, schedule, 41, factor=0.1)


def test_beta1_follows_only_where_the_schedule_says_so():
    optimizer, _, schedule, apply = build(adam=True)
    apply(0)
    assert [g["betas"] for g in optimizer.param_groups] == [(0.9, 0.999)] * 3  # the warmup of the momentum is SGD's
    optimizer, _, schedule, apply = build(*RUNS["composed"], adam=True)
    for step in (0, 20, 119):
        apply(step)
        assert [g["betas"] for g in optimizer.param_groups] == [(schedule.momentum(step), 0.999)] * 3
