"""`python -m yolo_cosine.preview`: the table, the words, the charts and the translation."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from yolo_cosine import preview
from yolo_cosine.config.load import load_config
from yolo_cosine.schedules.presets import from_native
from yolo_cosine.schedules.table import SchedulePlan

HEADER = ["step", "epoch", "lr/weight", "lr/norm", "lr/bias", "momentum", "accumulate"]


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({"epochs": 10, "warmup_epochs": 2, "lrf": 0.1, "batch": 16}))
    return path


def test_the_table_has_every_step_as_applied(config, tmp_path, capsys):
    assert preview.main(["--cfg", str(config), "--steps-per-epoch", "7", "--csv", "out.csv", "--png", "none"]) == 0
    rows = list(csv.reader((tmp_path / "out.csv").read_text().splitlines()))
    assert rows[0] == HEADER and len(rows) == 71
    plan = SchedulePlan.of(load_config(config), 7, "x")
    for step in (0, 1, 13, 14, 69):
        row = rows[step + 1]
        assert (int(row[0]), int(row[1]), int(row[6])) == (step, step // 7, 4)
        assert float(row[2]) == 0.01 * plan.schedule.lr["weight"](step)
        assert float(row[4]) == 0.01 * plan.schedule.lr["bias"](step)
        assert float(row[5]) == plan.schedule.momentum(step)
    assert preview.main(["--cfg", str(config), "--steps-per-epoch", "7", "--csv"]) == 0
    assert capsys.readouterr().out.endswith((tmp_path / "out.csv").read_text())


def test_the_words_cover_the_run(config, capsys):
    assert preview.main(["--cfg", str(config), "--steps-per-epoch", "7", "--png", "none", "lr0=0.02"]) == 0
    out = capsys.readouterr().out
    weight = out[out.index("weight, norm") : out.index("of bias")]
    assert sum(float(share) for share in re.findall(r"([\d.]+)% of the run", weight)) == pytest.approx(100, abs=0.1)
    assert "peak 0.02 at step 14 (epoch 2)" in weight and "last step 0.002" in weight
    assert "momentum: 0.8 to 0.937" in out and "batches in an update: 4" in out
    assert "\u28ff" not in out and any("\u2800" < c < "\u2900" for c in out)  # lines, and no blocks


def test_a_reader_that_has_seen_enough_is_no_error(config):
    command = f"{sys.executable} -m yolo_cosine.preview --cfg {config} --steps-per-epoch 2000 --csv | head -3"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert len(done.stdout.splitlines()) == 3 and done.stderr == ""


def test_several_are_overlaid_and_each_gets_its_table(config, tmp_path, capsys):
    other = tmp_path / "other.yaml"
    other.write_text("extends: run.yaml\ncurve: linear\nepochs: 12\n")
    command = ["--cfg", str(config), str(other), "--steps-per-epoch", "7", "--csv", "t.csv", "--png", "chart.png"]
    assert preview.main(command) == 0
    assert len((tmp_path / "t-run.csv").read_text().splitlines()) == 71
    assert len((tmp_path / "t-other.csv").read_text().splitlines()) == 85
    image = cv2.imread(str(tmp_path / "chart.png"))
    assert image.shape[1] == 1200 and image.std() > 5
    assert preview.main([*command[:5], "--csv"]) == 2
    assert "several configurations do not go into one table" in capsys.readouterr().err


def test_steps_are_counted_from_the_data(config, small_shapes, capsys):
    assert preview.main(["--cfg", str(config), f"data={small_shapes}", "batch=10", "--png", "one.png"]) == 0
    assert "10 epochs of 3 steps, 30 in all" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "arguments", "length"),
    [
        ("transformers.cosine", ["lr0=0.01", "num_warmup_steps=5", "num_training_steps=90"], 100),
        ("torch.OneCycleLR", ["lr0=0.01", "max_lr=0.02", "total_steps=100", "pct_start=0.25"], 100),
        ("yolov5.linear", ["lr0=0.01", "epochs=10", "iters_per_epoch=30"], 300),
        (
            "timm.CosineLRScheduler",
            ["lr0=0.01", "t_initial=20", "cycle_limit=3", "cycle_decay=0.5", "iters_per_epoch=5"],
            300,
        ),
    ],
)
def test_a_translated_schedule_trains_as_the_peers(tmp_path, capsys, name, arguments, length):
    assert preview.main(["--from", name, *arguments]) == 0
    (tmp_path / "moved.yaml").write_text(capsys.readouterr().out)
    plan = SchedulePlan.of(load_config(tmp_path / "moved.yaml", ["epochs=10"]), length // 10, "x")
    given = {k: float(v) if "." in v else int(v) for k, v in (a.split("=") for a in arguments)}
    common = {k: given.pop(k) for k in ("lr0", "iters_per_epoch", "epochs") if k in given}
    theirs = from_native(*name.split("."), given, common)
    unit = common["iters_per_epoch"] if theirs.clock == "epoch" else 1
    for group in ("weight", "bias"):
        k = [g.name for g in theirs.groups].index(group) if len(theirs.groups) > 1 else 0
        for step in range(length):
            ours = plan.base(group) * plan.schedule.lr[group](step)
            assert ours == pytest.approx(theirs.lr(step // unit, k), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "transformer.cosine"], "did you mean transformers"),
        (["--from", "transformers"], "names no schedule; transformers has"),
        (["--from", "transformers.cosine"], "num_warmup_steps is missing"),
        (["--from", "transformers.cosine", "warmup=3"], "warmup: there is no such argument"),
        (["--cfg", "nowhere.yaml"], "there is no such file"),
        (["--cfg", "{config}", "lrr0=3"], "did you mean lr0"),
        (["--cfg", "{config}", "data=nowhere"], "add --steps-per-epoch N"),
        (["--cfg", "{config}", "lrf=1.5"], "lrf: 1.5 should be less than or equal to 1"),
        (["--cfg", "{config}", "warmup_epochs=12"], "warmup_epochs: 12 is longer than epochs=10; shorten the warmup"),
        (["--cfg", "{config}", "--steps-per-epoch", "5", "--png", "no/where.png"], "cannot be written"),
    ],
)
def test_mistakes(config, capsys, arguments, message):
    assert preview.main([a.format(config=config) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_the_committed_gallery_is_what_the_code_gives():
    path = Path(__file__).parents[1] / "scripts/gallery.py"
    spec = importlib.util.spec_from_file_location("gallery", path)
    gallery = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gallery)
    assert (gallery.FOLDER / "GALLERY.md").read_text() == gallery.text(), "run scripts/gallery.py"
