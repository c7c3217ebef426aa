"""Going on with runs: exactness, longer runs and branches. What else is refused: `tests/mistakes/test_resume.py`."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from tests.conftest import TINY
from yolo_cosine import train
from yolo_cosine.engine.checkpoint import CheckpointFolder
from yolo_cosine.sinks.jsonl import read_records

KEYS = {
    "model": str(TINY), "imgsz": 64, "batch": 8, "nominal_batch": 16, "epochs": 3, "warmup_epochs": 1, "log_every": 2,
    "close_mosaic": 1, "mixup": 0.5, "cutmix": 0.5, "multi_scale": 0.5, "plots": False, "tensorboard": False,
    "predictions": False, "workers": 1,
    "checkpoint": {"every": "1it", "keep": 99},
}  # fmt: skip
VOLATILE = {"time", "seconds", "elapsed", "eval/seconds", "epoch/images_per_second"}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory, small_shapes):
    """The folder of a run that nobody disturbed, saved after each of its nine steps."""
    folder = tmp_path_factory.mktemp("quiet")
    config = folder / "run.yaml"
    config.write_text(json.dumps({**KEYS, "runs": str(folder / "runs"), "data": str(small_shapes)}))
    assert train.main(["--cfg", str(config)]) == 0
    return folder / "runs/run"


def cut(quiet, tmp_path, steps):
    """A copy of the run as it was after some steps, its record a step ahead as after a kill."""
    run = tmp_path / "run"
    shutil.copytree(quiet, run)
    for path in (run / "checkpoints").glob("step-*"):
        if int(path.stem.split("-")[1]) > steps:
            path.unlink()
    return run


def record(run):
    kept = [r for r in read_records(run / "metrics.jsonl") if r["event"] in ("step", "epoch", "eval")]
    return [{k: v for k, v in r.items() if k not in VOLATILE} for r in kept]


def same(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(
            same(a[k], b[k])
            for k in a
            if k not in {"config", "epoch_seconds", "elapsed", "evaluation_seconds"} | VOLATILE
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def rates(run):
    return {r["step"]: r["lr/weight"] for r in read_records(run / "metrics.jsonl") if r["event"] == "step"}


@pytest.mark.parametrize(
    "steps", [1, 3, 5]
)  # in an accumulation, at an epoch's end, in both an epoch and a logging interval
def test_a_resumed_run_ends_as_the_quiet_one(quiet, tmp_path, steps):
    run = cut(quiet, tmp_path, steps)
    assert train.main(["--resume", str(run)]) == 0
    ours, theirs = (CheckpointFolder(r / "checkpoints").newest()[1] for r in (run, quiet))
    assert same(ours, theirs)
    assert record(run) == record(quiet)


def test_a_damaged_checkpoint_is_passed_over(quiet, tmp_path, capsys):
    run = cut(quiet, tmp_path, 7)
    newest = run / "checkpoints/step-00000007.pt"
    newest.write_bytes(newest.read_bytes()[:-100])
    assert train.main(["--resume", str(run)]) == 0
    assert "going on after 6 steps" in " ".join(capsys.readouterr().out.split())
    assert record(run) == record(quiet)


def test_a_run_is_not_made_shorter(quiet, capsys):
    before = (quiet / "metrics.jsonl").read_bytes()
    assert train.main(["--resume", str(quiet), "epochs=2"]) == 2
    error = capsys.readouterr().err
    assert "epochs: 2 is less than the run's 3; a run cannot be made shorter, stop it instead" in error
    assert "Traceback" not in error and (quiet / "metrics.jsonl").read_bytes() == before


def test_an_edited_configuration_is_refused(quiet, tmp_path, capsys):
    run = cut(quiet, tmp_path, 5)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(
        text.replace("\nlr0: 0.01\n", "\nlr0: 0.5\n").replace("\nseed: 0\n", "\nseed: 7\n")
    )
    assert train.main(["--resume", str(run)]) == 2
    assert "this would change lr0 (was 0.01, now 0.5), seed (was 0, now 7)" in capsys.readouterr().err


def test_one_process_at_a_time_trains_a_run(quiet, tmp_path, capsys):
    from yolo_cosine.engine.lock import RunLock

    run = cut(quiet, tmp_path, 5)
    lock = RunLock()
    lock.take(run)
    assert train.main(["--resume", str(run)]) == 2
    assert "is being trained by another process; wait for it, stop it, or name another run" in capsys.readouterr().err
    lock.release()
    assert train.main(["--resume", str(run)]) == 0


def test_a_finished_run_is_done(quiet, tmp_path):
    run = cut(quiet, tmp_path, 9)
    assert train.main(["--resume", str(run)]) == 0
    assert record(run) == record(quiet)


def test_a_longer_run_is_a_decision(quiet, tmp_path, capsys):
    run = cut(quiet, tmp_path, 9)
    assert train.main(["--resume", str(run), "epochs=4"]) == 2
    error = capsys.readouterr().err
    assert all(f"--extend {way}" in error for way in ("stretch", "continue", "restart"))
    assert record(run) == record(quiet)


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("continue", lambda k: 1e-4),
        ("restart", lambda k: 1e-4 if k == 9 else (1e-6 if k == 11 else None)),
        ("stretch", lambda k: 1e-4 if k == 11 else None),
    ],
)
def test_extending_a_finished_run(quiet, tmp_path, way, expected):
    run = cut(quiet, tmp_path, 9)
    assert train.main(["--resume", str(run), "epochs=4", "--extend", way]) == 0
    before, after = rates(quiet), rates(run)
    assert {k: after[k] for k in before} == before  # the past is what it was
    assert sorted(after) == list(range(12))
    for k in (9, 10, 11):
        if expected(k) is not None:
            assert after[k] == pytest.approx(expected(k), rel=1e-9)
    assert train.main(["--resume", str(run)]) == 0  # and it is a run like any other


def test_a_branch_decays_from_a_checkpoint(quiet, tmp_path):
    source = quiet / "checkpoints/step-00000004.pt"
    overrides = ["epochs=4", "curve=linear", f"runs={tmp_path}", "name=branch"]
    assert train.main(["--branch", str(source), *overrides]) == 0
    before, after = rates(quiet), rates(tmp_path / "branch")
    assert all(after[k] == before[k] for k in range(4))
    assert after[4] == before[3]
    falls = [after[k] - after[k + 1] for k in range(4, 11)]
    assert max(falls) == pytest.approx(min(falls), rel=1e-6)  # a line
    assert after[11] == pytest.approx(1e-4)


def test_a_longer_run_is_not_at_its_end_when_it_goes_back_or_is_killed_again(write_run, tmp_path, monkeypatch):
    """The checkpoint that it goes on from says that early stopping ended the run."""
    from yolo_cosine.engine.trainer import Trainer

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_out_of_patience", lambda self, epoch: epoch == 1)
        assert train.main(["--cfg", str(write_run(close_mosaic=0, mosaic=0.0))]) == 0
    run = tmp_path / "runs/run"
    assert CheckpointFolder(run / "checkpoints").newest()[1]["progress"]["stopped"]

    def killed(self, batch, step):
        raise SystemExit(9)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Trainer, "train_step", killed)
        train.main(["--resume", str(run), "epochs=4", "--extend", "continue"])
    assert train.main(["--resume", str(run)]) == 0
    assert sorted(rates(run)) == list(range(12))
