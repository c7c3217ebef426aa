"""A process that is gone or late is noticed by the others, also if it says nothing."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import torch.distributed as dist

from yolo_cosine.engine import distributed, watch
from yolo_cosine.engine.distributed import ended_by_others
from yolo_cosine.engine.launch import Launch
from yolo_cosine.engine.watch import Pulse, Watch


def beats(pulses, count):
    """What each pulse says at the last of so many beats."""
    for _ in range(count):
        said = [pulse.beat() for pulse in pulses]
    return said


def test_one_that_beats_no_more_is_told_by_the_one_before_it():
    store = dist.HashStore()
    pulses = [Pulse(store, rank, 3) for rank in range(3)]
    assert beats(pulses, 3 * Pulse._MOST) == [None] * 3
    assert beats(pulses[:2], Pulse._MOST) == [None] * 2  # its last one is heard at the first of these
    first, second = beats(pulses[:2], 1)
    assert first is None and second.startswith("rank 2 on ") and "is gone without a word, as after a kill" in second


def test_one_that_never_came_or_has_left_in_good_order():
    store = dist.HashStore()
    first, second = (Pulse(store, rank, 2) for rank in range(2))
    assert beats([first], Pulse._MOST - 1) == [None]
    assert beats([first], 1)[0].startswith("rank 1 is gone")
    beats([first, second], 1)
    second.leave()
    assert beats([first], 3 * Pulse._MOST) == [None]


def test_a_store_that_is_gone():
    class Gone:
        def set(self, key, value):
            raise RuntimeError("Broken pipe")

    (said,) = beats([Pulse(Gone(), 0, 2)], Pulse._MOST)
    assert said.startswith("the store that all meet at") and "is gone" in said


def test_a_silent_one_ends_the_process(monkeypatch, capsys):
    store, ended = dist.HashStore(), threading.Event()

    def end(code):
        watching.stop()
        ended.set()

    monkeypatch.setattr(watch.dist, "TCPStore", lambda *arguments, **keys: store)
    monkeypatch.setattr(watch.os, "_exit", end)
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setattr(Watch, "_EVERY", 0.002)
    monkeypatch.setattr(Watch, "_GRACE", 0.002)
    watching = Watch(Launch(0, 2, 0, store))
    assert ended.wait(20)
    assert "error: another process of the run failed: rank 1 is gone without a word" in capsys.readouterr().err
    assert dist.PrefixStore("yolo-cosine-watch-0", store).get("failed").startswith(b"rank 1 is gone")


class Told:
    """A watch that has heard this."""

    def __init__(self, text=None):
        self.text = text

    def wait(self):
        return self.text


CLOSED = "[pair.cc:534] Connection closed by peer [10.0.0.1]:80"
REMOTE = (
    "NCCL error in: x.cpp:1, remote process exited or there was a network error\nLast error:\nsocketProgress: closed"
)
DUPLICATE = "NCCL error in: x.cpp:1, invalid usage\nLast error:\nDuplicate GPU detected : rank 1 and rank 0"


@pytest.mark.parametrize("text", [CLOSED, REMOTE])
def test_one_that_is_gone(text):
    assert ended_by_others(RuntimeError(text), Told("rank 1: no")) == "another process of the run failed: rank 1: no"
    said = ended_by_others(RuntimeError(text), Told())
    assert "one is gone without a word" in said and said.endswith(text)  # all of it, for it may be another reason


def test_an_error_of_its_own_stays_one():
    for text in (DUPLICATE, "size mismatch"):
        assert ended_by_others(RuntimeError(text), Told("rank 1 failed, too")) is None


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("[unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation to complete", "within 30 minutes"),
        ("[pair.cc:554] Application timeout caused pair closure", "in time"),
        ("Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7)", "in time"),
    ],
)
def test_one_that_is_late(text, within):
    said = ended_by_others(RuntimeError(text), Told())
    assert f"another process of the run did not come {within}; see" in said
    assert "set worker_timeout higher" in said and said.endswith(text)
    assert ended_by_others(RuntimeError(text), Told("rank 1: no")) == "another process of the run failed: rank 1: no"


def test_collectives_wait_for_longer_than_a_batch_may_take(monkeypatch):
    asked = {}
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda *_, timeout, **keys: asked.update(own=timeout))
    monkeypatch.setattr(distributed.dist, "new_group", lambda backend, timeout: asked.update(side=timeout))
    monkeypatch.setattr(distributed, "Watch", lambda launch: None)
    for worker_timeout, minutes in ((1.0, 30), (300.0, 30), (1200.0, 60), (1e300, 7 * 24 * 60)):
        launch = Launch(0, 2, 0, dist.HashStore())
        distributed.join_world(launch, distributed.torch.device("cpu"), True, worker_timeout)
        assert asked["own"] == timedelta(minutes=minutes) and asked["side"] == 4 * asked["own"]
