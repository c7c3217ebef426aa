"""How many threads make batches, and where decoded images are kept."""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from yolo_cosine import events
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.index import Category, build_index
from yolo_cosine.engine import inputs
from yolo_cosine.engine.inputs import open_store, resolve_workers

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


GB = 10**9


@pytest.fixture
def index(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((8, 8, 3), np.uint8))
    return build_index("test", tmp_path, [(0, "0.png", 8, 8)], [], (Category(1, "a"),))


@pytest.fixture
def told(index, tmp_path, monkeypatch):
    """A function that opens a store with so much free, in GB, and gives how images are kept and what was told."""
    monkeypatch.setattr(inputs, "decoded_bytes", lambda index, size: 10 * GB)
    asked = []

    def store(index, size, cache, *args, **keys):
        asked.append(cache)
        return ImageStore(index, size, "none", *args, **keys)

    monkeypatch.setattr(inputs, "ImageStore", store)

    def told(memory, disk, brief=False, **keys):
        monkeypatch.setattr(inputs, "free_memory", lambda: memory * GB)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=disk * GB))
        notices = []
        config = RunConfig(runs=str(tmp_path / "not/there"), **keys)
        open_store(index, config, 64, lambda *said: notices.append(said), fate="", brief=brief)
        return asked.pop(), notices

    return told


def test_it_is_shown_how_far_the_reading_is(index, monkeypatch):
    """Some times a second, and at its end."""
    now = [0.0]
    monkeypatch.setattr(inputs, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def store(index, size, cache, workers, progress, **keys):
        for done, now[0] in enumerate((5.0, 5.04, 5.08, 5.2, 5.21), 1):
            progress(done, 5)
        return ImageStore(index, size, "none", workers, **keys)

    monkeypatch.setattr(inputs, "ImageStore", store)
    seen = []
    open_store(index, RunConfig(cache="ram"), 64, lambda *said: None, fate="", show=seen.append)
    assert seen == [events.Reading("test", done, 5, "memory") for done in (1, 4, 5)]


def test_images_are_kept_in_memory_else_on_the_disk_and_it_is_said_why(told, tmp_path, monkeypatch):
    assert told(21, 0) == ("ram", [])
    assert told(21, 0, cache_dir=str(tmp_path)) == ("disk", [])
    for keys in ({}, {"cache_dir": str(tmp_path)}):
        cache, ((text, warning),) = told(19, 21, **keys)
        assert (
            cache == "disk"
            and not warning
            and "need 10 GB, more than half of the memory's free 19 GB; they are kept" in text
        )
    cache, ((text, warning),) = told(19, 18)
    assert (
        cache == "none" and warning and "half of the memory's free 19 GB and of the free 18 GB of the disk of" in text
    )
    assert "write a smaller imgsz, or a cache_dir where there is room" in text
    for cache in ("ram", "disk", "none"):  # who says it knows it
        assert told(0, 0, cache=cache) == (cache, [])


def test_what_is_kept_is_used_and_what_is_begun_waited_for(told, index, tmp_path):
    """Also where the file itself has filled the disk, or is about to."""
    folder = tmp_path / "kept"
    ImageStore(index, 64, "disk", 1, folder=folder)
    for brief in (False, True):
        assert told(0, 0, brief, cache_dir=str(folder))[0] == "disk"
    (file,) = folder.glob("*.images")
    file.rename(file.with_suffix(".0123.unfinished"))
    assert told(0, 0, cache_dir=str(folder))[0] == "disk"


def test_no_file_is_written_for_a_look(told):
    assert told(19, 1000, brief=True) == ("none", [])
    assert told(21, 1000, brief=True) == ("ram", [])


def test_of_several_processes_all_use_the_file(told, monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert told(6, 0) == ("disk", [])  # each may fill a quarter
    assert told(4, 21)[0] == "disk" and told(4, 0)[0] == "none"
