"""Runs with a time budget."""

from __future__ import annotations

import pytest

from yolo_cosine import train
from yolo_cosine.config.load import load_config
from yolo_cosine.engine import horizon
from yolo_cosine.engine.horizon import fitting_epochs
from yolo_cosine.sinks.jsonl import read_records


@pytest.mark.parametrize(
    ("done", "budget", "elapsed", "epoch", "evaluation", "every", "expected"),
    [
        (3, 100, 30, 8, 2, 1, 9),  # 68 s left for epochs of 10 s
        (3, 100, 30, 9, 2, 2, 9),  # an evaluation every other epoch: 10 s on average
        (3, 100, 30, 8, 2, 0.5, 8),  # two evaluations in each
        (3, 40, 39, 8, 2, 1, 4),  # one more, in which the rate comes down
        (3, 10, 39, 8, 2, 1, 4),
    ],
)
def test_how_many_epochs_fit(done, budget, elapsed, epoch, evaluation, every, expected):
    keys = {"budget": budget, "elapsed": elapsed, "epoch": epoch, "evaluation": evaluation, "per_evaluation": every}
    assert fitting_epochs(done, **keys) == expected


def test_the_schedule_is_completed(write_run, tmp_path, monkeypatch):
    monkeypatch.setattr(horizon, "fitting_epochs", lambda done, **about: done + 3)
    assert train.main(["--cfg", str(write_run(time="1h", epochs=50, close_mosaic=1))]) == 0
    run = tmp_path / "runs/run"
    records = read_records(run / "metrics.jsonl")
    steps = [r for r in records if r["event"] == "step"]
    assert [s["step"] for s in steps] == list(range(12))  # one epoch of warmup, and three
    assert steps[3]["lr/weight"] == pytest.approx(0.01) and steps[-1]["lr/weight"] == pytest.approx(1e-4)
    (replan,) = [r for r in records if r["event"] == "replan"]
    assert replan["epochs"] == 4 and replan["step"] == 2
    assert (
        "time: 1h: an epoch takes" in replan["text"]
        and "the schedule ends with epoch 4 (planned: 50)" in replan["text"]
    )
    saved = load_config(run / "config.yaml")
    assert (saved.epochs, saved.time) == (4, None)


def test_a_budget_is_measured(write_run, tmp_path):
    assert train.main(["--cfg", str(write_run(time="0.5s", epochs=50, warmup_epochs=0))]) == 0
    (replan,) = [r for r in read_records(tmp_path / "runs/run/metrics.jsonl") if r["event"] == "replan"]
    assert 2 <= replan["epochs"] < 50


def test_a_resumed_run_keeps_its_horizon(write_run, tmp_path, monkeypatch):
    monkeypatch.setattr(horizon, "fitting_epochs", lambda done, **about: done + 3)
    assert train.main(["--cfg", str(write_run(time="1h", epochs=50))]) == 0
    for path in (tmp_path / "runs/run/checkpoints").glob("step-*"):
        if int(path.stem.split("-")[1]) > 5:
            path.unlink()
    monkeypatch.setattr(horizon, "fitting_epochs", lambda done, **about: done + 30)
    assert train.main(["--resume", str(tmp_path / "runs/run")]) == 0
    records = read_records(tmp_path / "runs/run/metrics.jsonl")
    assert [r["step"] for r in records if r["event"] == "step"] == list(range(12))
    assert len([r for r in records if r["event"] == "replan"]) == 1


def test_a_schedule_that_cannot_be_so_short_keeps_its_length(write_run, tmp_path, monkeypatch):
    monkeypatch.setattr(horizon, "fitting_epochs", lambda done, **about: done + 1)
    phases = [{"curve": "constant", "for": "4ep"}, {"curve": "linear", "end": 0, "for": "rest"}]
    assert train.main(["--cfg", str(write_run(time="1h", epochs=5, phases=phases))]) == 0
    (replan,) = [r for r in read_records(tmp_path / "runs/run/metrics.jsonl") if r["event"] == "replan"]
    assert replan["epochs"] == 5 and "a schedule of 2 epochs cannot be" in replan["text"]
    assert load_config(tmp_path / "runs/run/config.yaml").epochs == 5


def test_a_kill_before_the_configuration_says_the_length(write_run, tmp_path, monkeypatch):
    monkeypatch.setattr(horizon, "fitting_epochs", lambda done, **about: done + 3)
    assert train.main(["--cfg", str(write_run(time="1h", epochs=50))]) == 0
    run = tmp_path / "runs/run"
    for path in (run / "checkpoints").glob("step-*"):
        if int(path.stem.split("-")[1]) > 3:
            path.unlink()
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("epochs: 4\n", "epochs: 50\n").replace("time: null", "time: 1h"))
    before = [r["lr/weight"] for r in read_records(run / "metrics.jsonl") if r["event"] == "step"]
    monkeypatch.setattr(horizon, "fitting_epochs", lambda done, **about: done + 30)
    assert train.main(["--resume", str(run)]) == 0
    assert [r["lr/weight"] for r in read_records(run / "metrics.jsonl") if r["event"] == "step"] == before
    assert load_config(run / "config.yaml").epochs == 4
