"""Values on their way from a GPU: which stream is waited for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from yolo_cosine.engine.precision import resolve_device
from yolo_cosine.model.to_host import to_host


class Copy:
    """Memory of the host that a copy to is on its way until the stream of its device is waited for."""

    def __init__(self):
        self.arrived = False

    def copy_(self, value, non_blocking):
        assert non_blocking
        STREAMS[value.device].append(self)
        return self


STREAMS = {torch.device(name): [] for name in ("cuda:0", "cuda:1")}


class Stream:
    def __init__(self, device):
        self.device = device

    def record_event(self):
        before = list(STREAMS[self.device])
        return SimpleNamespace(synchronize=lambda: [setattr(copy, "arrived", True) for copy in before])


@pytest.mark.parametrize("device", STREAMS, ids=str)
def test_the_stream_that_copies_is_waited_for_whatever_the_current_device_is(monkeypatch, device):
    current = torch.device("cuda:0")
    monkeypatch.setattr(torch, "empty", lambda shape, dtype, pin_memory: Copy() if pin_memory else None)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=current: Stream(device))
    monkeypatch.setattr(torch.cuda, "Event", lambda: SimpleNamespace(record=None))  # would be the current device's
    wait = to_host(*(SimpleNamespace(device=device, shape=(k,), dtype=torch.float32) for k in (1, 2)))
    copies = STREAMS[device][-2:]
    assert not any(copy.arrived for copy in copies)
    assert wait() == tuple(copies) and all(copy.arrived for copy in copies)


@pytest.mark.parametrize(("name", "expected"), [("cuda:1", 1), ("1", 1), ("cuda", 0), ("auto", 0), ("cpu", None)])
def test_the_device_of_a_run_becomes_the_current_one(monkeypatch, name, expected):
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    device = resolve_device(name)
    assert device.index == expected and current == ([device] if expected is not None else [])
