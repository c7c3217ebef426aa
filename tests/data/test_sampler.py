from __future__ import annotations

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from ultralytics.data.augment import CutMix
from ultralytics.models.yolo.detect.train import DetectionTrainer

from yolo_cosine.config.schema import AugmentConfig
from yolo_cosine.data.sampler import augment_params, batch_sizes, epoch_draws, epoch_order

IMAGES = np.arange(1000)


def params(config=None, epoch=0, images=IMAGES, size=320, mosaic=True):
    config = config or AugmentConfig()
    return augment_params(images, epoch_draws(7, epoch, 1000, config.mixes), size, config, mosaic)


def arrays(params):
    """All arrays of the parameters, those of the images that are mixed in too."""
    found = {}
    for name, value in vars(params).items():
        if isinstance(value, np.ndarray):
            found[name] = value
        elif value is not None:
            found |= {f"{name}.{key}": array for key, array in arrays(value).items()}
    return found


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own():
    first, again, other, reseeded = (epoch_order(*a, 1000) for a in ((7, 0), (7, 0), (7, 1), (8, 0)))
    assert sorted(first) == list(range(1000))
    assert (first == again).all()
    assert (first != other).any() and (first != reseeded).any()


def test_what_happens_to_an_image_depends_on_seed_epoch_and_image_alone():
    mixed = AugmentConfig(mosaic=0.5, mixup=0.3, cutmix=0.4)
    whole, part = arrays(params(mixed)), arrays(params(mixed, images=np.array([5, 3, 900])))
    assert len(whole) == 11 + (2 + 8) + (3 + 8)
    for name, array in whole.items():
        np.testing.assert_array_equal(array[[5, 3, 900]], part[name], name)
    assert (params(epoch=1).scale != params().scale).all()


def test_mixing_changes_nothing_else():
    """A run without it is what it was, and one with it differs in what is mixed in alone."""
    plain, mixed = arrays(params()), arrays(params(AugmentConfig(mixup=0.3, cutmix=0.4)))
    for name, array in plain.items():
        np.testing.assert_array_equal(array, mixed[name], name)
    assert params().mixup is None and params().cutmix is None


def test_mixed_in_images_are_any_with_draws_of_their_own():
    p = params(AugmentConfig(mosaic=0.5, degrees=10.0, mixup=0.3, cutmix=0.6))
    for mix, probability in ((p.mixup, 0.3), (p.cutmix, 0.6)):
        assert mix.on.mean() == pytest.approx(probability, abs=0.05)
        assert mix.other.mosaic.mean() == pytest.approx(0.5, abs=0.05)
        assert mix.other.tiles[:, 0].min() < 50 and mix.other.tiles[:, 0].max() > 950
    columns = [
        (x.tiles[:, 0], x.mosaic, *x.center.T, x.scale, x.angle, *x.shift.T) for x in (p, p.mixup.other, p.cutmix.other)
    ]
    drawn = np.column_stack([*sum(columns, ())[1:], p.mixup.on, p.mixup.share, p.cutmix.on, p.cutmix.choice])
    assert abs(np.corrcoef(drawn.T) - np.eye(drawn.shape[1])).max() < 0.13


def test_the_share_of_mixup_and_the_areas_of_cutmix_are_ultralytics():
    p = params(AugmentConfig(mixup=1.0, cutmix=1.0), size=64)
    assert stats.kstest(p.mixup.share, stats.beta(32, 32).cdf).pvalue > 0.01
    assert p.mixup.share.var() == pytest.approx(stats.beta(32, 32).var(), rel=0.15)
    areas = p.cutmix.areas.reshape(-1, 4)
    np.random.seed(0)
    peer = np.array([CutMix(None)._rand_bbox(64, 64) for _ in range(3000)])
    for ours, theirs in zip(areas.T, peer.T, strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > 0.01
    sides = [(x[:, 2:] - x[:, :2]).prod(1) for x in (areas, peer)]
    assert stats.ks_2samp(*sides).pvalue > 0.01
    assert areas.min() == 0 and areas.max() == 64 and (areas[:, 2:] >= areas[:, :2]).all()


def test_the_images_of_a_batch_are_those_that_it_is_made_of():
    p = params(AugmentConfig(mosaic=0.5, mixup=0.5, cutmix=0.5), images=np.array([4, 8]))
    expected = [4, 8, *p.tiles[p.mosaic, 1:].flat]
    for mix in (p.mixup, p.cutmix):
        for k in np.flatnonzero(mix.on):
            expected += mix.other.tiles[k, : 4 if mix.other.mosaic[k] else 1].tolist()
    assert sorted(p.images()) == sorted(expected)
    assert params(images=np.array([4, 8]), mosaic=False).images().tolist() == [4, 8]


def test_the_distributions_are_those_of_ultralytics_defaults():
    """Ranges from ultralytics/data/augment.py at the default hyperparameters, size 320."""
    p = params()
    for values, low, high in (
        (p.scale, 0.5, 1.5), (p.shift, 0.4 * 320, 0.6 * 320), (p.center, 160, 480), (p.hsv[:, 0], -0.015, 0.015),
        (p.hsv[:, 1], -0.7, 0.7), (p.hsv[:, 2], -0.4, 0.4), (p.tiles[:, 1:], 0, 999),
    ):  # fmt: skip
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.05 * (high - low))
    assert p.mosaic.all() and not p.flipud.any() and p.fliplr.mean() == pytest.approx(0.5, abs=0.05)
    assert not p.angle.any() and not p.shear.any() and not p.perspective.any()
    assert abs(np.corrcoef(np.column_stack((p.scale, p.shift, p.center, p.hsv)).T) - np.eye(8)).max() < 0.12


@pytest.mark.parametrize(
    ("key", "value", "field"),
    [
        ("degrees", 30.0, "angle"),
        ("shear", 5.0, "shear"),
        ("perspective", 0.0005, "perspective"),
        ("flipud", 0.3, "flipud"),
    ],
)
def test_options(key, value, field):
    drawn = getattr(params(AugmentConfig(**{key: value})), field)
    if field == "flipud":
        assert drawn.mean() == pytest.approx(value, abs=0.05)
    else:
        assert 0.9 * value < abs(drawn).max() <= value


def test_the_mosaic_free_end_has_no_mosaic_and_the_rest_as_before():
    mixed = AugmentConfig(mixup=0.5, cutmix=0.5)
    with_mosaic, without = params(mixed), params(mixed, mosaic=False)
    assert not without.mosaic.any() and without.mixup is None and without.cutmix is None
    np.testing.assert_array_equal(with_mosaic.scale, without.scale)


@pytest.mark.parametrize(
    ("size", "multi_scale", "stride"), [(320, 0.5, 32), (640, 0.25, 32), (640, 1.0, 64), (96, 0.1, 32)]
)
def test_sizes_of_batches_are_ultralytics(size, multi_scale, stride):
    """The same shares of the same sizes as the peer's trainer draws; that trainer rounds none of these sizes up."""
    ours = batch_sizes(3, 0, 4000, size, multi_scale, stride)
    random.seed(0)
    trainer = SimpleNamespace(
        args=SimpleNamespace(multi_scale=multi_scale, imgsz=size), stride=stride, device=torch.device("cpu")
    )
    batch = {"img": torch.zeros(1, 1, size, size, dtype=torch.uint8)}
    theirs = [len(DetectionTrainer.preprocess_batch(trainer, dict(batch))["img"][0, 0]) for _ in range(300)]
    shares = np.unique(ours, return_counts=True)
    assert shares[0].tolist() == sorted(set(theirs))
    expected = shares[1] / 4000 * len(theirs)
    assert stats.chisquare(np.unique(theirs, return_counts=True)[1], expected).pvalue > 0.01


def test_the_size_of_a_batch_depends_on_seed_epoch_and_number_alone():
    whole = batch_sizes(3, 0, 50, 320, 0.5, 32)
    np.testing.assert_array_equal(batch_sizes(3, 0, 20, 320, 0.5, 32), whole[:20])
    assert (batch_sizes(3, 1, 50, 320, 0.5, 32) != whole).any() and (batch_sizes(4, 0, 50, 320, 0.5, 32) != whole).any()
    assert (batch_sizes(3, 0, 50, 320, 0.0, 32) == 320).all()
