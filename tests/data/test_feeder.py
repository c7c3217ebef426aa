"""Batches that are fed to a device: the same whatever is kept where, made ahead of their turn, and in the order of streams."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from yolo_cosine.config.schema import AugmentConfig
from yolo_cosine.data import packing
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.feeder import Feeder
from yolo_cosine.data.index import trainable_boxes
from yolo_cosine.data.loader import TrainLoader
from yolo_cosine.data.parcel import Parcel, may_wait
from yolo_cosine.data.resident import make_resident, room_on
from yolo_cosine.errors import UserError

CPU, S = torch.device("cpu"), 64


def trained_on(index, cache="ram", workers=1, resident=False):
    """An epoch, and one without mosaic."""
    store, labels = ImageStore(index, S, cache, 2), trainable_boxes(index)
    there = make_resident(store, CPU, 10**9) if resident else None
    assert (there is not None) == (resident and cache == "ram")
    feeder = Feeder(store, labels, CPU, there)
    loader = TrainLoader(store, labels, AugmentConfig(), batch=4, seed=3, workers=workers, feeder=feeder)
    return [batch for epoch in range(2) for batch in loader.epoch(epoch, mosaic=epoch < 1)]


def same(a, b):
    tensors = [(a.images, b.images), *zip(vars(a.targets).values(), vars(b.targets).values(), strict=True)]
    return all(torch.equal(*pair) for pair in tensors) and (a.indices == b.indices).all()


@pytest.mark.parametrize(
    "spoilt", [{}, {3: b"no image", 4: None, 7: b"", 10: b"\x89PNG cut off"}], ids=["whole", "spoilt"]
)
def test_what_is_kept_where_and_threads_do_not_change_what_is_trained_on(index, spoilt):
    """An image that cannot be read is stood in for by the next, as if the data set had that one and its boxes twice."""
    stand_ins = np.array([0, 1, 2, 5, 5, 5, 6, 8, 8, 9, 0]) if spoilt else np.arange(11)
    expected = trained_on(index.subset(stand_ins))
    assert len(expected) == 6 and sum(int(b.targets.valid.sum()) for b in expected) > 20
    for i, content in spoilt.items():
        index.path(i).write_bytes(content) if content is not None else index.path(i).unlink()
    for options in ({}, {"cache": "none", "workers": 3}, {"resident": True}, {"cache": "none", "resident": True}):
        got = trained_on(index, **options)
        assert len(got) == 6 and all(map(same, expected, got)), options


def test_no_readable_image_is_a_mistake(index):
    for i in range(11):
        index.path(i).unlink()
    for resident in (False, True):
        with pytest.raises(UserError, match=r"none of the 11 images can be read"):
            trained_on(index, resident=resident)


def test_images_are_kept_on_a_device_only_where_there_is_room(index):
    store = ImageStore(index, S, "ram", 2)
    pixels = sum(store[i].shape[0] * store[i].shape[1] for i in range(11))
    assert make_resident(store, CPU, 3 * pixels) is None  # a pixel of grey is needed, too
    resident = make_resident(store, CPU, 3 * pixels + 3)
    for i in range(11):
        width, height = resident.sizes[i]
        start = int(resident.first[i])
        np.testing.assert_array_equal(resident.pixels[start : start + width * height].view(height, width, 3), store[i])


def test_a_quarter_of_what_is_free_is_room_for_images(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4003, 9000))
    monkeypatch.setattr("yolo_cosine.data.resident.free_memory", lambda: 400)
    assert room_on(torch.device("cuda:1")) == 1000 and room_on(CPU) == 100


def test_images_are_copied_to_a_device_by_the_handful(index, monkeypatch):
    store = ImageStore(index, S, "ram", 2)
    whole = make_resident(store, CPU, 10**9).pixels
    for most in (1, 20_000):
        monkeypatch.setattr("yolo_cosine.data.resident._AT_ONCE", most)
        assert torch.equal(make_resident(store, CPU, 10**9).pixels, whole)


SHAPES = st.lists(
    st.tuples(st.sampled_from([np.uint8, bool, np.int32, np.int64, np.float32]), st.lists(st.integers(0, 4), max_size=3)),
    max_size=6,
)  # fmt: skip


@given(SHAPES)
def test_arrays_come_out_of_a_parcel_as_they_went_in(shapes):
    rng = np.random.default_rng(0)
    arrays = {str(k): rng.integers(0, 100, shape).astype(kind) for k, (kind, shape) in enumerate(shapes)}
    parcel = Parcel({name: (array.dtype, array.shape) for name, array in arrays.items()})
    for name, array in arrays.items():
        parcel.arrays[name][...] = array
    found = parcel.open(parcel.buffer.clone())
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].numpy(), array)
        assert found[name].numpy().dtype == array.dtype


MIB, GIB = 2**20, 2**30


@pytest.mark.parametrize(
    ("free", "workers", "size", "expected"),
    [
        (4, 4, MIB, 8),  # small ones: two for each thread, as everywhere
        (4, 16, 100 * MIB, 8),  # 128 MiB each, for PyTorch rounds up, in one GiB
        (4, 16, 128 * MIB, 8),
        (4, 16, 129 * MIB, 4),
        (64, 16, 129 * MIB, 16),  # four GiB of a large machine
        (1, 16, 3 * GIB, 2),  # one to be sent, and the next
        (1, 1, 0, 2),
    ],
)
def test_pinned_memory_is_bounded(monkeypatch, free, workers, size, expected):
    monkeypatch.setattr("yolo_cosine.data.parcel.free_memory", lambda: free * GIB)
    assert may_wait(workers, size) == expected


@pytest.mark.parametrize(
    ("ranks", "mixup", "resident", "expected"),
    [(1, 0, False, 4), (1, 0.1, False, 2), (2, 0.1, False, 4), (1, 0, True, 6)],
)
def test_batches_wait_by_what_is_in_them(index, monkeypatch, ranks, mixup, resident, expected):
    """A batch of 4 shows some 2 * 4 * 3 * 64**2 bytes of photographs, or 128 KiB when they are pinned."""
    asked = []
    monkeypatch.setattr(
        "yolo_cosine.data.loader.ahead", lambda *args, waiting, **keys: asked.append(waiting) or iter(())
    )
    monkeypatch.setattr("yolo_cosine.data.parcel.free_memory", lambda: 0)
    monkeypatch.setattr("yolo_cosine.data.parcel._PINNED", 2**19)
    store, labels = ImageStore(index, S, "ram", 2), trainable_boxes(index)
    feeder = Feeder(store, labels, CPU, make_resident(store, CPU, 10**9) if resident else None)
    feeder.feed = list
    augment = AugmentConfig(mixup=mixup)
    list(TrainLoader(store, labels, augment, batch=4, seed=3, workers=3, ranks=ranks, feeder=feeder).epoch(0))
    assert asked == [expected]


class Stream:
    """A stream that writes down what it is asked for."""

    def __init__(self, name, log):
        self.name, self.log, self.events = name, log, 0

    def record_event(self):
        self.events += 1
        self.log.append(f"{self.name} records {self.events}")
        return self.events

    def wait_event(self, event):
        self.log.append(f"{self.name} waits for {event}")


def test_a_batch_is_made_beside_the_one_before_and_waited_for_by_the_stream_alone(index, monkeypatch):
    """The order of events is all that keeps a GPU from training on half a batch, or writing over one in use."""
    log = []
    side, main = Stream("side", log), Stream("main", log)

    @contextlib.contextmanager
    def on(stream):
        log.append(f"{stream.name} begins")
        yield
        log.append(f"{stream.name} ends")

    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(
        torch.Tensor, "record_stream", lambda tensor, stream: log.append(f"{stream.name} has {tensor.nbytes}")
    )
    pinned = []
    monkeypatch.setattr(packing, "Parcel", lambda contents, pin: pinned.append(pin) or Parcel(contents))
    store, labels = ImageStore(index, S, "ram", 2), trainable_boxes(index)
    feeder = Feeder(store, labels, CPU)
    feeder._stream = side
    loader = TrainLoader(store, labels, AugmentConfig(), batch=4, seed=3, workers=1, feeder=feeder)
    sizes = []
    for k, batch in enumerate(loader.epoch(0), 1):
        log.append(f"step {k}")
        sizes.append(batch.images.nbytes)
    assert side.events == 3
    assert pinned == [True] * 3  # or the host would wait for each copy
    made = [["side begins", f"side records {k}", "side ends"] for k in (1, 2, 3)]
    taken = [[f"main waits for {k}", f"main has {sizes[k - 1]}"] for k in (1, 2, 3)]
    said = [line for line in log if not line.startswith("main has") or int(line.split()[-1]) in sizes]
    assert said == [
        *made[0], *made[1], *taken[0], "step 1", *made[2], *taken[1], "step 2", *taken[2], "step 3",
    ]  # fmt: skip
    assert sum(line.startswith("main has") for line in log) == 6  # images, and the buffer of all else


def test_an_epoch_can_be_left_early(index):
    store, labels = ImageStore(index, S, "ram", 2), trainable_boxes(index)
    feeder, closed = Feeder(store, labels, CPU), []

    def packed():
        try:
            while True:
                yield "a batch"
        finally:
            closed.append(True)

    feeder._send = lambda packed: (packed, None, None)
    batches = feeder.feed(packed())
    assert next(batches) == "a batch" and not closed
    batches.close()
    assert closed == [True]
