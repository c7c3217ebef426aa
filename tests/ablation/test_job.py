"""What a job finds where its run lies, and what becomes of that."""

from __future__ import annotations

import json
import threading

import pytest

from yolo_cosine.ablation import job
from yolo_cosine.ablation.job import Job, is_begun, own_steps, run_job
from yolo_cosine.config.load import dump_config
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.engine.lock import RunLock
from yolo_cosine.errors import UserError

LABELS = {"ablation": "a", "variant": "b"}


def line(event, step, **keys):
    return json.dumps({"event": event, "step": step, **keys}) + "\n"


@pytest.mark.parametrize(
    ("record", "own"),
    [
        ("", None),
        (line("start", 0, config={"labels": LABELS})[:30], None),  # torn
        (b"\xff\x00", None),
        (line("start", 0, config={"labels": {}}) + line("step", 0), None),  # of the run that it was forked from
        (line("start", 4, config={"labels": LABELS}), (4, 0)),
        (line("start", 4, config={"labels": LABELS}) + line("step", 4) + line("step", 5) + '{"event": "st', (4, 2)),
    ],
)
def test_own_steps_of_a_record_in_any_state(record, own, tmp_path):
    (tmp_path / "config.yaml").write_text(dump_config(RunConfig(labels=LABELS)))
    (tmp_path / "metrics.jsonl").write_bytes(record if isinstance(record, bytes) else record.encode())
    assert own_steps(tmp_path) == own
    assert is_begun(tmp_path) is bool(own and own[1])


@pytest.mark.parametrize("missing", ["config.yaml", "metrics.jsonl"])
def test_a_run_that_lacks_something_is_not_deleted(missing, tmp_path):
    folder = tmp_path / "seed0"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights/last.pt").write_text("hours of work")
    for name in {"config.yaml", "metrics.jsonl"} - {missing}:
        (folder / name).touch()
    config = RunConfig(name="seed0", runs=str(tmp_path)).model_dump(mode="json")
    done = run_job(Job("b", 0, str(folder), config, log=str(tmp_path / "log")))
    assert done.outcome == "failed" and "move the folder away" in done.detail
    assert (folder / "weights/last.pt").read_text() == "hours of work"


def test_a_run_that_another_process_still_saves_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "_LOOK", 0.01)
    lock = RunLock()
    lock.take(tmp_path)
    monkeypatch.setattr(job, "_PATIENCE", 0.05)
    with pytest.raises(UserError, match="is being trained by another process"):
        job._wait_until_free(tmp_path)
    monkeypatch.setattr(job, "_PATIENCE", 30.0)
    threading.Timer(0.1, lock.release).start()
    job._wait_until_free(tmp_path)
    job._wait_until_free(tmp_path / "not there")
