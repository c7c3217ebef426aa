from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from yolo_cosine import events
from yolo_cosine.sinks import SinkHub, appended, jsonl
from yolo_cosine.sinks.appended import News


class Recorder:
    def __init__(self):
        self.seen, self.closed = [], 0

    def handle(self, event):
        self.seen.append(event)

    def close(self):
        self.closed += 1


class Broken(Recorder):
    """Works until the event `breaks_at` (counted from 0)."""

    def __init__(self, breaks_at=0, error=None, close_error=None):
        super().__init__()
        self.breaks_at, self.error, self.close_error = breaks_at, error or OSError("disk is full"), close_error

    def handle(self, event):
        if len(self.seen) == self.breaks_at:
            raise self.error
        super().handle(event)

    def close(self):
        super().close()
        if self.close_error:
            raise self.close_error


def step(k):
    return events.StepDone(k, 0, {"momentum": 0.9}, 16, True)


def notices(sink):
    return [e for e in sink.seen if isinstance(e, events.Notice)]


def test_every_sink_gets_every_event_in_order():
    first, second = Recorder(), Recorder()
    hub = SinkHub([("first", first)])
    hub.add("second", second)
    for k in range(3):
        hub.emit(step(k))
    assert first.seen == second.seen == [step(0), step(1), step(2)]


@pytest.mark.parametrize("order", ["broken first", "broken last"])
def test_a_sink_that_fails_is_switched_off_with_one_warning(order):
    good, broken = Recorder(), Broken(breaks_at=1)
    sinks = [("good", good), ("tensorboard", broken)]
    hub = SinkHub(sinks if order == "broken last" else sinks[::-1])
    for k in range(4):
        hub.emit(step(k))
    hub.close()
    assert [e for e in good.seen if isinstance(e, events.StepDone)] == [step(k) for k in range(4)]
    (notice,) = notices(good)
    assert notice.warning and notice.step == 1
    assert "tensorboard" in notice.text and "disk is full" in notice.text
    assert broken.seen == [step(0)] and broken.closed == 1


def test_sinks_that_fail_one_after_the_other_over_the_same_event():
    good, one = Recorder(), Broken()
    # fails only over the warning about the other
    two = Broken(breaks_at=1, close_error=RuntimeError("and cannot be closed"))
    hub = SinkHub([("one", one), ("two", two), ("good", good)])
    hub.emit(step(0))
    hub.emit(step(1))
    assert [n.text.split()[0] for n in notices(good)] == ["one", "two"]
    assert good.seen[0] == step(0) and good.seen[-1] == step(1)


def test_the_last_sink_may_fail_too():
    hub = SinkHub([("only", Broken())])
    hub.emit(step(0))
    hub.emit(step(1))
    hub.close()


def test_the_users_interrupt_is_not_held_up():
    hub = SinkHub([("console", Broken(error=KeyboardInterrupt()))])
    with pytest.raises(KeyboardInterrupt):
        hub.emit(step(0))


def test_close_closes_all_and_tells_of_failures():
    first, broken = Recorder(), Broken(breaks_at=9, close_error=OSError("gone"))
    hub = SinkHub([("console", first), ("metrics.jsonl", broken)])
    hub.close()
    hub.close()
    assert first.closed == broken.closed == 1
    assert "metrics.jsonl" in notices(first)[0].text and "gone" in notices(first)[0].text


def started():
    return events.RunStarted(Path("run"), {}, (), (), (), 1, 10, 1, {}, start_step=3)


def told(sink):
    """Notices and incidents: what they are, how they begin, their step."""
    return [
        (getattr(e, "kind", "notice"), e.text.split(":")[0], e.step)
        for e in sink.seen
        if isinstance(e, events.Notice | events.Incident)
    ]


def test_a_sink_that_is_switched_off_is_an_incident_for_the_others():
    good = Recorder()
    hub = SinkHub([("good", good), ("tensorboard", Broken(breaks_at=2))])
    for event in (started(), step(3), step(4), step(5)):
        hub.emit(event)
    switched_off = "tensorboard is switched off for the rest of the run"
    assert told(good) == [("notice", switched_off, 4), ("sink", switched_off, 4)]


def test_what_a_sink_tells_of_itself_is_passed_on_to_all():
    first, second = Recorder(), Recorder()
    second.news = [News("cannot be written", "disk")]  # known before the run starts: there is no step to tell it at
    hub = SinkHub([("console", first)])
    hub.emit(events.Notice("before"))
    hub.add("metrics.jsonl", second)
    hub.emit(events.Notice("at first"))
    assert [e.text for e in first.seen] == ["before", "at first"]
    hub.emit(started())
    hub.emit(step(3))
    second.news.append(News("can be written again"))
    hub.emit(step(4))
    assert told(first)[2:] == told(second)[2:] == [
        ("notice", "metrics.jsonl", 3), ("disk", "metrics.jsonl", 3), ("notice", "metrics.jsonl", 4),
    ]  # fmt: skip
    assert all(notice.warning for notice in notices(first)[2:]) and second.news == []
    second.news.append(News("only at the end"))
    hub.close()
    assert first.seen[-1].text == "metrics.jsonl: only at the end"


def test_a_record_for_which_there_is_no_room_for_long_is_switched_off_and_the_run_goes_on(tmp_path, monkeypatch):
    def full(file, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(jsonl, "AppendedFile", partial(appended.AppendedFile, most=2000))
    monkeypatch.setattr(appended.os, "write", full)
    good = Recorder()
    hub = SinkHub([("good", good), ("metrics.jsonl", jsonl.JsonlSink(tmp_path / "metrics.jsonl"))])
    for event in (started(), *map(step, range(3, 40))):
        hub.emit(event)
    hub.close()
    first, _, second, third = told(good)
    assert first == ("notice", "metrics.jsonl", 3) and third[0] == "sink"
    assert second[:2] == ("notice", "metrics.jsonl is switched off for the rest of the run") and second[2] > 10
    assert good.seen[-1] == step(39)


def test_what_could_not_be_written_until_the_end_is_told(tmp_path, monkeypatch):
    def full(file, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    good = Recorder()
    hub = SinkHub([("good", good), ("metrics.jsonl", jsonl.JsonlSink(tmp_path / "metrics.jsonl"))])
    hub.emit(started())
    monkeypatch.setattr(appended.os, "write", full)
    hub.emit(step(3))
    hub.close()
    assert "metrics.jsonl could not be closed; its end may be missing: OSError: No space" in notices(good)[-1].text
    assert "bytes are lost" in notices(good)[-1].text
