"""The schedules in `configs/schedules`: each loads, can be built upon, and has the shape that its name promises."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo_cosine.config.load import load_config, read_yaml
from yolo_cosine.config.schema import ScheduleConfig
from yolo_cosine.schedules.table import SchedulePlan

FOLDER = Path(__file__).parents[2] / "configs" / "schedules"
FILES = sorted(FOLDER.glob("*.yaml"))
EPOCHS, STEPS_PER_EPOCH = 10, 20
LAST = EPOCHS * STEPS_PER_EPOCH - 1

# At step 0, the first step of the peak, the peak, at the last step; of lr0, for weights.
SHAPES = {
    "constant": (0.0, 60, 1.0, 1.0),
    "cosine": (0.0, 60, 1.0, 0.01),
    "cosine_periodic": (1.0, 0, 1.0, 0.9997557),
    "darknet": (0.0, 10, 1.0, 0.01),
    "flat_cosine": (1e-5, 10, 1.0, 0.05),
    "inverse_sqrt": (0.0, 10, 1.0, (10 / 199) ** 0.5),
    "linear": (0.0, 60, 1.0, 0.01),
    "multistep": (0.001, 10, 1.0, 0.01),
    "one_cycle": (0.04, 60, 1.0, 4e-6),
    "plateau": (0.0, 60, 1.0, 1.0),
    "sgdr": (0.0, 10, 1.0, 0.0102105),
    "ultralytics": (0.0, 59, 0.802 - 0.0133667, 0.109),
    "wsd": (0.0, 10, 1.0, 0.0),
    "yolox": (0.0, 10, 1.0, 0.05),
}


def built(path, epochs=EPOCHS, steps_per_epoch=STEPS_PER_EPOCH):
    return SchedulePlan.of(load_config(path, [f"epochs={epochs}"]), steps_per_epoch, path.stem).schedule


def test_every_file_has_its_shape_here():
    assert [path.stem for path in FILES] == sorted(SHAPES)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_the_shape(path):
    values = [built(path).lr["weight"](k) for k in range(LAST + 1)]
    start, at, peak, end = SHAPES[path.stem]
    assert (values[0], max(values), values[LAST]) == pytest.approx((start, peak, end), rel=1e-5)
    assert values.index(max(values)) == at


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_it_says_what_it_is_and_has_keys_of_the_schedule_only(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ") and first.endswith(".") and len(first) > 40
    assert set(read_yaml(path)) <= set(ScheduleConfig.model_fields)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
@pytest.mark.parametrize("size", [(5, 4), (4, 1000)], ids=str)
def test_it_fits_short_runs_too(path, size):
    schedule = built(path, *size)
    assert 0.5 < max(schedule.lr["weight"](k) for k in range(schedule.steps)) <= 1


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_run_can_build_on_it(path, tmp_path):
    run = tmp_path / "run.yaml"
    run.write_text(f"extends: {path}\nlr0: 0.02\nepochs: {EPOCHS}\nbatch: 8\n")
    config = load_config(run)
    assert (config.lr0, config.batch) == (0.02, 8)
    assert SchedulePlan.of(config, STEPS_PER_EPOCH, "run").base("weight") == 0.02


def test_one_cycles_momentum_is_lowest_where_the_rate_is_highest():
    schedule = built(FOLDER / "one_cycle.yaml")
    assert [schedule.momentum(k) for k in (0, 60, LAST)] == pytest.approx([0.95, 0.85, 0.95])


def test_sgdr_restarts_twice_and_has_no_fourth_cycle():
    for epochs, steps_per_epoch in ((10, 20), (300, 1000)):
        schedule = built(FOLDER / "sgdr.yaml", epochs, steps_per_epoch)
        lr = schedule.lr["weight"]
        warm = round(0.05 * schedule.steps)
        up = [k for k in range(warm + 1, schedule.steps) if lr(k) > lr(k - 1)]
        assert len(up) == 2 and all(lr(k) > 0.95 for k in up)


def test_plateau_has_a_state_and_ultralytics_accumulates_as_it_does():
    plateau = built(FOLDER / "plateau.yaml").plateau
    assert (plateau.mode, plateau.factor, plateau.patience) == ("max", 0.2, 5)
    accumulate = built(FOLDER / "ultralytics.yaml").accumulate
    assert (accumulate(0), accumulate(LAST)) == (1, 4)
