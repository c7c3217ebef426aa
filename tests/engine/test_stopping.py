"""Ctrl-C and SIGTERM: save, say how to go on, exit; a second one stops at once."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch

from yolo_cosine import evaluate, train
from yolo_cosine.engine.checkpoint import CheckpointFolder
from yolo_cosine.engine.stopping import StopSignals
from yolo_cosine.engine.trainer import Trainer
from yolo_cosine.errors import Interrupted
from yolo_cosine.sinks.jsonl import read_records

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}


def newest(tmp_path):
    return CheckpointFolder(tmp_path / "runs/run/checkpoints").newest()


def send_at(monkeypatch, step, *signals):
    original = Trainer.train_step

    def sending(self, batch, now):
        result = original(self, batch, now)
        if now == step:
            for number in signals:
                os.kill(os.getpid(), number)
        return result

    monkeypatch.setattr(Trainer, "train_step", sending)


@pytest.mark.parametrize("number", CODES)
def test_the_first_signal_finishes_the_step_and_saves(write_run, tmp_path, monkeypatch, capsys, number):
    with monkeypatch.context() as patch:
        send_at(patch, 4, number)
        assert train.main(["--cfg", str(write_run(checkpoint={"every": "2ep", "keep": 2}))]) == CODES[number]
    said = capsys.readouterr().err
    assert f"stopped by {signal.Signals(number).name} after 5 of 9 steps; everything is saved" in said
    assert f"--resume {tmp_path / 'runs/run'}" in said and "Traceback" not in said
    assert newest(tmp_path)[0].step == 5
    assert [r["step"] for r in read_records(tmp_path / "runs/run/metrics.jsonl") if r["event"] == "step"] == [*range(5)]
    end = [r for r in read_records(tmp_path / "runs/run/metrics.jsonl") if r["event"] == "end"]
    assert end[-1]["reason"] == "interrupted"
    assert train.main(["--resume", str(tmp_path / "runs/run")]) == 0
    assert newest(tmp_path)[0].step == 9


def test_a_second_signal_stops_at_once(write_run, tmp_path, monkeypatch, capsys):
    send_at(monkeypatch, 4, signal.SIGTERM, signal.SIGTERM)
    assert train.main(["--cfg", str(write_run(checkpoint={"every": "1ep", "keep": 2}))]) == 143
    assert "a second time; stopped at once" in capsys.readouterr().err
    assert newest(tmp_path)[0].step == 3


def test_a_signal_in_an_evaluation_leaves_it_for_later(write_run, tmp_path, monkeypatch):
    original = evaluate.detect

    def interrupted(*arguments, **keys):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **keys)

    config = write_run(checkpoint={"every": "2ep", "keep": 2})
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "detect", interrupted)
        assert train.main(["--cfg", str(config)]) == 143
    marked, state, _ = newest(tmp_path)
    assert marked.step == 3 and not marked.evaluated and state["progress"]["evaluation_due"]
    assert train.main(["--resume", str(tmp_path / "runs/run")]) == 0
    assert train.main(["--cfg", str(config), "name=quiet"]) == 0
    ours, theirs = (
        [
            (r["event"], r["step"], r.get("metrics/mAP50-95"))
            for r in read_records(tmp_path / f"runs/{name}/metrics.jsonl")
            if r["event"] in ("step", "epoch", "eval")
        ]
        for name in ("run", "quiet")
    )
    assert ours == theirs
    other = CheckpointFolder(tmp_path / "runs/quiet/checkpoints").newest()[1]
    assert all(torch.equal(v, other["ema"][k]) for k, v in newest(tmp_path)[1]["ema"].items())


def test_a_signal_before_the_first_step(write_run, tmp_path, monkeypatch, capsys):
    from yolo_cosine.engine import run

    monkeypatch.setattr(run, "build_trainer", lambda *a, **k: os.kill(os.getpid(), signal.SIGTERM))
    assert train.main(["--cfg", str(write_run())]) == 143
    assert "before the first step" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_handlers_are_put_back(write_run):
    before = [signal.getsignal(number) for number in CODES]
    assert train.main(["--cfg", str(write_run(epochs=1, warmup_epochs=0))]) == 0
    assert [signal.getsignal(number) for number in CODES] == before


def test_a_signal_where_nothing_can_be_raised_is_not_lost(capsys):
    """Python throws away what is raised in `__del__`, and prints it."""

    class Dying:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0)  # where the handler runs

    with pytest.raises(Interrupted, match="SIGINT came before the first step"), StopSignals():
        thing = Dying()
        del thing
        time.sleep(5)
    assert capsys.readouterr().err == ""
