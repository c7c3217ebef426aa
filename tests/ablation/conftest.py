from __future__ import annotations

import json
import os
import time

import pytest

from tests.conftest import TINY
from yolo_cosine.ablation.executor import LocalExecutor
from yolo_cosine.ablation.folder import take_folder
from yolo_cosine.ablation.plan import make_plan
from yolo_cosine.ablation.run import Loop
from yolo_cosine.ablation.spec import load_ablation
from yolo_cosine.data.dataset import open_dataset
from yolo_cosine.files import FileLock

BASE = {
    "model": str(TINY), "imgsz": 64, "batch": 8, "nominal_batch": 16, "epochs": 4, "warmup_epochs": 1,
    "warmup_bias_lr": 0.0, "log_every": 2, "close_mosaic": 1, "plots": False, "workers": 1, "conf": 0.0, "max_det": 30,
    "image_resamples": 20,
}  # fmt: skip
VARIANTS = {
    "cosine": {"curve": "cosine"},
    "late": {"curve": "constant", "close_mosaic": 2},
    "constant": {"curve": "constant"},
    "longer": {"curve": "constant", "epochs": 5},
}


class Listener:
    """Keeps what becomes of the runs."""

    def __init__(self):
        self.told, self.looks = [], lambda: None

    def began(self, run):
        self.told.append(("began", run.key))

    def ended(self, run, done):
        self.told.append((done.outcome, run.key))

    def look(self):
        self.looks()


def write_spec(folder, data, **keys):
    path = folder / "tiny.yaml"
    base = {**BASE, "data": str(data)}
    content = {"runs": str(folder / "runs"), "base": base, "seeds": 2, "variants": VARIANTS, **keys}
    path.write_text(json.dumps(content))
    return path


def plan_of(ablation):
    names = {config.data for config in ablation.configs.values()}
    return make_plan(ablation, {name: len(open_dataset(name).splits["train"]) for name in names})


def loop_of(plan, places=2, **keys):
    return Loop(plan, LocalExecutor(places), Listener(), 1, set(), **keys)


@pytest.fixture(scope="session")
def ablated(tmp_path_factory, small_shapes):
    """A tiny ablation, trained: its specification and its plan. What is in its folder is only looked at, for all workers
    of pytest-xdist share it: the first that wants it trains it, and the others wait."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "ablated"
    folder.mkdir(exist_ok=True)
    lock, trained = FileLock(folder / "lock"), folder / "trained"
    while not lock.take():
        time.sleep(0.1)
    try:
        if not trained.exists():
            train_spec(write_spec(folder, small_shapes))
            trained.touch()
    finally:
        lock.release()
    ablation = load_ablation(folder / "tiny.yaml")
    return ablation, plan_of(ablation)


def train_spec(path):
    ablation = load_ablation(path)
    plan = plan_of(ablation)
    take_folder(ablation, plan).release()
    loop = loop_of(plan)
    loop.train()
    assert loop.failed == {} and loop.interrupted == set()
    assert loop.finished == {run.key for run in plan.runs}
