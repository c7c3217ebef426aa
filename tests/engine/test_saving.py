"""What is saved when there is no room."""

from __future__ import annotations

import errno

import pytest
import torch

from yolo_cosine import train
from yolo_cosine.engine import saving
from yolo_cosine.engine.checkpoint import CheckpointFolder
from yolo_cosine.sinks.jsonl import read_records


@pytest.fixture
def disk(monkeypatch):
    """Where checkpoints and weights go; `full(path)` says whether there is no room for a file."""

    class Disk:
        def full(self, path):
            return False

    disk = Disk()

    def guarded(original):
        def write(path, *arguments):
            if disk.full(path):
                raise OSError(errno.ENOSPC, "No space left on device")
            original(path, *arguments)

        return write

    for name in ("write_checkpoint", "replace_file"):
        monkeypatch.setattr(saving, name, guarded(getattr(saving, name)))
    return disk


def quiet_end(write_run, tmp_path):
    assert train.main(["--cfg", str(write_run()), "name=quiet"]) == 0
    return CheckpointFolder(tmp_path / "runs/quiet/checkpoints").newest()[1]


def test_a_full_disk_does_not_end_a_run(write_run, tmp_path, disk, capsys):
    disk.full = lambda path: "step-00000004" <= path.name < "step-00000007"
    assert train.main(["--cfg", str(write_run(checkpoint={"every": "1it", "keep": 3}))]) == 0
    run = tmp_path / "runs/run"
    said = [r for r in read_records(run / "metrics.jsonl") if r["event"] == "incident"]
    assert [(i["kind"], i["step"]) for i in said] == [("disk", k) for k in (3, 4, 5)]
    assert (
        "No space left on device; the run goes on, the checkpoint after 3 steps is whole; make room" in said[0]["text"]
    )
    assert "there is room again" in " ".join(capsys.readouterr().out.split())
    folder = CheckpointFolder(run / "checkpoints")
    assert [m.step for m in folder.marked()][:3] == [9, 8, 7]
    theirs = quiet_end(write_run, tmp_path)
    assert all(torch.equal(v, theirs["model"][k]) for k, v in folder.newest()[1]["model"].items())


def test_older_checkpoints_make_room(write_run, tmp_path, disk):
    folder = tmp_path / "runs/run/checkpoints"
    disk.full = lambda path: path.name > "step-00000005" and len(list(folder.glob("step-*.pt"))) > 2
    assert train.main(["--cfg", str(write_run(checkpoint={"every": "1it", "keep": 5}))]) == 0
    assert not [r for r in read_records(tmp_path / "runs/run/metrics.jsonl") if r["event"] == "incident"]
    assert CheckpointFolder(folder).marked()[0].step == 9


def test_the_best_waits_for_room(write_run, tmp_path, disk):
    """The first evaluation is the best here, and nothing of it finds room until step 7."""
    run = tmp_path / "runs/run"
    disk.full = lambda path: not (run / "checkpoints/step-00000007.pt").exists() and path.name not in FREE
    assert train.main(["--cfg", str(write_run())]) == 0
    assert (run / "weights/best.pt").exists()
    marked, _ = CheckpointFolder(run / "checkpoints").best()
    best = [r["step"] for r in read_records(run / "metrics.jsonl") if r["event"] == "eval" and r["best"]]
    assert marked.step == best[-1] + 1


FREE = {"config.yaml", *(f"step-{k:08d}.pt" for k in (0, 1, 2, 7))}


def test_an_end_that_cannot_be_saved_is_no_success(write_run, tmp_path, disk, capsys):
    disk.full = lambda path: path.name > "step-00000006" or path.name == "last.pt"
    assert train.main(["--cfg", str(write_run())]) == 1
    error = capsys.readouterr().err
    assert "the end of the run could not be saved: No space left on device" in error and "--resume" in error
    disk.full = lambda path: False
    assert train.main(["--resume", str(tmp_path / "runs/run")]) == 0
    ours = CheckpointFolder(tmp_path / "runs/run/checkpoints").newest()[1]
    theirs = quiet_end(write_run, tmp_path)
    assert all(torch.equal(v, theirs["model"][k]) for k, v in ours["model"].items())


def test_a_run_that_cannot_even_begin_says_so(write_run, disk, capsys):
    disk.full = lambda path: path.name.startswith("step-")
    assert train.main(["--cfg", str(write_run())]) == 1
    assert "cannot be written: No space left on device; make room and start it again" in capsys.readouterr().err


def test_weights_belong_to_the_checkpoint_that_a_run_goes_on_from(write_run, tmp_path, monkeypatch):
    """A kill between a checkpoint and its exported weights leaves those of the save before."""
    config = write_run()
    assert train.main(["--cfg", str(config)]) == 0
    run = tmp_path / "runs/run"
    weights = {kind: torch.load(run / f"weights/{kind}.pt", weights_only=False)["model"] for kind in ("last", "best")}
    (run / "weights/last.pt").unlink()
    (run / "weights/best.pt").write_bytes(b"")
    assert train.main(["--resume", str(run)]) == 0
    for kind, before in weights.items():
        after = torch.load(run / f"weights/{kind}.pt", weights_only=False)["model"].state_dict()
        assert all(torch.equal(v, after[k]) for k, v in before.state_dict().items()), kind


def test_no_checkpoint_is_ahead_of_the_record(write_run, tmp_path, monkeypatch):
    """Where the record cannot be written and a checkpoint could, a kill would leave a gap for good."""
    from yolo_cosine.engine.trainer import Trainer
    from yolo_cosine.sinks.appended import AppendedFile

    write, train_step, full = AppendedFile._write, Trainer.train_step, []

    def guarded(self, offset, record):
        if full and self.path.name == "metrics.jsonl":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, offset, record)

    def step(self, batch, number):
        full[:] = [True] if 3 <= number < 6 else []
        if number == 5:
            raise SystemExit(9)  # a kill: nothing is written after it
        return train_step(self, batch, number)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(AppendedFile, "_write", guarded)
        patch.setattr(Trainer, "train_step", step)
        train.main(["--cfg", str(write_run())])
    run = tmp_path / "runs/run"
    assert CheckpointFolder(run / "checkpoints").newest()[0].step == 3
    assert train.main(["--resume", str(run)]) == 0
    assert [r["step"] for r in read_records(run / "metrics.jsonl") if r["event"] == "step"] == list(range(9))


def test_room_that_is_made_at_the_very_end(write_run, tmp_path, disk, monkeypatch):
    """The save after the last step finds none; the one more that is tried before the run is given up does."""
    tries = []
    disk.full = lambda path: path.name == "step-00000009.pt" and (tries.append(path) or len(tries) <= 2)
    assert train.main(["--cfg", str(write_run())]) == 0
    assert CheckpointFolder(tmp_path / "runs/run/checkpoints").newest()[0].step == 9
    texts = [r.get("text", "") for r in read_records(tmp_path / "runs/run/metrics.jsonl")]
    assert any("cannot be saved" in t for t in texts) and any("there is room again" in t for t in texts)
