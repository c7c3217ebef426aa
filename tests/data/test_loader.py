from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter

import numpy as np
import pytest
import torch

from yolo_cosine.config.schema import AugmentConfig
from yolo_cosine.data.cache import ImageStore, read_image
from yolo_cosine.data.image_files import image_size
from yolo_cosine.data.index import Category, build_index, trainable_boxes
from yolo_cosine.data.loader import TrainLoader, eval_batches
from yolo_cosine.errors import TrainingFailed, UserError

CATEGORIES = (Category(1, "a"), Category(5, "b"))
CONFIG = AugmentConfig()


def loader(index, workers=1, cache="ram", config=CONFIG, **more):
    store = ImageStore(index, 64, cache, 2)
    return TrainLoader(store, trainable_boxes(index), config, batch=4, seed=3, workers=workers, **more)


def same(a, b):
    one, other = ({**vars(batch), **vars(batch.targets), "targets": None} for batch in (a, b))
    return all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(params=[True, False], ids=["kernel", "OpenCV"])
def kernel(request, monkeypatch):
    """Whether the images are made in C, where that can be compiled, or by OpenCV."""
    if not request.param:
        monkeypatch.setattr("yolo_cosine.data.loader.can_augment", lambda: False)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    ("workers", "cache", "between"),
    [(1, "none", 0), (3, "ram", 0), (8, "none", 0), (1, "ram", 1), (1, "ram", 3), (1, "ram", 9)],
)
def test_workers_and_cache_do_not_change_what_is_trained_on(index, workers, cache, between):
    expected, got = list(loader(index).epoch(2)), list(loader(index, workers, cache, between=between).epoch(2))
    assert len(expected) == len(got) == 3
    assert all(same(a, b) for a, b in zip(expected, got, strict=True))


def test_batches_hold_what_they_say(index):
    batches = list(loader(index).epoch(0))
    assert [len(b.indices) for b in batches] == [4, 4, 3]
    assert sorted(np.concatenate([b.indices for b in batches])) == list(range(11))
    for batch in batches:
        assert batch.images.shape == (len(batch.indices), 3, 64, 64) and batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert (
            batch.targets.boxes.shape == (*batch.targets.valid.shape, 4) and batch.targets.boxes.dtype == torch.float32
        )
        assert len(batch.targets.boxes) == len(batch.targets.crowds) == len(batch.indices)
    assert sum(int(b.targets.crowd_valid.sum()) for b in batches) > 0


@pytest.mark.parametrize(
    ("batch", "ranks", "left"), [(4, 2, 0), (4, 4, 3), (10, 1, 0), (10, 2, 1), (11, 11, 0), (8, 4, 3)]
)
def test_a_last_batch_of_fewer_images_than_ranks_is_left_out_and_told(index, batch, ranks, left):
    store, labels = ImageStore(index, 64, "ram", 2), trainable_boxes(index)
    of = [
        TrainLoader(store, labels, CONFIG, batch=batch, seed=3, workers=1, rank=rank, ranks=ranks)
        for rank in range(ranks)
    ]
    seen = {int(i) for train in of for made in train.epoch(0) for i in made.indices}
    assert len(seen) == 11 - left
    for train in of:
        said = train.left_out()
        assert f"leave {left} for the last one, fewer than the {ranks} processes" in said if left else said is None


def test_ranks_share_every_batch(index):
    whole = list(loader(index).epoch(1))
    halves = [list(loader(index, rank=r, ranks=2).epoch(1)) for r in range(2)]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert sorted(batch.indices) == sorted([*first.indices, *second.indices])
        for k, i in enumerate(first.indices):
            assert torch.equal(first.images[k], batch.images[batch.indices.tolist().index(i)])


def test_sizes_and_mixed_in_images_do_not_depend_on_ranks_workers_or_where_an_epoch_is_taken_up(index):
    config = CONFIG.model_copy(update={"mosaic": 0.5, "mixup": 0.5, "cutmix": 0.5, "multi_scale": 0.5})
    whole = [batch for epoch in range(2) for batch in loader(index, config=config).epoch(epoch)]
    assert {batch.size for batch in whole} == {32, 64, 96}
    again = loader(index, workers=3, config=config)
    late = [batch for epoch in range(2) for first in range(3) for batch in list(again.epoch(epoch, first=first))[:1]]
    assert all(same(a, b) for a, b in zip(whole, late, strict=True))
    halves = [[b for e in range(2) for b in loader(index, config=config, rank=r, ranks=2).epoch(e)] for r in range(2)]
    for batch, *parts in zip(whole, *halves, strict=True):
        for rank, part in enumerate(parts):
            assert part.size == batch.size and torch.equal(part.images, batch.images[rank::2])
            ours, theirs = part.targets, batch.targets[rank::2]
            assert torch.equal(ours.boxes[ours.valid], theirs.boxes[theirs.valid])


def test_without_mixing_or_at_the_end_no_image_is_mixed(index):
    """The mosaic-free end is that of a run that never mixed."""
    config = CONFIG.model_copy(update={"mosaic": 0.5, "mixup": 1.0, "cutmix": 1.0})
    ends = [list(loader(index, config=c).epoch(0, mosaic=False)) for c in (config, CONFIG)]
    assert all(same(a, b) for a, b in zip(*ends, strict=True))
    mixed, plain = (list(loader(index, config=c).epoch(0)) for c in (config, CONFIG.model_copy(update={"mosaic": 0.5})))
    assert all((a.images != b.images).flatten(1).any(1).all() for a, b in zip(mixed, plain, strict=True))
    few, many = (sum(int(b.targets.valid.sum()) for b in batches) for batches in (plain, mixed))
    assert many > 1.5 * few


def test_no_rank_gets_an_empty_share(index):
    for ranks in (1, 2, 4):  # eleven images in batches of four leave three over
        loaders = [loader(index, rank=r, ranks=ranks) for r in range(ranks)]
        assert {len(x) for x in loaders} == {3 if ranks < 4 else 2}
        for x in loaders:
            assert all(len(b.indices) for b in x.epoch(0)) and len(list(x.epoch(0))) == len(x)


def test_an_epoch_can_be_left_early(index):
    batches = loader(index, workers=4).epoch(0)
    next(batches)
    batches.close()


UNREADABLE = {3: b"no image", 4: None, 7: b"", 10: b"\x89PNG cut off"}  # None: not there
STAND_INS = [0, 1, 2, 5, 5, 5, 6, 8, 8, 9, 0]


def spoil(index, what):
    for i, content in what.items():
        index.path(i).write_bytes(content) if content is not None else index.path(i).unlink()


def trained_on(index, cache="ram", workers=1, config=CONFIG, batch=4):
    """Two epochs, and one without mosaic."""
    store = ImageStore(index, 64, cache, 2)
    train = TrainLoader(store, trainable_boxes(index), config, batch=batch, seed=3, workers=workers)
    return [batch for epoch in range(3) for batch in train.epoch(epoch, mosaic=epoch < 2)]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("cache", ["ram", "none"])
def test_the_next_readable_image_stands_in_whether_or_not_there_is_a_cache(index, cache, workers):
    """As if the data set had that image and its boxes twice: equal to the last bit, in the number of steps too."""
    expected = trained_on(index.subset(np.array(STAND_INS)))
    assert sum(int(b.targets.valid.sum()) for b in expected) > 30
    spoil(index, UNREADABLE)
    got = trained_on(index, cache, workers)
    assert len(expected) == len(got) == 9
    assert all(same(a, b) for a, b in zip(expected, got, strict=True))


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_one_readable_image_is_enough(index, cache, monkeypatch):
    expected = trained_on(index.subset(np.full(11, 6)))
    spoil(index, {i: b"no image" for i in range(11) if i != 6})
    reads = Counter()
    monkeypatch.setattr(
        "yolo_cosine.data.cache.read_image", lambda x, i, s: (reads.update([i]), read_image(x, i, s))[1]
    )
    got = trained_on(index, cache)
    assert all(same(a, b) for a, b in zip(expected, got, strict=True))
    assert len(reads) == 11 and all(n == 1 for i, n in reads.items() if i != 6)  # nobody asks a bad one twice


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_no_readable_image_is_a_mistake(index, cache):
    spoil(index, {i: b"" for i in range(11)})
    with pytest.raises(UserError, match=r"test: none of the 11 images can be read \(.*0.png, .*and 8 more\); mend"):
        trained_on(index, cache)


def test_a_real_photograph_stands_in(real_data, tmp_path):
    """Photographs as they come, one of them cut off in its header, and nothing that augmentation would hide it by."""
    files = sorted((real_data / "tiny_coco").rglob("*.jpg"))[:6]
    images = []
    for i, file in enumerate(files):
        data = file.read_bytes()
        (tmp_path / file.name).write_bytes(data if i != 2 else data[:100])
        images.append((i, file.name, *image_size(file)))
    annotations = [(i, 0, (0.0, 0.0, float(w), float(h)), float(w * h), False) for i, _, w, h in images]
    index = build_index("photographs", tmp_path, images, annotations, CATEGORIES)
    still = dict.fromkeys(("mosaic", "translate", "scale", "fliplr", "hsv_h", "hsv_s", "hsv_v"), 0.0)
    still = CONFIG.model_copy(update=still)
    for first, second in zip(*(trained_on(index, cache, 2, still, 6) for cache in ("ram", "none")), strict=True):
        assert same(first, second)
        places = first.indices.tolist()
        assert torch.equal(*(first.images[places.index(i)] for i in (2, 3)))
        assert torch.equal(*(first.targets.boxes[places.index(i)] for i in (2, 3)))


@pytest.mark.parametrize("cache", ["ram", "none"])
def test_an_unreadable_image_is_grey_in_evaluation(index, cache):
    spoil(index, UNREADABLE)
    store = ImageStore(index, 64, cache, 2)
    seen = {
        int(i): b.images[k] for b in eval_batches(store, batch=4, stride=32, workers=2) for k, i in enumerate(b.indices)
    }
    assert sorted(seen) == list(range(11))
    assert {i for i, image in seen.items() if (image == 114).all()} == store.unreadable == set(UNREADABLE)
    assert store[4].shape == (64, 43, 3)


def test_evaluation_s_batches_lie_in_pinned_memory_where_that_is_asked_for(index, monkeypatch):
    """A GPU copies from there by itself; a copy from elsewhere is waited for."""
    store, empty, pinned = ImageStore(index, 64, "ram", 2), torch.empty, []

    def made(*shape, pin_memory=False, **keys):
        memory = empty(*shape, **keys)
        pinned.extend([memory] * pin_memory)
        return memory

    monkeypatch.setattr(torch, "empty", made)
    expected = list(eval_batches(store, batch=4, stride=32, workers=2))
    assert not pinned
    for before, batch in zip(expected, eval_batches(store, batch=4, stride=32, workers=2, pinned=True), strict=True):
        assert torch.equal(before.images, batch.images)
        assert any(batch.images.data_ptr() == memory.data_ptr() for memory in pinned)


@pytest.fixture
def dead_disk(index):
    """A file that is there and whose reading never ends, as on a network disk that is gone."""
    path = index.path(3)
    path.unlink()
    os.mkfifo(path)
    yield path
    with contextlib.suppress(OSError):  # nobody reads it any more
        while True:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
            time.sleep(0.01)


def test_a_dead_disk_ends_the_epoch_with_the_names_of_threads_and_files(index, dead_disk):
    train, told = loader(index, cache="none", timeout=0.5), []
    train.tell = told.append
    with pytest.raises(
        TrainingFailed, match=r"loader-1 and loader-2, .* images .*\b3\.png.* \(folder .*worker_timeout"
    ):
        list(train.epoch(0))
    assert len(told) == 1 and "3.png" in told[0]


def test_a_dead_disk_ends_evaluation_and_reading_ahead_too(index, dead_disk):
    store, told = ImageStore(index, 64, "none", 2), []
    with pytest.raises(TrainingFailed, match=r"images .*3\.png.* \(folder"):
        list(eval_batches(store, batch=4, stride=32, workers=2, timeout=0.5, tell=told.append))
    with pytest.raises(TrainingFailed, match=r"image .*3\.png"):
        ImageStore(index, 64, "ram", 2, timeout=0.5, tell=told.append)
    assert len(told) == 2


@pytest.mark.parametrize("workers", [1, 3])
def test_a_read_that_hangs_once_changes_nothing(index, workers, monkeypatch):
    expected, release, hung, told = list(loader(index).epoch(0)), threading.Event(), [], []

    def read(index, i, size):
        if i == 8 and not hung:
            hung.append(i)
            release.wait(60)
            return None  # late, and wrong
        return read_image(index, i, size)

    monkeypatch.setattr("yolo_cosine.data.cache.read_image", read)
    train = loader(index, workers, "none", timeout=0.5)
    train.tell = told.append
    got = list(train.epoch(0))
    release.set()
    assert all(same(a, b) for a, b in zip(expected, got, strict=True))
    assert len(told) == 1 and "8.png" in told[0]


def test_eval_batches_hold_every_image_once_with_its_geometry(index):
    store = ImageStore(index, 64, "ram", 2)
    seen = []
    for batch in eval_batches(store, batch=4, stride=32, workers=2):
        height, width = batch.images.shape[2:]
        assert height % 32 == 0 and width % 32 == 0 and len(batch.indices) <= 4
        for k, i in enumerate(batch.indices):
            image, (x, y) = store[i], batch.pad[k]
            h, w = image.shape[:2]
            np.testing.assert_array_equal(batch.images[k, :, y : y + h, x : x + w].permute(1, 2, 0).numpy(), image)
            np.testing.assert_allclose(batch.gain[k] * index.sizes[i], (w, h))
            seen.append(int(i))
    assert sorted(seen) == list(range(11))
