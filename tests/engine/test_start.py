"""What processes do that torchrun has started in place of others."""

from __future__ import annotations

import pytest
import torch.distributed as dist

from yolo_cosine import train
from yolo_cosine.engine import start
from yolo_cosine.engine.launch import Launch


@pytest.fixture
def started(monkeypatch):
    """A function that makes this process one that was started for the n-th time."""
    lasting = dist.HashStore()

    def start_again(attempt):
        launch = Launch(0, 1, 0, dist.PrefixStore(str(attempt), lasting), lasting, attempt)
        monkeypatch.setattr(start, "launched", lambda: launch)

    return start_again


def test_they_go_on_with_the_run_that_those_had_begun(write_run, tmp_path, started):
    run = tmp_path / "runs/run"
    started(0)
    assert start.after_restart() is None  # there were none before
    assert (
        train.main(["--cfg", str(write_run(epochs=1, warmup_epochs=0, close_mosaic=0, checkpoint={"every": "1ep"}))])
        == 0
    )
    started(1)
    config, begun = start.after_restart()
    assert config.epochs == 1 and begun.run_dir == run and begun.goes_on and begun.state["progress"]["step"] == 3
    assert "anew, 1 time(s)" in begun.warnings[0]
    # nothing was saved
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    started(2)
    assert start.after_restart() is None


def test_a_run_on_its_own_was_never_started_anew():
    assert start.after_restart() is None
