from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_cosine import events
from yolo_cosine.errors import UserError
from yolo_cosine.sinks.jsonl import JsonlSink, read_records, write_results_csv


def record(run, stream=None):
    path = run.run_dir / "metrics.jsonl"
    sink = JsonlSink(path)
    for event in stream if stream is not None else run.events():
        sink.handle(event)
    sink.close()
    return path


def test_every_line_stands_for_an_event(fake_run):
    run = fake_run()
    records = read_records(record(run))
    stream = [e for e in run.events() if not isinstance(e, events.EvaluationStarted)]
    names = {
        events.RunStarted: "start",
        events.StepDone: "step",
        events.EpochDone: "epoch",
        events.Evaluated: "eval",
        events.Saved: "saved",
        events.RunEnded: "end",
    }
    assert [r["event"] for r in records] == [names[type(e)] for e in stream]
    for line, event in zip(records, stream, strict=True):
        assert line["step"] == getattr(event, "step", 0) and line["time"] > 1.6e9
        if isinstance(event, events.StepDone | events.EpochDone | events.Evaluated):
            assert {k: line[k] for k in event.scalars} == dict(event.scalars)  # to the last bit
            assert line["epoch"] == event.epoch
    start, end = records[0], records[-1]
    assert start["names"] == list(run.names) and start["groups"] == list(run.groups)
    assert start["config"]["lr0"] == 0.01 and start["facts"]["parameters"] == 2590035
    assert end["reason"] == "finished" and end["best"][events.MAP] > 0
    evaluation = next(r for r in records if r["event"] == "eval")
    assert evaluation["AP50-95/traffic light"] is None and 0 <= evaluation["AP50-95/circle"] <= 1
    assert evaluation["best"] is True
    assert [r["path"] for r in records if r["event"] == "saved"][:2] == ["weights/best.pt", "weights/last.pt"]


@given(value=st.floats(), single=st.floats(width=32))
def test_numbers_come_back_as_they_were(tmp_path_factory, value, single):
    path = tmp_path_factory.mktemp("numbers") / "metrics.jsonl"
    sink = JsonlSink(path)
    sink.handle(events.StepDone(0, 0, {"a": value, "b": np.float64(value), "c": np.float32(single)}, 1, True))
    sink.close()
    line = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    for name, expected in {"a": value, "b": value, "c": single}.items():
        assert line[name] == expected if math.isfinite(expected) else line[name] is None


@pytest.mark.parametrize(
    "tail", ["", '{"event": "st', '{"event": "step", "step": 1, "epoch": 0, "time": 2.0}', "\0\0\0"]
)
def test_a_torn_last_line_is_left_out(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event": "step", "step": 0, "epoch": 0, "time": 1.5}\n' + tail)
    assert [r["step"] for r in read_records(path)] == [0]
    sink = JsonlSink(path)  # and is not in the way of what follows
    sink.handle(events.Notice("back again", step=0))
    sink.close()
    assert [r["event"] for r in read_records(path)] == ["step", "notice"]


@pytest.mark.parametrize("line", ["nonsense", "3", '{"event": "step"}'])
def test_a_bad_line_in_the_middle_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{line}\n{{"event": "step", "step": 0, "epoch": 0, "time": 1.5}}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl:1: is no record"):
        read_records(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"metrics\.jsonl: cannot be read: No such file"):
        read_records(tmp_path / "metrics.jsonl")


def test_every_step_can_be_read_at_once(fake_run):
    run = fake_run()
    sink = JsonlSink(run.run_dir / "metrics.jsonl")
    for count, event in zip(range(1, 4), run.events(), strict=False):
        sink.handle(event)
        assert len(read_records(run.run_dir / "metrics.jsonl")) == count
    sink.close()


@pytest.mark.parametrize("killed_at", [7, 10, 12])
def test_a_resumed_run_has_every_step_once(fake_run, killed_at):
    run, resumed_from = fake_run(), 5
    before = [e for e in run.events() if getattr(e, "step", 0) < killed_at]
    path = record(run, before)
    path.write_text(path.read_text() + '{"event": "step", "st')
    record(run, run.events(start_step=resumed_from))
    records = read_records(path)
    assert [r["step"] for r in records if r["event"] == "step"] == list(range(run.epochs * run.steps_per_epoch))
    assert [r["epoch"] for r in records if r["event"] == "epoch"] == list(range(run.epochs))
    assert [r["step"] for r in records if r["event"] == "start"] == [0, resumed_from]


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_results_csv(fake_run):
    run = fake_run(eval_every=10)  # every second epoch
    path = record(run)
    write_results_csv(path, run.run_dir / "results.csv")
    table = rows(run.run_dir / "results.csv")
    assert [(r["epoch"], r["step"]) for r in table] == [("1", "4"), ("2", "9"), ("3", "14"), ("4", "19")]
    assert list(table[0])[:6] == ["epoch", "step", "seconds", "epoch/box_loss", "epoch/cls_loss", "epoch/dfl_loss"]
    steps = {r["step"]: r for r in read_records(path) if r["event"] == "step"}
    for row in table:
        applied = steps[int(row["step"])]
        for name in ("lr/weight", "lr/norm", "lr/bias", "momentum"):
            assert float(row[name]) == applied[name]
        assert float(row["seconds"]) >= 0
    assert [bool(r[events.MAP]) for r in table] == [False, True, False, True]
    assert float(table[3][events.MAP]) == run.evaluated(19).scalars[events.MAP]


def test_results_csv_has_the_same_columns_without_evaluations_and_for_a_cut_epoch(fake_run):
    whole = record(fake_run())
    write_results_csv(read_records(whole), whole.with_name("whole.csv"))
    whole.unlink()
    # an evaluation in an epoch that never ended has no row; several in one epoch: the last counts
    cut = record(fake_run(), [e for e in fake_run(eval_every=2).events() if getattr(e, "step", 0) < 8])
    write_results_csv(cut, cut.with_name("cut.csv"))
    header = whole.with_name("whole.csv").read_text().splitlines()[0]
    assert cut.with_name("cut.csv").read_text().splitlines()[0] == header
    (row,) = rows(cut.with_name("cut.csv"))
    assert row["epoch"] == "1" and float(row[events.MAP]) == fake_run().evaluated(3).scalars[events.MAP]
