"""A user's mistakes: a message that names place, value and remedy, exit code 2, no traceback, nothing left behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from yolo_cosine import cli, train, val

BASE = ["model=yolo11n.yaml", "imgsz=64", "batch=4", "epochs=1", "warmup_epochs=0"]


@pytest.fixture
def config(small_shapes, tmp_path):
    """A configuration file over a copy of the data set that a test may spoil."""
    shutil.copytree(small_shapes.parent, tmp_path / "data")
    path = tmp_path / "run.yaml"
    path.write_text(f"data: data/{small_shapes.name}\nruns: {tmp_path / 'runs'}\n")
    return path


def annotations(config, split="train"):
    path = config.parent / f"data/annotations/instances_{split}.json"
    return path, json.loads(path.read_text())


def spoil(config, split="train", **changes):
    path, content = annotations(config, split)
    path.write_text(json.dumps({**content, **changes}))


def fails(config, capsys, *overrides, code=2):
    assert train.main(["--cfg", str(config), *BASE, *overrides]) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    runs = config.parent / "runs"
    assert not runs.exists()
    return error


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("data=nowhere.yaml", ["nowhere.yaml", "no such file"]),
        ("data=shaeps", ["'shaeps'", "did you mean shapes?"]),
        ("epocs=3", ["epocs", "did you mean epochs?"]),
        ("batch=500", ["batch: 500 is larger than the training set, 24 images", "write batch: 12"]),
        ("imgsz=100", ["imgsz: 100 is no multiple of the stride 32", "write 96"]),
        ("imgsz=32 batch=23", ["imgsz: at 32", "batch of one image"]),
        ("model=yolo77n.yaml", ["model: 'yolo77n.yaml'", "yolo11s.yaml"]),
        ("model=yolo11n-pose.yaml", ["Pose", "box-detection"]),
        ("weights=missing/best.pt", ["missing/best.pt", "no such file"]),
        ("weights=run.yaml", ["'run.yaml' is no .pt file"]),
        ("device=cuda:7", ["device: 'cuda:7' is not here", "auto or cpu"]),
        ("device=gpu", ["device: 'gpu' is no device"]),
        ("device=9", ["device: '9' is not here", "auto or cpu"]),
        ("weights=data", ["'data' is no .pt file"]),
        ("eval_every=2", ["eval_every: 2 has no unit", "write 2ep for epochs or 2it for steps"]),
        ("precision=fp16", ["precision: 'fp16' needs a GPU"]),
        ("freeze=99", ["freeze: 99", "layers 0 to 23"]),
        ("freeze=24", ["freeze: 24", "nothing to train"]),
        ("nms=false", ["nms: false", "no NMS-free head"]),
        ("eval_every=0.01%", ["eval_every: 0.01%", "at least 1it"]),
    ],
)  # fmt: skip
def test_wrong_values(config, capsys, override, parts):
    if override.startswith("device=") and torch.cuda.device_count() > 7:
        pytest.skip("there are more than seven GPUs here")
    error = fails(config, capsys, *override.split())
    for part in parts:
        assert part in error


def test_no_images_at_all(config, capsys):
    spoil(config, images=[], annotations=[])
    assert "images: is empty" in fails(config, capsys)


def test_no_boxes_at_all(config, capsys):
    spoil(config, annotations=[])
    assert "no box to train on" in fails(config, capsys)


def test_no_boxes_to_evaluate_by(config, capsys):
    spoil(config, "val", annotations=[])
    assert "no box to evaluate by" in fails(config, capsys)


def test_weights_that_are_a_folder(config, capsys):
    (config.parent / "w.pt").mkdir()
    assert "cannot be read" in fails(config, capsys, f"weights={config.parent / 'w.pt'}")


def test_a_full_disk_before_the_start(config, capsys, monkeypatch):
    from yolo_cosine.engine import run

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run, "JsonlSink", full)
    assert train.main(["--cfg", str(config), *BASE]) == 2
    error = capsys.readouterr().err
    assert "cannot be written: No space left on device" in error and "Traceback" not in error
    assert not any((config.parent / "runs").iterdir())


def test_a_full_disk_at_a_checkpoint(config, capsys, monkeypatch):
    from yolo_cosine.engine import checkpoint

    def full(path, state, facts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_checkpoint", full)
    assert train.main(["--cfg", str(config), *BASE, "plots=false", "tensorboard=false"]) == 1
    error = capsys.readouterr().err
    assert "runs/run: cannot be written: No space left on device" in error and "Traceback" not in error
    assert (config.parent / "runs/run/results.csv").exists()  # what was measured is kept


def test_all_images_missing(config, capsys):
    shutil.rmtree(config.parent / "data/images/train")
    assert "instances_train.json" in fails(config, capsys)


def test_all_images_unreadable(config, capsys):
    for path in (config.parent / "data/images/train").iterdir():
        path.write_bytes(b"")
    assert "can be read" in fails(config, capsys)


def test_classes_of_train_and_val_differ(config, capsys):
    _, content = annotations(config, "val")
    spoil(config, "val", categories=[{**c, "name": c["name"] + "s"} for c in content["categories"]])
    assert "categories are not those of train" in fails(config, capsys)


def test_truncated_annotations(config, capsys):
    path, _ = annotations(config)
    path.write_bytes(path.read_bytes()[:-40])
    assert "instances_train.json" in fails(config, capsys)


def test_a_runs_folder_that_is_a_file(config, capsys):
    (config.parent / "taken").write_text("")
    assert "is a file" in fails(config, capsys, f"runs={config.parent / 'taken'}")


def test_faulty_images_and_boxes_are_warned_of_and_training_goes_on(config, capsys):
    path, content = annotations(config)
    first = next(a for a in content["annotations"] if not a["iscrowd"])
    first["bbox"] = [5.0, 5.0, 0.0, 0.0]
    content["annotations"][-1]["bbox"][2] = 900.0
    path.write_text(json.dumps(content))
    images = sorted((config.parent / "data/images/train").iterdir())
    images[0].write_bytes(images[0].read_bytes()[:30])
    assert train.main(["--cfg", str(config), *BASE, "plots=false", "tensorboard=false"]) == 0
    said = capsys.readouterr().out
    flat = " ".join(said.split())
    assert "1 box(es) without area inside the image: left out" in flat
    assert "over the image's edge: clipped" in flat
    assert "1 image(s) cannot be read" in flat and images[0].name in flat


def test_unreadable_images_are_named_without_a_cache_too(config, capsys):
    for split in ("train", "val"):
        sorted((config.parent / f"data/images/{split}").iterdir())[1].write_bytes(b"junk")
    overrides = [*BASE, "cache=none", "plots=false", "tensorboard=false"]
    assert train.main(["--cfg", str(config), *overrides]) == 0
    flat = " ".join(capsys.readouterr().out.split())
    assert flat.count("1 image(s) cannot be read") == 2 and "grey without boxes in their place" in flat
    weights = config.parent / "runs/run/weights/best.pt"
    assert val.main(["--weights", str(weights), "--data", str(config.parent / "data/shapes.yaml")]) == 0
    assert "warning" in (error := capsys.readouterr().err) and "1 image(s) cannot be read" in error


def test_val_finds_that_it_cannot_write_before_it_evaluates(small_shapes, tmp_path, capsys):
    for option in ("--json", "--predictions"):
        arguments = ["--weights", "none.pt", "--data", str(small_shapes), option, str(tmp_path / "no/such/file.json")]
        assert val.main(arguments) == 2
        assert f"{option}: {tmp_path}/no/such/file.json: its folder is not there" in capsys.readouterr().err


def test_without_a_config_the_usage_tells(capsys):
    with pytest.raises(SystemExit) as caught:
        train.main([])
    assert caught.value.code == 2
    assert "--cfg FILE is needed" in capsys.readouterr().err


def test_an_unknown_command(capsys):
    assert cli.main(["trian"]) == 2
    assert "'trian' is no command" in capsys.readouterr().err


def test_val_of_a_network_without_the_data_sets_classes(small_shapes, tmp_path, capsys):
    from yolo_cosine.model import detector, weights

    model = detector.build_detector("yolo11n", ("circle", "cat"))
    (tmp_path / "w.pt").write_bytes(weights.export_ultralytics(model, {}, {}, 0))
    assert val.main(["--weights", str(tmp_path / "w.pt"), "--data", str(small_shapes)]) == 2
    error = capsys.readouterr().err
    assert "has 2 classes and lacks square, triangle, star, ring of the data set's 5" in error


def test_val_of_a_file_that_is_no_checkpoint(small_shapes, tmp_path, capsys):
    (tmp_path / "w.pt").write_bytes(np.random.default_rng(0).bytes(1000))
    assert val.main(["--weights", str(tmp_path / "w.pt"), "--data", str(small_shapes)]) == 2
    assert "cannot be loaded" in capsys.readouterr().err


def test_the_process_ends_with_the_code(tmp_path):
    command = [sys.executable, "-m", "yolo_cosine.train", "--cfg", str(tmp_path / "none.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "there is no such file" in done.stderr and "Traceback" not in done.stderr
