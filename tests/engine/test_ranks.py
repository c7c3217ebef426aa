"""Several processes train the weights that one process with the same batch does, to rounding."""

from __future__ import annotations

import pytest
import torch

from yolo_cosine import train
from yolo_cosine.data.shapes import generate
from yolo_cosine.engine.checkpoint import CheckpointFolder


def states(run, *steps):
    folder = CheckpointFolder(run / "checkpoints")
    from yolo_cosine.engine.checkpoint import load_checkpoint
    return [load_checkpoint(folder.place(step, True)) for step in steps]


def test_two(write_run, tmp_path, train_together):
    data = generate(tmp_path / "odd" / "shapes", train=27, val=10)
    keys = {"data": str(data), "nominal_batch": 16, "freeze": [0, 1], "precision": "fp32"}
    args = ["--cfg", str(write_run(**keys)), "name=one"]
    import time
    t = time.time()
    torch.set_num_threads(1)
    assert train.main(args) == 0
    print("one", time.time() - t); t = time.time()
    args = ["--cfg", str(write_run(**keys)), "name=two"]
    ended = train_together(args, args)
    print("two", time.time() - t)
    print(ended[0].said[-3000:], ended[1].said[-3000:])
    assert [e.code for e in ended] == [0, 0]
    from yolo_cosine.engine.checkpoint import load_checkpoint
    one, two = [CheckpointFolder(tmp_path / "runs" / n / "checkpoints") for n in ("one", "two")]
    for m in sorted(one.marked(), key=lambda m: m.step):
        a, b = load_checkpoint(m.path), load_checkpoint(two.path / m.path.name)
        worst = max(((v.double() - b["model"][k].double()).norm() / v.double().norm().clamp_min(1e-12)).item() for k, v in a["model"].items())
        ga, gb = a["gradients"], b["gradients"]
        print(m.path.name, worst, None if ga is None else len(gb))
