"""Batches that processes have in common: made once, the same for all, whatever becomes of who makes them."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from yolo_cosine.config.schema import AugmentConfig
from yolo_cosine.data import shared_batches
from yolo_cosine.data.dataset import open_dataset
from yolo_cosine.data.index import trainable_boxes
from yolo_cosine.data.loader import TrainLoader
from yolo_cosine.data.shared_batches import SharedBatches, digest, make_folder
from yolo_cosine.engine.inputs import share_batches


def batch(k=0, size=10):
    return {"images": np.full((size, 3), k, np.uint8), "boxes": np.arange(4.0), "none": np.empty((0, 4), np.float32)}


def never():
    raise AssertionError("it was there")


def same(a, b):
    return list(a) == list(b) and all(np.array_equal(a[k], b[k]) and a[k].dtype == b[k].dtype for k in a)


def test_a_batch_is_made_once_and_read_as_it_was(tmp_path):
    one, other = SharedBatches(tmp_path, "a"), SharedBatches(tmp_path, "a")
    made = one.get("0-0", batch)
    found = other.get("0-0", never)
    assert same(made, found) and found["images"].flags.writeable


def test_another_name_or_key_is_another_batch(tmp_path):
    SharedBatches(tmp_path, "a").get("0-0", batch)
    for name, key in (("b", "0-0"), ("a", "0-16"), ("a", "1-0")):
        assert same(SharedBatches(tmp_path, name).get(key, lambda: batch(7)), batch(7))


def test_who_comes_while_it_is_made_waits(tmp_path):
    begun = threading.Event()

    def slow():
        begun.set()
        time.sleep(0.2)
        return batch(3)

    maker = threading.Thread(target=lambda: SharedBatches(tmp_path, "a").get("k", slow))
    maker.start()
    begun.wait()
    assert same(SharedBatches(tmp_path, "a").get("k", never), batch(3))
    maker.join()


def test_one_whose_maker_is_gone_or_slow_is_made_by_who_needs_it(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=os.getpid)
    process.start()
    process.join()
    (tmp_path / "a-k.claim").write_text(str(process.pid))
    assert same(SharedBatches(tmp_path, "a").get("k", batch), batch())
    (tmp_path / "a-j.claim").write_text(str(os.getpid()))  # alive, and makes nothing
    began = time.monotonic()
    assert same(SharedBatches(tmp_path, "a", patience=0.1).get("j", batch), batch())
    assert 0.1 <= time.monotonic() - began < 5


def test_the_oldest_make_room(tmp_path):
    shared = SharedBatches(tmp_path, "a", most=5000)
    for k in range(10):
        shared.get(str(k), lambda k=k: batch(k, 300))
        os.utime(tmp_path / f"a-{k}.batch", ns=(k, k))
    left = sorted(path.name for path in tmp_path.glob("*.batch"))
    assert 1 <= len(left) < 10 and left == [f"a-{k}.batch" for k in range(10 - len(left), 10)]
    assert sum(path.stat().st_size for path in tmp_path.glob("*.batch")) <= 5000 + 1000
    assert same(shared.get("0", lambda: batch(0, 300)), batch(0, 300))  # again


def test_a_folder_that_is_gone_or_full_hurts_nobody(tmp_path, monkeypatch):
    shared = SharedBatches(tmp_path / "gone", "a")
    assert same(shared.get("k", batch), batch())

    def full(*arguments, **keys):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    shared = SharedBatches(tmp_path, "a")
    assert same(shared.get("k", batch), batch()) and list(tmp_path.iterdir()) == []


def test_a_torn_file_is_not_believed(tmp_path):
    shared = SharedBatches(tmp_path, "a", patience=0.05)
    shared.get("k", batch)
    path = tmp_path / "a-k.batch"
    path.write_bytes(path.read_bytes()[:-3])
    assert same(shared.get("k", lambda: batch(9)), batch(9))


def test_a_name_tells_what_batches_depend_on():
    facts = {"seed": 0, "data": {"images": "3 images (ab)"}, "augment": {"mosaic": 1.0}}
    names = {digest(**facts), digest(**{**facts, "seed": 1}), digest(**{**facts, "augment": {"mosaic": 0.5}})}
    assert len(names) == 3 and digest(**dict(reversed(facts.items()))) == digest(**facts)


def test_what_killed_processes_left_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_batches, "_MEMORY", tmp_path)
    process = multiprocessing.get_context("spawn").Process(target=os.getpid)
    process.start()
    process.join()
    (tmp_path / f"yolo-cosine-{process.pid}-x").mkdir()
    (tmp_path / "else").mkdir()
    made = make_folder()
    assert made is not None and {p.name for p in tmp_path.iterdir()} == {"else", made.name}
    monkeypatch.setattr(shared_batches, "_LEAST", 2**60)
    assert make_folder() is None


def test_without_a_place_in_memory_nothing_is_shared(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_batches, "_MEMORY", tmp_path / "none")
    assert make_folder() is None


def test_a_claim_without_a_name_is_not_waited_for(tmp_path):
    """As of a process that was killed, or found the memory full, before it said who it is."""
    claim = tmp_path / "a-k.claim"
    claim.touch()
    os.utime(claim, (time.time() - 5,) * 2)
    begun = time.monotonic()
    assert same(SharedBatches(tmp_path, "a").get("k", batch), batch())
    assert time.monotonic() - begun < 5


def test_a_claim_that_cannot_be_written_is_none(tmp_path, monkeypatch):
    def full(descriptor, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shared_batches.os, "write", full)
        assert same(SharedBatches(tmp_path, "a").get("k", batch), batch())
    assert list(tmp_path.iterdir()) == []


def test_images_of_another_folder_are_other_batches(tmp_path, small_shapes):
    """Their names, lengths and boxes may be the same, as of grey copies without compression."""
    index = open_dataset(str(small_shapes)).splits["train"]
    names = set()
    for root in (index.root, index.root, tmp_path):
        store = SimpleNamespace(index=replace(index, root=root), size=64)
        loader = TrainLoader(store, trainable_boxes(index), AugmentConfig(), batch=8, seed=0, workers=1)
        share_batches(loader, tmp_path, {"images": "the same"})
        names.add(loader.shared.name)
    assert len(names) == 2


def test_other_augmentation_makes_other_batches(tmp_path, small_shapes):
    index = open_dataset(str(small_shapes)).splits["train"]
    store, names = SimpleNamespace(index=index, size=64), []
    for key, field in AugmentConfig.model_fields.items():
        for config in (AugmentConfig(), AugmentConfig(**{key: type(field.default)(field.default / 2 or 0.001)})):
            loader = TrainLoader(store, trainable_boxes(index), config, batch=8, seed=0, workers=1)
            share_batches(loader, tmp_path, {"images": "the same"})
            names.append(loader.shared.name)
    assert len(set(names)) == 1 + len(AugmentConfig.model_fields)
