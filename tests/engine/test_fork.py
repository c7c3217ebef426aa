"""When the state of a run is put aside for other runs, and when not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from yolo_cosine.engine import trainer
from yolo_cosine.engine.progress import Progress


@pytest.mark.parametrize(
    ("changes", "written"),
    [
        ({}, True),
        ({"step": 9}, False),  # another step
        ({"last_step": 5}, False),  # a jump to the mosaic-free end
        ({"ending": True}, False),  # the same where there is nothing to jump over: another run may close mosaic later
        ({"stopped": True}, False),
        ({"skipped": 1}, False),
        ({"evaluation_due": True}, False),
    ],
    ids=str,
)
def test_a_fork_holds_what_every_run_has_there(changes, written, monkeypatch):
    forks = []
    monkeypatch.setattr(trainer, "write_fork", forks.append)
    run = SimpleNamespace(
        progress=Progress(**{"step": 8, "last_step": 7, **changes}), forks={8}, world=SimpleNamespace(is_main=True)
    )
    trainer.Trainer._fork_if_due(run)
    assert (forks == [run]) is written
