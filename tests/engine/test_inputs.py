"""How many threads make batches, and where decoded images are kept."""

from __future__ import annotations

import os

import pytest
import torch

from yolo_cosine.engine.inputs import resolve_workers

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("workers", "device", "processes", "expected"),
    [("auto", GPU, 1, 6), ("auto", GPU, 2, 3), ("auto", GPU, 8, 1), ("auto", CPU, 1, 1), (9, GPU, 2, 9)],
)
def test_threads_are_as_many_as_the_cores_that_may_be_used(monkeypatch, workers, device, processes, expected):
    """A container's six cores of a machine with many: more threads would be in each other's way."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert resolve_workers(workers, device) == expected
