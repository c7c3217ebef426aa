from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from yolo_cosine.config.schema import AugmentConfig
from yolo_cosine.data.cache import ImageStore, fitted_size, read_image
from yolo_cosine.data.index import Category, build_index, trainable_boxes
from yolo_cosine.data.loader import TrainLoader, eval_batches

CATEGORIES = (Category(1, "a"), Category(5, "b"))


@pytest.fixture
def index(tmp_path):
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(11):
        w, h = [(120, 80), (80, 120), (100, 100)][i % 3]
        cv2.imwrite(str(tmp_path / f"{i}.png"), rng.integers(0, 255, (h, w, 3), dtype=np.uint8))
        images.append((100 + i, f"{i}.png", w, h))
        annotations += [(100 + i, k % 2, (10.0 + k, 12.0, 30.0, 40.0), 1200.0, k == 2) for k in range(i % 4)]
    return build_index("test", tmp_path, images, annotations, CATEGORIES)


def loader(index, workers=1, cache="ram", **ranks):
    store = ImageStore(index, 64, cache, 2)
    return TrainLoader(store, trainable_boxes(index), AugmentConfig(), batch=4, seed=3, workers=workers, **ranks)


def same(a, b):
    return (
        all(torch.equal(getattr(a, n), getattr(b, n)) for n in vars(a) if n != "indices")
        and (a.indices == b.indices).all()
    )


@pytest.mark.parametrize(("workers", "cache"), [(1, "none"), (3, "ram"), (8, "none")])
def test_workers_and_cache_do_not_change_what_is_trained_on(index, workers, cache):
    expected, got = (list(loader(index, *a).epoch(2)) for a in ((1, "ram"), (workers, cache)))
    assert len(expected) == len(got) == 3
    assert all(same(a, b) for a, b in zip(expected, got, strict=True))


def test_batches_hold_what_they_say(index):
    batches = list(loader(index).epoch(0))
    assert [len(b.indices) for b in batches] == [4, 4, 3]
    assert sorted(np.concatenate([b.indices for b in batches])) == list(range(11))
    for batch in batches:
        assert batch.images.shape == (len(batch.indices), 3, 64, 64) and batch.images.dtype == torch.uint8
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert (batch.image_of_box.diff() >= 0).all()
        assert len(batch.image_of_box) == len(batch.classes) == len(batch.boxes)
        assert batch.boxes.dtype == torch.float32 and len(batch.image_of_crowd) == len(batch.crowds)
    assert sum(len(b.crowds) for b in batches) > 0


def test_ranks_share_every_batch(index):
    whole = list(loader(index).epoch(1))
    halves = [list(loader(index, rank=r, ranks=2).epoch(1)) for r in range(2)]
    for batch, first, second in zip(whole, *halves, strict=True):
        assert sorted(batch.indices) == sorted([*first.indices, *second.indices])
        for k, i in enumerate(first.indices):
            assert torch.equal(first.images[k], batch.images[batch.indices.tolist().index(i)])


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


def test_an_unreadable_image_is_left_out_of_training_and_grey_in_evaluation(index):
    (index.root / "3.png").write_bytes(b"not an image")
    store = ImageStore(index, 64, "ram", 2)
    assert store.unreadable == {3}
    train = TrainLoader(store, trainable_boxes(index), AugmentConfig(), batch=4, seed=3, workers=1)
    assert 3 not in np.concatenate([b.indices for b in train.epoch(0)])
    assert ((store[3] == 114).all() and store[3].shape == (43, 64, 3)) or store[3].shape == (64, 64, 3)
    uncached = ImageStore(index, 64, "none", 2)
    assert (uncached[3] == 114).all() and uncached.unreadable == {3}


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


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(640, 480, (320, 240)), (333, 500, (214, 320)), (10, 5000, (1, 320)), (32, 32, (320, 320))],
)
def test_fitted_size_is_ultralytics(width, height, expected):
    assert fitted_size(width, height, 320) == expected


@pytest.mark.parametrize(("annotated", "turned"), [((40, 80), True), ((80, 40), False)])
def test_exif_orientation_follows_the_annotations(tmp_path, annotated, turned):
    from PIL import Image

    picture = np.zeros((40, 80, 3), np.uint8)  # stored 80 wide, 40 high, left half red
    picture[:, :40, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif, quality=95)
    index = build_index("t", tmp_path, [(1, "a.jpg", *annotated)], [], CATEGORIES)
    image = read_image(index, 0, 80)
    assert image.shape[:2] == ((80, 40) if turned else (40, 80))
    red = image[:20] if turned else image[:, :20]
    assert red[..., 0].mean() > 200
