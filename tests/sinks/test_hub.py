from __future__ import annotations

import pytest

from yolo_cosine import events
from yolo_cosine.sinks import SinkHub


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
