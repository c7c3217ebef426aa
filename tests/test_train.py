"""Whole runs through the command line, on a small embedded data set."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import TINY
from yolo_cosine import events, train, val
from yolo_cosine.config.load import load_config
from yolo_cosine.engine.checkpoint import CheckpointFolder
from yolo_cosine.schedules.build import build_schedule
from yolo_cosine.schedules.run import Group
from yolo_cosine.sinks.jsonl import read_records

EPOCHS, STEPS_PER_EPOCH = 3, 3
BASE = {
    "model": str(TINY), "imgsz": 64, "batch": 8, "nominal_batch": 16, "epochs": EPOCHS, "warmup_epochs": 1,
    "close_mosaic": 1,
}  # fmt: skip


def write_config(folder: Path, data: Path, **keys) -> Path:
    path = folder / "run.yaml"
    path.write_text(json.dumps({**BASE, "runs": str(folder / "runs"), "data": str(data), **keys}))  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, small_shapes):
    """The folder of a finished run, and its configuration file."""
    folder = tmp_path_factory.mktemp("run")
    config = write_config(folder, small_shapes, model="yolo11n.yaml", log_every=2)
    assert train.main(["--cfg", str(config)]) == 0
    return folder / "runs/run", config


def newest(run_dir):
    return CheckpointFolder(run_dir / "checkpoints").newest()[1]


def records(run_dir, kind):
    return [r for r in read_records(run_dir / "metrics.jsonl") if r["event"] == kind]


def test_everything_is_there(run):
    run_dir, _ = run
    for name in (
        "config.yaml", "metrics.jsonl", "results.csv", "predictions.json", "plots/lr.png", "plots/losses.png",
        "plots/map.png", "weights/best.pt", "weights/last.pt", "checkpoints/step-00000009.pt", "checkpoints/step-00000009.json",
    ):  # fmt: skip
        assert (run_dir / name).stat().st_size > 0, name
    assert list((run_dir / "tensorboard").glob("events.out.tfevents.*"))
    assert len((run_dir / "results.csv").read_text().splitlines()) == EPOCHS + 1


def test_the_logged_rates_are_those_of_the_schedule(run):
    run_dir, config = run
    config = load_config(config)
    steps = records(run_dir, "step")
    assert [s["step"] for s in steps] == list(range(EPOCHS * STEPS_PER_EPOCH))
    groups = tuple(Group(kind, kind, config.lr0) for kind in ("weight", "norm", "bias"))
    schedule = build_schedule(config, groups, STEPS_PER_EPOCH)
    for s in steps:
        for group in groups:
            assert s[f"lr/{group.name}"] == config.lr0 * schedule.lr[group.name](s["step"])
        assert s["momentum"] == schedule.momentum(s["step"])
        assert s["accumulate"] == 2
        assert ("train/box_loss" in s) == (s["step"] % 2 == 1)


def test_every_epoch_is_evaluated(run):
    run_dir, _ = run
    evaluations = records(run_dir, "eval")
    assert [e["epoch"] for e in evaluations] == list(range(EPOCHS))
    for e in evaluations:
        assert 0 <= e["metrics/mAP50-95"] <= 1 and {"AP50-95/circle", "metrics/precision", "metrics/AR100"} <= set(e)
    end = records(run_dir, "end")[0]
    best = max(e["metrics/mAP50-95"] for e in evaluations)
    assert end["reason"] == "finished" and end["best"]["metrics/mAP50-95"] == best


def test_tensorboard_equals_the_record(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run_dir, _ = run
    accumulator = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0})
    accumulator.Reload()
    expected: dict[str, list] = {}
    for record in read_records(run_dir / "metrics.jsonl"):
        if record["event"] in {"step", "epoch", "eval"}:
            for name, value in record.items():
                if "/" in name or name in {"momentum", "accumulate"}:
                    expected.setdefault(name, []).append((record["step"], value))
    tags = accumulator.Tags()["scalars"]
    for name, points in expected.items():
        if all(value is None for _, value in points):
            continue
        assert name in tags
        logged = [(e.step, e.value) for e in accumulator.Scalars(name)]
        assert [s for s, _ in logged] == [s for s, _ in points], name
        assert [v for _, v in logged] == [pytest.approx(np.float32(v), rel=1e-7, nan_ok=True) for _, v in points], name
    assert {"lr/weight", "lr/norm", "lr/bias", "momentum", "metrics/mAP50-95"} <= set(tags)


def test_the_resolved_config_repeats_the_run_bit_for_bit_whatever_workers_is(run, tmp_path):
    run_dir, _ = run
    again = ["--cfg", str(run_dir / "config.yaml"), f"runs={tmp_path}", "name=again", "workers=3", "cache=none"]
    assert train.main(again) == 0
    first, second = (newest(d) for d in (run_dir, tmp_path / "again"))
    for part in ("model", "ema"):
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), name
    volatile = {"time", "seconds", "elapsed", "eval/seconds", "epoch/images_per_second"}
    for kind in ("step", "epoch", "eval"):
        a, b = (
            [{k: v for k, v in r.items() if k not in volatile} for r in records(d, kind)]
            for d in (run_dir, tmp_path / "again")
        )
        assert a == b


def test_the_saved_config_means_the_same_files_from_everywhere(run, small_shapes, tmp_path, monkeypatch):
    run_dir, _ = run
    (tmp_path / "here").mkdir()
    (tmp_path / "here/start.pt").write_bytes((run_dir / "weights/best.pt").read_bytes())
    monkeypatch.chdir(small_shapes.parent)
    config = write_config(tmp_path, small_shapes, weights="here/start.pt")
    resolved = load_config(config, ["data=shapes.yaml"])
    monkeypatch.chdir("/")
    assert Path(resolved.data) == small_shapes and Path(resolved.weights) == tmp_path / "here/start.pt"


def test_a_taken_name_gets_a_number(run):
    run_dir, config = run
    before = sorted(p.name for p in run_dir.parent.iterdir())
    assert train.main(["--cfg", str(config), "epochs=1", "warmup_epochs=0", "plots=false", "tensorboard=false"]) == 0
    assert sorted(p.name for p in run_dir.parent.iterdir()) == [*before, "run-2"]
    assert not (run_dir.parent / "run-2/tensorboard").exists()


def test_val_gives_the_figures_of_the_run(run, small_shapes, tmp_path, capsys):
    run_dir, _ = run
    out, predictions = tmp_path / "metrics.json", tmp_path / "predictions.json"
    arguments = ["--weights", str(run_dir / "weights/best.pt"), "--data", str(small_shapes), "--json", str(out)]
    assert val.main([*arguments, "--predictions", str(predictions), "batch=8"]) == 0
    assert "mAP50-95" in capsys.readouterr().out
    best = records(run_dir, "end")[0]["best"]
    for name, value in json.loads(out.read_text())["metrics"].items():
        assert value == pytest.approx(best[name], abs=1e-6), name
    assert len(json.loads(predictions.read_text())) == len(json.loads((run_dir / "predictions.json").read_text()))


def test_intervals_over_the_images_of_the_last_and_the_best_weights(small_shapes, tmp_path):
    config = write_config(
        tmp_path, small_shapes, image_resamples=50, predictions=False, plots=False, tensorboard=False, name="run"
    )
    assert train.main(["--cfg", str(config)]) == 0
    run_dir = tmp_path / "runs/run"
    path = run_dir / "image_intervals.json"
    first = json.loads(path.read_text())
    assert (first["images"], first["resamples"], first["confidence"]) == (10, 50, 0.95)
    evaluations = {r["step"]: r for r in records(run_dir, "eval")}
    best = max(r["step"] for r in evaluations.values() if r["best"])
    assert (first["last"]["step"], first["best"]["step"]) == (max(evaluations), best)
    for part in (first["last"], first["best"]):
        assert list(part["intervals"]) == [events.MAP, events.MAP50]
        for metric, (low, high) in part["intervals"].items():
            assert 0 <= low <= evaluations[part["step"]][metric] <= high <= 1
    # a run that was at its end already looks at its weights again
    path.unlink()
    assert train.main(["--resume", str(run_dir)]) == 0
    again = json.loads(path.read_text())
    for kind in ("last", "best"):
        for metric, interval in first[kind]["intervals"].items():
            assert again[kind]["intervals"][metric] == pytest.approx(interval, abs=1e-9)


def test_evaluation_every_few_steps_and_at_the_end(small_shapes, tmp_path):
    config = write_config(tmp_path, small_shapes, eval_every="4it", plots=False, tensorboard=False)
    assert train.main(["--cfg", str(config)]) == 0
    assert [e["step"] for e in records(tmp_path / "runs/run", "eval")] == [3, 7, 8]


@pytest.mark.parametrize(("close_mosaic", "epochs"), [(2, [0, 1, 6, 7]), (6, [0, 1, 2, 3, 4, 5, 6, 7]), (0, [0, 1])])
def test_early_stopping_goes_on_to_the_mosaic_free_end(small_shapes, tmp_path, monkeypatch, close_mosaic, epochs):
    from yolo_cosine.engine.trainer import Trainer

    # nothing is ever better than the first evaluation
    monkeypatch.setattr(Trainer, "_out_of_patience", _without_improvement(Trainer._out_of_patience))
    keys = {"epochs": 8, "patience": 1, "close_mosaic": close_mosaic, "plots": False, "tensorboard": False}
    config = write_config(tmp_path, small_shapes, **keys)
    assert train.main(["--cfg", str(config)]) == 0
    run_dir = tmp_path / "runs/run"
    done = records(run_dir, "epoch")
    assert [e["epoch"] for e in done] == epochs
    assert [e["step"] for e in done] == [3 * e + 2 for e in epochs]
    assert records(run_dir, "end")[0]["reason"] == "stopped early"
    text = " ".join(n["text"] for n in records(run_dir, "notice"))
    assert ("skipping epochs 3 to 6 and ending with the 2 mosaic-free epochs" in text) == (close_mosaic == 2)
    assert ("ending with the" in text) == (close_mosaic > 0)
    assert ("stopping early" in text) == (close_mosaic == 0)


def test_patience_waits_for_an_evaluation(small_shapes, tmp_path):
    keys = {"epochs": 4, "patience": 1, "close_mosaic": 0, "eval_every": "3ep", "plots": False, "tensorboard": False}
    assert train.main(["--cfg", str(write_config(tmp_path, small_shapes, **keys))]) == 0
    assert [e["epoch"] for e in records(tmp_path / "runs/run", "epoch")] == [0, 1, 2, 3]
    assert (tmp_path / "runs/run/weights/best.pt").exists()


def test_the_rate_falls_on_a_plateau(small_shapes, tmp_path):
    plateau = {"patience": 0, "factor": 0.5, "threshold": 0.9, "threshold_mode": "abs"}
    keys = {"plateau": plateau, "curve": "constant", "warmup_epochs": 0, "plots": False, "tensorboard": False}
    assert train.main(["--cfg", str(write_config(tmp_path, small_shapes, **keys))]) == 0
    run_dir = tmp_path / "runs/run"
    # the first evaluation is the best so far, the second is not better
    assert [s["lr/weight"] for s in records(run_dir, "step")] == [0.01] * 6 + [0.005] * 3
    assert any("multiplied with 0.5 from step 6 on" in n["text"] for n in records(run_dir, "notice"))
    assert newest(run_dir)["progress"]["plateau"]["factor"] == 0.25


def _without_improvement(original):
    def check(self, epoch):
        self.progress.last_improved = 0
        return original(self, epoch)

    return check


def test_weights_freeze_and_accumulation_ramp(run, small_shapes, tmp_path):
    run_dir, _ = run
    keys = {"weights": str(run_dir / "weights/best.pt"), "freeze": 5, "preset": "ultralytics", "nominal_batch": 24}
    keys |= {"model": "yolo11n.yaml", "epochs": 2, "plots": False, "tensorboard": False}
    config = write_config(tmp_path, small_shapes, **keys)
    assert train.main(["--cfg", str(config)]) == 0
    start = CheckpointFolder(run_dir / "checkpoints").best()[1]["ema"]
    end = newest(tmp_path / "runs/run")["model"]
    for name, value in end.items():
        layer = int(name.split(".")[1])
        if layer < 5:
            assert torch.equal(value, start[name]), name
    assert not torch.equal(end["model.23.cv2.0.2.weight"], start["model.23.cv2.0.2.weight"])
    steps = records(tmp_path / "runs/run", "step")
    assert [s["accumulate"] for s in steps] == [1, 2, 2, 3, 3, 3]
    notices = " ".join(n["text"] for n in records(tmp_path / "runs/run", "notice"))
    assert "tensors taken over from" in notices and "parameter tensors are not trained" in notices


@pytest.mark.parametrize("optimizer", ["AdamW", "MuSGD"])
@pytest.mark.parametrize("model", ["yolo26n.yaml"])
def test_other_optimizers_and_a_head_without_nms(small_shapes, tmp_path, optimizer, model):
    config = write_config(tmp_path, small_shapes, optimizer=optimizer, model=model, epochs=2, lr0=0.001)
    assert train.main(["--cfg", str(config)]) == 0
    step = records(tmp_path / "runs/run", "step")[-1]
    rates = {k for k in step if k.startswith("lr/")}
    assert ("lr/muon" in rates) == (optimizer == "MuSGD")
    assert ("lr/head_muon" in rates) == (optimizer == "MuSGD")
    assert "epoch/l1_loss" in records(tmp_path / "runs/run", "epoch")[0]  # this head has no DFL
    assert all(np.isfinite(v) for v in records(tmp_path / "runs/run", "end")[0]["best"].values())


def test_one_epoch_of_real_photographs_with_coco_category_ids(real_data, tmp_path):
    """All 80 classes with COCO's own ids, crowds and all; the predictions are what pycocotools accepts."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    # after seven steps no score is high, so all are looked at
    keys = {"epochs": 1, "warmup_epochs": 0, "imgsz": 160, "max_det": 100, "conf": 0.0}
    config = write_config(tmp_path, real_data / "tiny_coco", **keys)
    assert train.main(["--cfg", str(config)]) == 0
    run_dir = tmp_path / "runs/run"
    truth = COCO(real_data / "tiny_coco/annotations/instances_val2017.json")
    rows = json.loads((run_dir / "predictions.json").read_text())
    assert {row["category_id"] for row in rows} <= set(truth.getCatIds()) and len(truth.getCatIds()) == 80
    evaluation = COCOeval(truth, truth.loadRes(str(run_dir / "predictions.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    logged = records(run_dir, "eval")[0]
    assert logged["metrics/mAP50-95"] == pytest.approx(evaluation.stats[0], abs=1e-12)
    assert logged["metrics/AR100"] == pytest.approx(evaluation.stats[8], abs=1e-12)


def test_help_is_fast_and_needs_no_torch():
    code = (
        "import sys, yolo_cosine.train as t\n"
        "try: t.main(['--help'])\n"
        "except SystemExit as e: sys.exit(e.code or any(m in sys.modules for m in ('torch', 'numpy', 'cv2')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "key=value" in done.stdout
