"""Runs that share decoded images come to what they come to without."""

from __future__ import annotations

import pytest
import torch

from yolo_cosine import train
from yolo_cosine.data import cache
from yolo_cosine.data.cache import read_image
from yolo_cosine.engine.checkpoint import load_checkpoint
from yolo_cosine.sinks.jsonl import read_records


@pytest.fixture
def train_with(write_run, tmp_path, monkeypatch):
    """A function that trains with these keys and gives the run's folder and how many images were decoded for it."""

    def run(name, **keys):
        read = []
        monkeypatch.setattr(cache, "read_image", lambda index, i, size: read.append(i) or read_image(index, i, size))
        assert train.main(["--cfg", str(write_run(name=name, epochs=1, warmup_epochs=0, close_mosaic=0, **keys))]) == 0
        return tmp_path / "runs" / name, len(read)

    return run


def weights(run):
    (newest,) = sorted((run / "checkpoints").glob("step-*.pt"))[-1:]
    state = load_checkpoint(newest)
    return {**{f"model.{k}": v for k, v in state["model"].items()}, **{f"ema.{k}": v for k, v in state["ema"].items()}}


def test_the_weights_are_the_same_to_the_last_bit(train_with):
    ram, read_for_ram = train_with("ram", cache="ram")
    disk, read_for_disk = train_with("disk", cache="disk")
    again, read_again = train_with("again", cache="disk")
    assert read_for_ram == read_for_disk == 34 and read_again == 0
    expected = weights(ram)
    for run in (disk, again):
        got = weights(run)
        assert expected.keys() == got.keys() and all(torch.equal(expected[k], got[k]) for k in expected)
    assert len(list((ram.parent / ".images").glob("*.images"))) == 2  # train and val
    assert [r["facts"]["cached"] for r in read_records(again / "metrics.jsonl") if r["event"] == "start"] == [True]
