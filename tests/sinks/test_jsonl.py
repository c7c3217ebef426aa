from __future__ import annotations

import csv
import errno
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine import events
from yolo_cosine.errors import UserError
from yolo_cosine.sinks import appended, jsonl
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


def told(path):
    """The record without what stands for a process and not for the run, and without its times."""
    return [
        {k: v for k, v in r.items() if k != "time"}
        for r in read_records(path)
        if r["event"] not in {"start", "end"} and r["step"] is not None
    ]


def write_all(path, stream):
    """Write a process's events. It is never closed: killed."""
    sink = JsonlSink(path)
    for event in stream:
        sink.handle(event)


def test_a_run_that_went_back_and_was_planned_anew(story):
    path = record(story.run, story.events)
    lines = read_records(path)
    steps = [r["step"] for r in lines if r["step"] is not None]
    assert steps == sorted(steps)
    for kind, expected in {"step": range(20), "epoch": (4, 9, 14, 19), "eval": (3, 7, 11, 15, 19)}.items():
        assert [r["step"] for r in lines if r["event"] == kind] == list(expected)
    (k,) = (k for k, r in enumerate(lines) if r["event"] == "rewind")
    assert {"step": 10, "from_step": 12, "to_step": 10, "text": "a loss was no number"}.items() <= lines[k].items()
    around = [(r["event"], r.get("text"), r["step"], r["at"]) for r in lines[k - 4 : k + 2] if "at" in r]
    assert around == [
        ("incident", "a worker was begun anew", 10, 11),
        ("incident", "half a batch at a time", 10, 11),
        ("notice", "the loss is no number", 10, 13),
        ("incident", "box_loss nan", 10, 13),
        ("incident", "the run went back", 10, 12),
    ]
    (plan,) = (r for r in lines if r["event"] == "replan")
    assert plan["epochs"] == 5 and plan["step"] == 16 and plan["epoch"] == 3
    write_results_csv(path, path.with_name("results.csv"))
    assert [r["step"] for r in rows(path.with_name("results.csv"))] == ["4", "9", "14", "19"]


@pytest.fixture
def quick(monkeypatch):
    """Leave out what only a power cut can tell."""
    monkeypatch.setattr(appended.os, "fsync", lambda file: None)


def test_a_run_that_is_killed_anywhere_has_the_record_of_one_that_was_not(story, quick):
    whole = told(record(story.run, story.events))
    for killed in range(len(story.events)):
        path = story.run.run_dir / f"killed{killed}.jsonl"
        for stream in story.after([killed]):
            write_all(path, stream)
        assert told(path) == whole, killed
        assert [r["text"] for r in read_records(path) if r["event"] == "notice"].count("24 boxes were clipped") == 1


@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_it_may_be_killed_again_and_again(story_of, data):
    story, path, whole = story_of
    path.unlink(missing_ok=True)
    for stream in story.after(data.draw(st.lists(st.integers(0, 40), max_size=6))):
        write_all(path, stream)
    assert told(path) == whole
    starts = [r["step"] for r in read_records(path) if r["event"] == "start"]
    assert starts == sorted(starts) and starts[0] == 0


@pytest.fixture(scope="module")
def story_of(tmp_path_factory, make_story):
    """A story, a path for its record, and what should be in it."""
    story = make_story(tmp_path_factory.mktemp("story"))
    whole = told(record(story.run, story.events))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(appended.os, "fsync", lambda file: None)
        yield story, story.run.run_dir / "metrics.jsonl", whole


@pytest.mark.parametrize("kind", ["plain", "evaluation due", "behind the rewind"])
def test_a_record_that_was_cut_anywhere_behind_its_checkpoint(story, kind, quick):
    whole = told(record(story.run, story.events))
    number = {"plain": 2, "evaluation due": 1, "behind the rewind": 10}[kind]
    index, following = story.checkpoints[number].index, story.checkpoints[number + 1].index
    assert story.checkpoints[number].evaluation_due == (kind == "evaluation due")
    assert (events.Rewound in map(type, story.events[:index])) == (kind == "behind the rewind")
    path = story.run.run_dir / "cut.jsonl"
    killed, resumed = story.after([following - 1])
    sink = JsonlSink(path)
    for count, event in enumerate(killed):
        if count == index:
            safe = path.stat().st_size  # on disk before the checkpoint was
        sink.handle(event)
    full = path.read_bytes()
    assert len(full) > safe
    last = full.rindex(b"\n", 0, -1)
    for cut in (k for k in range(safe, len(full) + 1) if k > last or k % 7 == 0 or b"\n" in full[k - 2 : k + 2]):
        path.write_bytes(full[:cut])
        write_all(path, resumed[:12])
        lines = told(path)
        assert lines == whole[: len(lines)] and lines[-1]["step"] > story.checkpoints[number].step, cut


def test_a_process_that_is_really_killed_loses_no_line(story):
    for killed in (3, 20, 41):
        path = story.run.run_dir / f"{killed}.jsonl"
        child = os.fork()
        if not child:
            sink = JsonlSink(path)
            for event in story.events[:killed]:
                sink.handle(event)
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        write_all(story.run.run_dir / "same.jsonl", story.events[:killed])
        assert told(path) == told(story.run.run_dir / "same.jsonl")
        (story.run.run_dir / "same.jsonl").unlink()


def test_without_room_for_a_second_copy_the_record_is_rewritten_in_place(story, monkeypatch):
    whole = told(record(story.run, story.events))

    def refuse(path, parts):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(appended, "replace_file", refuse)
    for killed in range(0, len(story.events), 7):
        path = story.run.run_dir / f"killed{killed}.jsonl"
        for stream in story.after([killed]):
            write_all(path, stream)
        assert told(path) == whole, killed


FULL = """
import resource, sys
from pathlib import Path
from yolo_cosine import events
from yolo_cosine.sinks import SinkHub
from yolo_cosine.sinks.console import ConsoleSink
from yolo_cosine.sinks.jsonl import JsonlSink

run_dir = Path(sys.argv[1])
hub = SinkHub([("console", ConsoleSink())])
hub.add("metrics.jsonl", JsonlSink(run_dir / "metrics.jsonl"))
hub.emit(events.RunStarted(run_dir, {}, ("a",), ("weight",), ("box_loss",), 2, 50, 16, {}))
most = resource.getrlimit(resource.RLIMIT_FSIZE)
for step in range(100):
    if step == 20:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3003, most[1]))
    if step == 70:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
    hub.emit(events.StepDone(step, step // 50, {"lr/weight": 0.01, "momentum": 0.9, "x": step / 7}, 16, True))
    if step % 10 == 9:
        hub.emit(events.Saving(step))
    if step == 69:
        cut = (run_dir / "metrics.jsonl").read_bytes()
        assert len(cut) <= 3003 and cut.endswith(b"}\\n"), cut[-80:]
hub.emit(events.RunEnded(99, 1, "finished", 1.0, {}, None))
hub.close()
"""


def test_a_disk_that_is_full_for_a_while_costs_no_line(tmp_path):
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = read_records(tmp_path / "metrics.jsonl")
    assert [r["step"] for r in lines if r["event"] == "step"] == list(range(100))
    steps = [r["step"] for r in lines]
    assert steps == sorted(steps)
    warned = [r for r in lines if r["event"] == "notice"]
    assert len(warned) == 2 and "File too large" in warned[0]["text"] and "nothing is missing" in warned[1]["text"]
    assert [r["kind"] for r in lines if r["event"] == "incident"] == ["disk"]
    assert done.stdout.count("warning: metrics.jsonl") == 2 and warned[0]["text"] in done.stdout


def test_seconds_of_results_csv_do_not_depend_on_the_clock(story, monkeypatch):
    clock = iter(range(10**6, 0, -1000))
    monkeypatch.setattr(jsonl.time, "time", lambda: float(next(clock)))
    path = record(story.run, story.events)
    write_results_csv(path, path.with_name("results.csv"))
    assert [float(r["seconds"]) for r in rows(path.with_name("results.csv"))] == [12.75, 25.5, 38.25, 51.0]
