"""MixUp and CutMix against the peer's own classes, with the same random numbers."""

from __future__ import annotations

import numpy as np
import pytest
from ultralytics.data import augment as peer
from ultralytics.utils.instance import Instances

from yolo_cosine.data.mixing import Objects, cut_mix, mix_up

SIZE = 64


def drawn(rng, most):
    """An image of noise with up to `most` objects, some of them over others."""
    image = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    count = int(rng.integers(0, most + 1))
    first = rng.uniform(0, SIZE - 8, (count, 2))
    xyxy = np.concatenate((first, np.minimum(first + rng.uniform(4, 40, (count, 2)), SIZE)), 1)
    return image, Objects(xyxy, rng.integers(0, 5, count), np.zeros(count, dtype=bool))


def drawn_areas(rng):
    corners = np.sort(rng.integers(0, SIZE + 1, (3, 2, 2)), axis=1)
    return corners.reshape(3, 4)


def as_labels(annotated):
    image, objects = annotated
    boxes = Instances(
        objects.xyxy.astype(np.float32), np.zeros((0, 1000, 2), np.float32), bbox_format="xyxy", normalized=False
    )
    return {"img": image.copy(), "cls": objects.classes[:, None].astype(np.float32), "instances": boxes}


class Other:
    """A data set of the one image that is mixed in."""

    cache = "ram"

    def __init__(self, annotated):
        self.annotated = annotated

    def __len__(self):
        return 1

    def get_image_and_label(self, i):
        return as_labels(self.annotated)


def assert_equal(ours, theirs):
    image, objects = ours
    np.testing.assert_array_equal(image, theirs["img"])
    np.testing.assert_array_equal(objects.classes, theirs["cls"][:, 0])
    np.testing.assert_allclose(objects.xyxy, theirs["instances"].bboxes, atol=1e-4)


@pytest.mark.parametrize("share", [0.0, 0.31, 0.5, 0.63])
def test_mix_up_is_ultralytics(share, monkeypatch):
    rng = np.random.default_rng(int(100 * share))
    monkeypatch.setattr("numpy.random.beta", lambda a, b: share)
    for _ in range(5):
        one, other = drawn(rng, 4), drawn(rng, 4)
        assert_equal(mix_up(one, other, share), peer.MixUp(Other(other), p=1.0)(as_labels(one)))


def test_cut_mix_is_ultralytics(monkeypatch):
    """Over many scenes, of which some leave no room, and some have nothing to paste into it."""
    rng = np.random.default_rng(0)
    pasted = 0
    for _ in range(400):
        one, other, areas, choice = drawn(rng, 2), drawn(rng, 6), drawn_areas(rng), rng.random()
        monkeypatch.setattr("numpy.random.choice", lambda found, choice=choice: found[int(choice * len(found))])
        theirs = peer.CutMix(Other(other), p=1.0)
        theirs._rand_bbox = lambda w, h, left=[*areas[::-1]]: left.pop()
        expected = theirs(as_labels(one))
        ours = cut_mix((one[0].copy(), one[1]), other, areas, choice)
        assert_equal(ours, expected)
        pasted += len(ours[1].classes) > len(one[1].classes)
    assert 100 < pasted < 300


def test_regions_to_ignore_have_no_say_in_cut_mix_and_come_along():
    """What is in them must not become background; an area that has nothing but such a region is not pasted."""
    area, crowd = np.array([[10, 10, 40, 40]]), np.array([True])
    image = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    region = Objects(np.array([[0.0, 0.0, 60.0, 60.0]]), np.array([0]), crowd)
    thing = Objects(np.array([[12.0, 12.0, 50.0, 30.0]]), np.array([1]), ~crowd)
    sliver = Objects(np.array([[39.5, 0.0, 64.0, 64.0]]), np.array([2]), crowd)
    found, objects = cut_mix((image.copy(), region), (image + 9, thing + sliver), area, 0.5)
    assert (found[10:40, 10:40] == 9).all() and found.sum() == 9 * 3 * 30 * 30
    np.testing.assert_array_equal(objects.xyxy, [[0, 0, 60, 60], [12, 12, 40, 30], [39.5, 10, 40, 40]])
    assert objects.classes.tolist() == [0, 1, 2] and objects.crowd.tolist() == [True, False, True]
    found, objects = cut_mix((image.copy(), thing[:0]), (image + 9, region), area, 0.5)
    assert not found.any() and not len(objects.classes)
