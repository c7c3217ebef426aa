"""Several processes that share no disk: what they need, and that they go on as if nothing had been."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from yolo_cosine.data.shapes import generate
from yolo_cosine.engine.checkpoint import CheckpointFolder, load_checkpoint
from yolo_cosine.sinks.jsonl import read_records


@pytest.fixture(scope="module")
def odd_data(tmp_path_factory):
    """27 images: in batches of 8 the last has three, two for one process and one for the other."""
    return generate(tmp_path_factory.mktemp("odd") / "shapes", train=27, val=10)


def test_a_run_goes_on_bit_for_bit_from_the_main_ones_disk(write_run, odd_data, tmp_path, train_together):
    """In the middle of an update, of which each process has a part of the gradients, and mid-way in an epoch."""
    config = write_run(data=str(odd_data), nominal_batch=32, epochs=2, runs="runs")
    begin = ["--cfg", str(config)]
    assert [ended.code for ended in train_together(begin, begin)] == [0, 0]
    run = tmp_path / "rank0/runs/run"
    assert not (tmp_path / "rank1/runs/run").exists()
    whole = {m.step: load_checkpoint(m.path) for m in CheckpointFolder(run / "checkpoints").marked()}
    before = [r for r in read_records(run / "metrics.jsonl") if r["event"] == "step"]
    assert len(whole[5]["window"]) and len(whole[5]["gradients"]) == 2
    for step in whole:
        if step > 5:
            for kind in ("pt", "json"):
                (run / f"checkpoints/step-{step:08d}.{kind}").unlink()
    go_on = ["--resume", "runs/run"]
    main, other = train_together(go_on, go_on)
    assert (main.code, other.code) == (0, 0), main.said + other.said
    assert "going on after 5 steps" in main.said
    for m in CheckpointFolder(run / "checkpoints").marked():
        for part in ("model", "ema"):
            now = load_checkpoint(m.path)[part]
            assert all(torch.equal(value, now[name]) for name, value in whole[m.step][part].items()), m.step
    after = [r for r in read_records(run / "metrics.jsonl") if r["event"] == "step"]
    assert [(r["step"], r.get("train/box_loss")) for r in after] == [(r["step"], r.get("train/box_loss")) for r in before]


def test_other_data_on_one_machine_is_told(write_run, odd_data, tmp_path, train_together):
    for rank in (0, 1):
        shutil.copytree(odd_data.parent, tmp_path / f"rank{rank}" / "data")
    labels = tmp_path / "rank1/data/annotations/instances_train.json"
    content = json.loads(labels.read_text())
    content["annotations"].pop()
    labels.write_text(json.dumps(content))
    arguments = ["--cfg", str(write_run(data="data/shapes.yaml", runs="runs"))]
    # each the first one of its machine
    main, other = train_together(arguments, arguments, environment={"LOCAL_RANK": 0}.items())
    assert (main.code, other.code) == (2, 2)
    assert "error: the processes of the run do not fit together, their data differs: train: boxes is " in main.said
    assert not other.said.strip() and not (tmp_path / "rank0/runs/run").exists()


def test_other_settings_are_told_before_anything_is_read(write_run, train_together):
    arguments = ["--cfg", str(write_run(data="nowhere.yaml", runs="runs"))]
    main, other = train_together(arguments, [*arguments, "epochs=4"])
    assert (main.code, other.code) == (2, 2) and not other.said.strip()
    assert "their configurations differ: epochs is 3 on rank 0" in main.said and "and 4 on rank 1" in main.said
