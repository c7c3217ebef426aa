"""The events of a run that is killed, goes back or has no room, as TensorBoard and as a reader of raw records see them."""

from __future__ import annotations

import errno
import os
import shutil

import numpy as np
import pytest
from tensorboard.backend.event_processing import plugin_event_accumulator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.writer import FileWriter

from yolo_cosine import events
from yolo_cosine.sinks import appended, event_log, tensorboard
from yolo_cosine.sinks.tensorboard import TensorBoardSink


def load(run):
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    accumulator = EventAccumulator(str(run.run_dir / "tensorboard"), size_guidance=everything)
    accumulator.Reload()
    return accumulator


def raw(run):
    """Every tag and step with its value, in the order of the files and without any purging; not what tells of a process."""
    found = []
    for path in sorted((run.run_dir / "tensorboard").glob("*tfevents*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            found += [(value.tag, event.step, value.SerializeToString()) for value in event.summary.value]
    places = [(tag, step) for tag, step, _ in found]
    assert len(set(places)) == len(places)
    return [place for place in found if not place[0].startswith(("config/", "facts/", "custom_scalars", "_hparams_/"))]


def log(run, stream):
    """Log a process's events. It is never closed: killed."""
    sink = TensorBoardSink(run.run_dir)
    for event in stream:
        sink.handle(event)
    return sink


@pytest.fixture
def quick(monkeypatch):
    """Leave out what only a power cut can tell, and draw small."""
    monkeypatch.setattr(appended.os, "fsync", lambda file: None)
    monkeypatch.setattr(tensorboard, "draw_sample", lambda *args: np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(tensorboard, "draw_pr_curves", lambda *args: np.zeros((8, 8, 3), np.uint8))


@pytest.fixture
def anew(tmp_path):
    """Forget what was logged."""
    return lambda: shutil.rmtree(tmp_path / "run/tensorboard")


def test_a_run_that_is_killed_anywhere_has_the_events_of_one_that_was_not(make_story, tmp_path, quick, anew):
    story = make_story(tmp_path, samples=1)
    log(story.run, story.events).close()
    whole = raw(story.run)
    assert {step for tag, step, _ in whole if tag == "momentum"} == set(range(20))
    for killed in range(0, len(story.events), 3):
        anew()
        for stream in story.after([killed, killed % 13 + 2]):
            sink = log(story.run, stream)
        assert raw(story.run) == whole, killed
        sink.close()
        assert raw(story.run) == whole
        assert len(list((story.run.run_dir / "tensorboard").iterdir())) == 1
        logs = load(story.run)
        assert [e.step for e in logs.Scalars("momentum")] == list(range(20))


def test_incidents_rewinds_and_new_lengths_are_texts(story, quick):
    log(story.run, story.events).close()
    told = {(tag, step): value for tag, step, value in raw(story.run) if tag.startswith("incidents")}
    expected = [
        ("incidents", 3, "worker"), ("incidents-2", 3, "memory"), ("incidents", 10, "back to step 10"),
        ("incidents-2", 10, "rewind"), ("incidents", 16, "5 epochs"),
    ]  # fmt: skip
    for tag, step, words in expected:
        assert words.encode() in told[f"{tag}/text_summary", step], (tag, step)


def test_a_file_that_was_cut_or_damaged_anywhere_is_read_as_far_as_it_is_whole(fake_run, quick, anew):
    run, ends = fake_run(), []
    sink = log(run, [run.started()])
    (path,) = (run.run_dir / "tensorboard").iterdir()
    for step in range(5):
        for event in (events.StepDone(step, 0, run.step_scalars(step), 16, True), events.Saving(step)):
            sink.handle(event)
        ends.append(path.stat().st_size)
    full, expected = path.read_bytes(), raw(run)
    for k in range(ends[2], ends[4]):
        whole = sum(end <= k for end in ends)
        for content, torn in ((full[:k], k not in ends), (full[:k] + bytes([full[k] ^ 0x55]) + full[k + 1 :], True)):
            anew()
            path.parent.mkdir()
            path.write_bytes(content)
            resumed = log(run, [run.started(start_step=5)])
            assert raw(run) == [place for place in expected if place[1] < whole]
            assert [path.name in new.text and new.incident is None for new in resumed.news] == [True] * torn


def test_files_of_earlier_processes_are_read_as_tensorboard_reads_them(fake_run):
    run = fake_run()
    for start, steps in ((0, range(8)), (5, range(5, 9))):  # as a SummaryWriter in each process left them
        writer = FileWriter(run.run_dir / "tensorboard", filename_suffix=f".{start}")
        if start:
            writer.add_event(Event(session_log=SessionLog(status=SessionLog.START)), start)
        for step in steps:
            writer.add_summary(Summary(value=[Summary.Value(tag="momentum", simple_value=start + step)]), step)
        writer.close()
    log(run, run.events(start_step=7)).close()
    expected = [0, 1, 2, 3, 4, 10, 11]
    assert [e.value for e in load(run).Scalars("momentum")][:7] == expected
    assert [step for tag, step, _ in raw(run) if tag == "momentum"] == list(range(20))


def test_a_process_that_was_killed_between_the_new_file_and_the_end_of_the_old_is_no_harm(story, monkeypatch, quick):
    log(story.run, story.events).close()
    whole = raw(story.run)
    streams = list(story.after([story.checkpoints[-1].index]))
    with monkeypatch.context() as patch:
        patch.setattr(event_log.os, "truncate", lambda path, size: None)
        log(story.run, streams[1][:3])
    assert len(list((story.run.run_dir / "tensorboard").iterdir())) == 2
    assert [e.step for e in load(story.run).Scalars("momentum")] == list(range(20))
    log(story.run, streams[1])
    assert raw(story.run) == whole


@pytest.mark.parametrize("accumulator", [EventAccumulator, plugin_event_accumulator.EventAccumulator])
def test_a_tensorboard_that_watches_comes_out_right(story, accumulator, quick):
    def steps():
        watching.Reload()
        points = watching.Tensors("momentum") if accumulator is not EventAccumulator else watching.Scalars("momentum")
        return [point.step for point in points]

    folder = story.run.run_dir / "tensorboard"
    watching = accumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    index = next(c.index for c in story.checkpoints if c.step == 8) + 9
    killed, resumed = story.after([index])
    sink = log(story.run, killed)
    sink.handle(events.Saving(0))
    assert steps() == list(range(10))
    back = next(k for k, event in enumerate(resumed) if isinstance(event, events.Rewound))
    sink = log(story.run, resumed[:3])
    assert steps() == list(range(8))
    for k, event in enumerate(resumed[3:], 3):
        sink.handle(event)
        if k == back:
            assert steps() == list(range(10))
    assert steps() == list(range(20))
    sink.close()
    assert steps() == list(range(20))
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("clock", [5.0e8, 4.0e9])
def test_new_files_come_behind_the_old_whatever_the_clock_says(story, monkeypatch, clock, quick):
    streams = list(story.after([40]))
    log(story.run, streams[0])
    before = {p.name for p in (story.run.run_dir / "tensorboard").iterdir()}
    monkeypatch.setattr(event_log.time, "time", lambda: clock)
    sink = log(story.run, streams[1])
    after = {p.name for p in (story.run.run_dir / "tensorboard").iterdir()} - before
    assert min(after) > max(before)
    sink.close()
    assert [p.name for p in (story.run.run_dir / "tensorboard").iterdir()] == [max(after)]


def test_without_room_for_a_second_copy_readers_are_told_to_forget(story, monkeypatch, quick):
    log(story.run, story.events).close()
    whole = raw(story.run)
    shutil.rmtree(story.run.run_dir / "tensorboard")

    def refuse(path, parts):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    index = next(c.index for c in story.checkpoints if c.step == 17)
    killed, resumed = story.after([index])
    with monkeypatch.context() as patch:
        patch.setattr(appended, "replace_file", refuse)  # for the rewind
        patch.setattr(event_log, "replace_file", refuse)  # for the start
        sink = log(story.run, killed)
    sink.close()
    assert [e.step for e in load(story.run).Scalars("momentum")] == list(range(17))
    log(story.run, resumed).close()
    assert raw(story.run) == whole


def test_a_disk_that_is_full_for_a_while_costs_no_event(story, monkeypatch, quick):
    log(story.run, story.events).close()
    whole = raw(story.run)
    shutil.rmtree(story.run.run_dir / "tensorboard")
    write, full = os.write, [False]

    def limited(file, data):
        if not full[0]:
            return write(file, data)
        if len(data) > 50:
            return write(file, data[:50])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(appended.os, "write", limited)
    sink, news = TensorBoardSink(story.run.run_dir), []
    for k, event in enumerate(story.events):
        full[0] = 12 < k < 40
        sink.handle(event)
        news += sink.news
        sink.news.clear()
        if full[0]:
            assert len(raw(story.run)) < len(whole)  # and whole records they are
    sink.close()
    assert [new.incident for new in news] == ["disk", None]
    assert raw(story.run) == whole


def test_events_are_on_file_some_seconds_later(fake_run, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(event_log.time, "monotonic", lambda: now[0])
    run = fake_run()
    sink = log(run, [run.started()])
    for step in range(4):
        sink.handle(events.StepDone(step, 0, run.step_scalars(step), 16, True))
        assert {step for _, step, _ in raw(run)} == (set() if step < 2 else {0, 1, 2})
        now[0] += 3.0
    sink.close()
    assert {step for _, step, _ in raw(run)} == {0, 1, 2, 3}
