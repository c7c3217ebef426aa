"""A run whose images are augmented as on a GPU, on the CPU."""

from __future__ import annotations

import shutil

import pytest
import torch

from yolo_cosine import train
from yolo_cosine.data.feeder import Feeder
from yolo_cosine.engine import inputs
from yolo_cosine.engine.checkpoint import CheckpointFolder
from yolo_cosine.sinks.jsonl import read_records


@pytest.fixture
def fed(monkeypatch):
    """The feeders of the runs of a test."""
    made = []
    monkeypatch.setattr(inputs, "augments", lambda device: True)
    original = Feeder.__init__

    def init(self, *arguments):
        original(self, *arguments)
        made.append(self)

    monkeypatch.setattr(Feeder, "__init__", init)
    return made


def losses(run):
    return {r["step"]: r["train/box_loss"] for r in read_records(run / "metrics.jsonl") if "train/box_loss" in r}


def weights(run):
    return CheckpointFolder(run / "checkpoints").newest()[1]["model"]


def test_a_run_that_is_killed_ends_as_one_that_is_not(write_run, tmp_path, fed, monkeypatch, capsys):
    """Bit for bit, although the images live on the device in the one and are sent there in the other."""
    assert train.main(["--cfg", str(write_run(epochs=2, warmup_epochs=0))]) == 0
    assert "are kept on cpu" in " ".join(capsys.readouterr().out.split())
    quiet, killed = tmp_path / "runs/run", tmp_path / "killed"
    shutil.copytree(quiet, killed)
    for path in (killed / "checkpoints").glob("step-*"):
        if int(path.stem.split("-")[1]) > 2:  # in the middle of an epoch, its record ahead of it
            path.unlink()
    monkeypatch.setattr(inputs, "room_on", lambda device: 0)
    assert train.main(["--resume", str(killed)]) == 0
    assert [feeder.resident is None for feeder in fed] == [False, True]
    ours, theirs = weights(killed), weights(quiet)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert losses(killed) == losses(quiet) and len(losses(quiet)) == 3
