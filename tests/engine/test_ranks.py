"""Several processes train what one does with the same batch, whether or not their machines share a disk."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from yolo_cosine import train, val
from yolo_cosine.data.shapes import generate
from yolo_cosine.engine.checkpoint import CheckpointFolder, load_checkpoint
from yolo_cosine.sinks.jsonl import read_records

# what a network needs to be one, for messages between processes take their time on a machine with few cores
NETWORK = """
nc: 5
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, C2f, [16, True]]
  - [-1, 1, Conv, [32, 3, 2]]
head:
  - [-1, 1, Conv, [32, 3, 2]]
  - [[3, 4], 1, Detect, [nc]]
"""


@pytest.fixture(scope="module")
def odd_data(tmp_path_factory):
    """27 images: in batches of 8 the last has three, two for one process and one for the other. The first box of each
    image to evaluate is all of it, which even an untrained network finds."""
    data = generate(tmp_path_factory.mktemp("odd") / "shapes", train=27, val=10)
    path = data.parent / "annotations/instances_val.json"
    content = json.loads(path.read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    for a in content["annotations"]:
        if width_height := sizes.pop(a["image_id"], None):
            a.update(bbox=[0, 0, *width_height], area=width_height[0] * width_height[1], iscrowd=0)
    path.write_text(json.dumps(content))
    return data


@pytest.fixture
def small(write_run, odd_data, tmp_path):
    """Arguments for runs of a small network: 12 steps, an update at every other one, and a layer that is frozen."""
    (tmp_path / "small.yaml").write_text(NETWORK)
    config = write_run(
        model=str(tmp_path / "small.yaml"), data=str(odd_data), freeze=[0], nominal_batch=16, precision="fp32", conf=0.0,
        predictions=True, checkpoint={"every": "5it", "keep": 99},
    )  # fmt: skip
    return ["--cfg", str(config)]


def checkpoints(run):
    return {m.step: load_checkpoint(m.path) for m in CheckpointFolder(run / "checkpoints").marked()}


def told(run):
    """The numbers that the record has of each step, but for the time."""
    steps = [r for r in read_records(run / "metrics.jsonl") if r["event"] == "step"]
    return [{name: v for name, v in step.items() if name not in {"event", "time"}} for step in steps]


def test_two_train_what_one_does_and_go_on_bit_for_bit(small, odd_data, tmp_path, torchrun, train_together):
    """With mosaics and crowds, in float32."""
    assert train.main([*small, "name=one"]) == 0
    done = torchrun(*small, "name=two")
    assert done.returncode == 0, done.stderr[-2000:]
    runs = tmp_path / "runs"
    assert sorted(p.name for p in runs.iterdir() if p.name != ".images") == ["one", "two"]
    one, two = checkpoints(runs / "one"), checkpoints(runs / "two")
    assert sorted(one) == sorted(two) and set(one) >= {5, 10, 12}
    for step in one:
        for part in ("model", "ema"):
            assert_close(two[step][part].values(), one[step][part].values())
        # in the middle of an update each has its share, and together they are what one process has
        shares = two[step]["gradients"]
        assert bool(two[step]["window"]) == (shares is not None) == (step == 5)
        for (ours, _), (other, _) in zip(two[step]["window"], one[step]["window"], strict=True):
            assert sorted(ours.tolist()) == sorted(other.tolist())
        for parts, whole in zip(zip(*shares or [], strict=True), (one[step]["gradients"] or [[]])[0], strict=True):
            assert_close([sum(parts)], [whole])
    steps = told(runs / "two")
    for ours, other in zip(steps, told(runs / "one"), strict=True):
        assert ours == pytest.approx(other, rel=1e-4)
    check_evaluation(runs / "two", odd_data, tmp_path)

    # and from step 5 on, as after a kill, on machines of which one alone has the run
    moved = tmp_path / "rank0/runs/two"
    shutil.copytree(runs / "two", moved)
    for step in two:
        if step > 5:
            for kind in ("pt", "json"):
                (moved / f"checkpoints/step-{step:08d}.{kind}").unlink()
    go_on = ["--resume", "runs/two"]
    main, other = train_together(go_on, go_on)
    assert (main.code, other.code) == (0, 0) and "going on after 5 steps" in main.said, main.said + other.said
    for step, now in checkpoints(moved).items():
        for part in ("model", "ema"):
            assert all(torch.equal(value, now[part][name]) for name, value in two[step][part].items()), step
    assert told(moved) == steps
    assert not (tmp_path / "rank1/runs").exists()


def check_evaluation(run, data, tmp_path):
    """Each process has evaluated a share of the images, and the figures are those of the exported weights."""
    (start,) = (r for r in read_records(run / "metrics.jsonl") if r["event"] == "start")
    assert start["facts"]["processes"] == 2
    images = {row["image_id"] for row in json.loads((run / "predictions.json").read_text())}
    assert len(images) > 5
    out = tmp_path / "metrics.json"
    arguments = ["--weights", str(run / "weights/best.pt"), "--data", str(data), "--json", str(out)]
    assert val.main([*arguments, "batch=8", "conf=0.0", "precision=fp32"]) == 0
    (best,) = (r["best"] for r in read_records(run / "metrics.jsonl") if r["event"] == "end")
    measured = json.loads(out.read_text())["metrics"]
    assert measured == pytest.approx({name: best[name] for name in measured}, abs=1e-6)
    assert measured["metrics/mAP50-95"] > 0


def assert_close(found, wanted):
    """Tensors that differ by rounding alone, as many sums of float32 do that are made in another order."""
    for ours, other in zip(found, wanted, strict=True):
        assert (ours.double() - other.double()).norm() <= 5e-5 * other.double().norm()


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
    assert "error:" not in other.said and not (tmp_path / "rank0/runs/run").exists()


def test_other_settings_are_told_before_anything_is_read(write_run, train_together):
    arguments = ["--cfg", str(write_run(data="nowhere.yaml", runs="runs"))]
    main, other = train_together(arguments, [*arguments, "epochs=4"])
    assert (main.code, other.code) == (2, 2) and "error:" not in other.said
    assert "their configurations differ: epochs is 3 on rank 0" in main.said and "and 4 on rank 1" in main.said
