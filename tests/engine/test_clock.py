"""The wall clock may be set while a run is under way: nothing but the time stamps of the logs follows it."""

from __future__ import annotations

import csv
import itertools
import time

from yolo_cosine import train
from yolo_cosine.engine.checkpoint import CheckpointFolder


def test_a_clock_that_jumps(write_run, tmp_path, monkeypatch):
    jumps = itertools.cycle((0, 1e6, -1e6, 3e8, -3e8))
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() + next(jumps))
    config = write_run(tensorboard=True, checkpoint={"every": "0.05s", "keep": 99})
    assert train.main(["--cfg", str(config)]) == 0
    with open(tmp_path / "runs/run/results.csv", encoding="utf-8") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    assert len(seconds) == 3 and 0 < seconds[0] < seconds[1] < seconds[2] < 300
    assert len(CheckpointFolder(tmp_path / "runs/run/checkpoints").marked()) >= 4
    assert train.main(["--resume", str(tmp_path / "runs/run")]) == 0
