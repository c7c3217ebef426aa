"""Augmented boxes must fit their objects: one object at a time is painted, and its pixels are found again.

The parameters are the same each time, so what is found of each object is what is shown of it, whatever lies over it or
shines through it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.config.schema import AugmentConfig
from yolo_cosine.data.augment import GREY, augment_image
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.index import Category, TrainableBoxes, build_index, trainable_boxes
from yolo_cosine.data.loader import TrainLoader
from yolo_cosine.data.sampler import augment_params, epoch_draws

SIZE, N, EACH = 96, 12, 3  # pixels, photographs, objects on each
FAINT = 10  # levels off the grey that may be none of the object; MixUp leaves a third of 141 at least
NO_COLOUR = {"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0}


def photographs():
    """Sizes (w, h) of the photographs, and their objects (N, EACH, 4), whole pixels; they may overlap."""
    rng = np.random.default_rng(0)
    sizes = [(SIZE, 72) if i % 2 else (60, SIZE) for i in range(N)]
    boxes = []
    for w, h in sizes:
        first = rng.integers(0, (w - 14, h - 14), (EACH, 2))
        boxes.append(np.concatenate((first, np.minimum(first + rng.integers(12, 50, (EACH, 2)), (w, h))), 1))
    return sizes, np.array(boxes)


SIZES, BOXES = photographs()
LABELS = TrainableBoxes(
    offsets=np.arange(N + 1) * EACH,
    xyxy=(BOXES / np.tile(SIZES, 2)[:, None]).reshape(-1, 4).astype(np.float32),
    classes=np.arange(N * EACH),  # a class tells the object
    crowd=np.arange(N * EACH) % 6 == 5,
    notes=(),
)


class Painted:
    """The photographs, grey but for one object."""

    size = SIZE

    def __init__(self, marked):
        self.marked = marked

    def readable(self, i):
        w, h = SIZES[i]
        image = np.full((h, w, 3), GREY, dtype=np.uint8)
        if i == self.marked // EACH:
            x1, y1, x2, y2 = BOXES[i, self.marked % EACH]
            image[y1:y2, x1:x2] = 255
        return i, image


def sampled(config, epoch, k):
    """The parameters of image `k`, with other photographs in every tile, so that each object is shown once at most."""
    params = augment_params(np.array([k]), epoch_draws(3, epoch, N, config.mixes), SIZE, config)
    tiles = (k + np.arange(12)[None]) % N
    for part, (name, mix) in enumerate((("mixup", params.mixup), ("cutmix", params.cutmix)), 1):
        if mix is not None:
            params = replace(
                params, **{name: replace(mix, other=replace(mix.other, tiles=tiles[:, 4 * part : 4 * part + 4]))}
            )
    return replace(params, tiles=tiles[:, :4])


def shown(params):
    """The boxes of image 0 of the batch, by class, and for each object the extent of its pixels, where there are any."""
    extents = {}
    for marked in range(N * EACH):
        image, boxes = augment_image(Painted(marked), LABELS, params, 0)
        paint = abs(image.astype(int) - GREY).max(-1)
        ys, xs = np.nonzero(paint > max(paint.max() / 2, FAINT))  # an edge is where half of the colour is
        if len(xs):
            extents[marked] = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    found = dict(zip(boxes.classes.tolist(), boxes.xyxy, strict=True))
    assert len(found) == len(boxes.classes) and (boxes.crowd == LABELS.crowd[boxes.classes]).all()
    return found, extents


def check(params, upright, slack=2.0):
    boxes, extents = shown(params)
    for label, box in boxes.items():
        assert 0 <= box[0] < box[2] <= SIZE and 0 <= box[1] < box[3] <= SIZE
        hidden = LABELS.crowd[label] and params.cutmix is not None  # maybe: CutMix pastes over regions to ignore
        if upright and not hidden:  # what is shown fills the box
            assert abs(extents[label] - box).max() <= slack, (label, extents[label], box)
        elif label in extents:
            seen = extents[label]
            assert (seen[:2] >= box[:2] - slack).all() and (seen[2:] <= box[2:] + slack).all(), (label, seen, box)
    for label in extents.keys() - boxes.keys():  # next to nothing is shown of it
        width, height = extents[label][2:] - extents[label][:2]
        assert not LABELS.crowd[label] or min(width, height) <= slack, (label, extents[label])
        x1, y1, x2, y2 = BOXES[label // EACH, label % EACH]
        tenth = 0.1 * (x2 - x1) * (y2 - y1) * scale_of(params, label // EACH) ** 2
        assert min(width, height) <= 2 + slack or (width - slack) * (height - slack) <= tenth, (label, extents[label])
    return boxes, extents


def scale_of(params, photograph):
    placements = [params, *(mix.other for mix in (params.mixup, params.cutmix) if mix is not None)]
    return next(p.scale[0] for p in placements if photograph in p.tiles)


@settings(max_examples=25, deadline=None)
@given(
    epoch=st.integers(0, 10**6),
    k=st.integers(0, N - 1),
    warp=st.sampled_from([{}, {"degrees": 45.0}, {"shear": 20.0}, {"perspective": 0.001}, {"degrees": 180.0, "shear": 10.0, "perspective": 0.001}]),
    mosaic=st.sampled_from([0.0, 1.0]),
    mixup=st.sampled_from([0.0, 1.0]),
    cutmix=st.sampled_from([0.0, 1.0]),
)  # fmt: skip
def test_boxes_enclose_their_objects_and_upright_ones_fit(epoch, k, warp, mosaic, mixup, cutmix):
    config = AugmentConfig(mosaic=mosaic, mixup=mixup, cutmix=cutmix, flipud=0.5, **warp, **NO_COLOUR)
    check(sampled(config, epoch, k), upright=not warp)


@pytest.fixture
def index(tmp_path):
    """Photographs of one bright object each, as files."""
    import cv2

    images, annotations = [], []
    for i, (w, h) in enumerate(SIZES):
        x1, y1, x2, y2 = (int(v) for v in BOXES[i, 0])
        image = np.full((h, w, 3), GREY, dtype=np.uint8)
        image[y1:y2, x1:x2] = 255
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
        images.append((i + 1, f"{i}.png", w, h))
        annotations.append((i + 1, 0, (x1, y1, x2 - x1, y2 - y1), 1.0, i % 3 == 2))
    return build_index("test", tmp_path, images, annotations, (Category(1, "a"),))


def test_boxes_follow_the_images_of_every_size(index):
    """What the network sees of a batch at its size, with its boxes and regions to ignore; alone in their images."""
    augment = AugmentConfig(mosaic=0.0, multi_scale=0.5, flipud=0.5, **NO_COLOUR)
    loader = TrainLoader(
        ImageStore(index, SIZE, "ram", 1), trainable_boxes(index), augment, batch=2, seed=1, workers=1, stride=32
    )
    seen = set()
    for batch in (batch for epoch in range(4) for batch in loader.epoch(epoch)):
        for part in batch.parts(2):
            images = part.inputs()
            assert images.shape == (1, 3, batch.size, batch.size) and images.dtype == torch.float32
            assert images.is_contiguous(memory_format=torch.channels_last)
            ys, xs = np.nonzero((images[0, 0].numpy() * 255 - GREY) > 70)
            told = part.targets
            for box in (*told.boxes[told.valid].tolist(), *told.crowds[told.crowd_valid].tolist()):
                assert abs(np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]) - box).max() <= 2.5
        seen.add(batch.size)
    assert seen == {32, 64, 96, 128, 160}
