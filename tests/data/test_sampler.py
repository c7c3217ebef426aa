from __future__ import annotations

import numpy as np
import pytest

from yolo_cosine.config.schema import AugmentConfig
from yolo_cosine.data.sampler import augment_params, epoch_draws, epoch_order

IMAGES = np.arange(1000)


def params(config=None, epoch=0, images=IMAGES, size=320, mosaic=True):
    return augment_params(images, epoch_draws(7, epoch, 1000), size, config or AugmentConfig(), mosaic)


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own():
    first, again, other, reseeded = (epoch_order(*a, 1000) for a in ((7, 0), (7, 0), (7, 1), (8, 0)))
    assert sorted(first) == list(range(1000))
    assert (first == again).all()
    assert (first != other).any() and (first != reseeded).any()


def test_what_happens_to_an_image_depends_on_seed_epoch_and_image_alone():
    whole, part = params(), params(images=np.array([5, 3, 900]))
    for name in vars(whole):
        np.testing.assert_array_equal(getattr(whole, name)[[5, 3, 900]], getattr(part, name))
    assert (params(epoch=1).scale != whole.scale).all()


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
    with_mosaic, without = params(), params(mosaic=False)
    assert not without.mosaic.any()
    np.testing.assert_array_equal(with_mosaic.scale, without.scale)
