from __future__ import annotations

import pytest

from yolo_cosine.config.load import load_config
from yolo_cosine.schedules.build import build_schedule
from yolo_cosine.schedules.run import Group, nominal_accumulation

GROUPS = tuple(Group(kind, kind, 0.01) for kind in ("weight", "norm", "bias"))


def build(*overrides, steps_per_epoch=10):
    return build_schedule(load_config(None, overrides), GROUPS, steps_per_epoch)


def test_warmup_then_cosine_reaches_base_and_end():
    schedule = build("epochs=10", "warmup_epochs=2", "lrf=0.1")
    assert schedule.steps == 100
    assert schedule.lr["weight"](0) == 0.0
    assert schedule.lr["bias"](0) == pytest.approx(10.0)  # 0.1 / 0.01
    for group in schedule.lr.values():
        assert group(20) == 1.0  # lr0 at the end of the warmup
        assert group(99) == 0.1  # lr0 * lrf at the last step
        assert group(10**9) == 0.1
    assert schedule.momentum(0) == 0.8
    assert schedule.momentum(20) == schedule.momentum(99) == 0.937


@pytest.mark.parametrize("curve", ["cosine", "linear", "constant"])
def test_without_warmup_the_first_step_has_the_base_rate(curve):
    schedule = build("epochs=3", "warmup_epochs=0", f"curve={curve}", "lrf=0.5")
    assert schedule.lr["bias"](0) == 1.0
    assert schedule.lr["bias"](29) == (1.0 if curve == "constant" else 0.5)
    assert schedule.momentum(0) == 0.937


def test_by_epoch_the_rate_is_constant_in_an_epoch():
    schedule = build("epochs=5", "warmup_epochs=1", "lr_update=epoch", "lrf=0.2")
    for epoch in range(1, 5):
        values = {schedule.lr["weight"](epoch * 10 + k) for k in range(10)}
        assert len(values) == 1
    assert values == {0.2}


@pytest.mark.parametrize(
    ("batch", "nominal", "expected"), [(16, 64, 4), (64, 64, 1), (128, 64, 1), (24, 64, 3), (26, 64, 2)]
)
def test_accumulation(batch, nominal, expected):
    config = load_config(None, [f"batch={batch}", f"nominal_batch={nominal}"])
    assert nominal_accumulation(config) == expected
    assert build_schedule(config, GROUPS, 10).accumulate(3) == expected


def test_a_run_of_one_step():
    schedule = build("epochs=1", "warmup_epochs=0", steps_per_epoch=1)
    assert schedule.steps == 1
    assert schedule.lr["weight"](0) == 0.01  # there is one step, and it is the last
