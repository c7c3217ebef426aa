"""How many runs at a time."""

from __future__ import annotations

import json
import os

import pytest

from yolo_cosine.ablation import resources
from yolo_cosine.ablation.plan import make_plan
from yolo_cosine.ablation.resources import find_resources, runs_side_by_side
from yolo_cosine.ablation.spec import load_ablation


@pytest.mark.parametrize(
    ("speeds", "most", "best"),
    [
        ({1: 10.0, 2: 10.5}, 8, 1),  # the device is full
        ({1: 10.0, 2: 18.0, 4: 30.0, 8: 31.0}, 8, 4),
        ({1: 10.0, 2: 18.0, 4: 30.0, 8: 50.0}, 8, 8),
        ({1: 10.0, 2: 18.0}, 3, 2),  # there are three runs
        ({1: 10.0, 2: 0.0}, 8, 1),  # two do not fit
        ({}, 1, 1),
    ],
)
def test_as_many_side_by_side_as_train_more_in_sum(speeds, most, best):
    assert runs_side_by_side(speeds.__getitem__, most) == (best, speeds)


@pytest.fixture
def ablation(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps({"runs": str(tmp_path), "seeds": 4, "variants": {"a": {}, "b": {"curve": "linear"}}}))

    def load(*overrides):
        found = load_ablation(path, overrides)
        return found, make_plan(found, {"shapes": 80})

    return load


def test_cores_are_shared(ablation, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.setattr(resources, "_gpus", lambda devices: ())
    assert find_resources(*ablation()) == resources.Resources(8, 2)  # there are eight runs
    assert find_resources(*ablation("parallel=4")) == resources.Resources(4, 4)
    assert find_resources(*ablation("parallel=4", "threads=1")) == resources.Resources(4, 1)
    assert find_resources(*ablation("parallel=99")) == resources.Resources(8, 2)


def test_gpus_are_measured(ablation, monkeypatch):
    class Found:
        def __init__(self, step):
            self.costs = [self]
            self.step = step

    asked = []

    def measure(plan, places, threads, gpus, seconds):
        asked.append(places)
        return Found({2: 0.1, 4: 0.15, 8: 0.3}[places])

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(16)), raising=False)
    monkeypatch.setattr(resources, "_gpus", lambda devices: ("0", "1"))
    monkeypatch.setattr(resources, "measure", measure)
    told = []
    assert find_resources(*ablation(), told.append) == resources.Resources(4, 4, ("0", "1"))
    assert asked == [2, 4, 8] and "1: 20.0, 2: 26.7, 4: 26.7; 2 at a time" in told[0]
