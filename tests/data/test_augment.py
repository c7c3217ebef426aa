"""Placing, cutting and choosing boxes, on photographs of one painted object each; `test_marked_pixels.py` has the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from yolo_cosine.config.schema import AugmentConfig
from yolo_cosine.data.augment import GREY, augment_image, mosaic_tiles, warp_boxes
from yolo_cosine.data.index import TrainableBoxes
from yolo_cosine.data.sampler import augment_params, epoch_draws

SIZE, N = 128, 12
NO_COLOUR = {"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0}


def painted_set():
    """Images of one grey, each with a filled rectangle of a colour that tells the image; and its boxes."""
    rng = np.random.default_rng(0)
    images, boxes = [], []
    for i in range(N):
        w, h = (SIZE, 96) if i % 2 else (80, SIZE)
        image = np.full((h, w, 3), GREY, dtype=np.uint8)
        x1, y1 = int(rng.integers(5, w // 2)), int(rng.integers(5, h // 2))
        x2, y2 = int(rng.integers(x1 + 20, w - 2)), int(rng.integers(y1 + 20, h - 2))
        image[y1:y2, x1:x2] = (255, 20 * i, 0)
        images.append(image)
        boxes.append([x1 / w, y1 / h, x2 / w, y2 / h])
    labels = TrainableBoxes(np.arange(N + 1), np.array(boxes, np.float32), np.arange(N), np.arange(N) % 3 == 0, ())
    return images, labels


IMAGES, LABELS = painted_set()


class Store(list):
    size = SIZE

    def __init__(self, images, stand_ins=()):
        super().__init__(images)
        self.stand_ins = dict(stand_ins)

    def readable(self, i):
        k = self.stand_ins.get(i, i)
        return k, self[k]


STORE = Store(IMAGES)


def augmented(config, epoch, k, mosaic=True):
    return augment_image(STORE, LABELS, sampled(config, epoch, mosaic), k)


def sampled(config, epoch, mosaic=True):
    return augment_params(np.arange(N), epoch_draws(3, epoch, N), SIZE, config, mosaic)


def test_without_strengths_the_image_is_centred_and_whole():
    config = AugmentConfig(mosaic=0.0, translate=0.0, scale=0.0, fliplr=0.0, **NO_COLOUR)
    image, boxes = augmented(config, 0, 1)  # 128 wide, 96 high
    np.testing.assert_array_equal(image[16:112], IMAGES[1])
    assert (image[:16] == GREY).all() and (image[112:] == GREY).all()
    expected = LABELS.xyxy[1] * (128, 96, 128, 96) + (0, 16, 0, 16)
    np.testing.assert_allclose(boxes.xyxy[0], expected, atol=1e-4)


def test_colour_shifts_leave_grey_grey_and_boxes_alone():
    plain = AugmentConfig(hsv_h=0.0, hsv_s=0.0, hsv_v=0.0)
    strong = AugmentConfig(hsv_h=0.5, hsv_s=0.9, hsv_v=0.0)
    (a, boxes_a), (b, boxes_b) = augmented(plain, 4, 2), augmented(strong, 4, 2)
    np.testing.assert_array_equal(boxes_a.xyxy, boxes_b.xyxy)
    grey = (a == GREY).all(-1)
    assert grey.any() and (b[grey] == GREY).all()
    assert (a != b).any()


@pytest.mark.parametrize("center", [(64, 64), (192, 192), (64, 192), (130, 100)])
def test_mosaic_tiles_meet_at_the_centre_and_stay_on_the_canvas(center):
    shapes = [(128, 96), (100, 128), (128, 128), (50, 128)]
    tiles = mosaic_tiles(shapes, center, SIZE)
    assert tiles[0].canvas[2:] == center and tiles[3].canvas[:2] == center
    assert (tiles[1].canvas[0], tiles[1].canvas[3]) == center
    assert (tiles[2].canvas[2], tiles[2].canvas[1]) == center
    for tile, (h, w) in zip(tiles, shapes, strict=True):
        (sx1, sy1, sx2, sy2), (cx1, cy1, cx2, cy2) = tile.source, tile.canvas
        assert (sx2 - sx1, sy2 - sy1) == (cx2 - cx1, cy2 - cy1)
        assert 0 <= sx1 <= sx2 <= w and 0 <= sy1 <= sy2 <= h
        assert 0 <= cx1 <= cx2 <= 2 * SIZE and 0 <= cy1 <= cy2 <= 2 * SIZE


@pytest.mark.parametrize(
    ("box", "stays"),
    [
        ((10, 10, 60, 60), True),
        ((-45, 10, 5, 60), False),  # exactly a tenth is left
        ((-44, 10, 6, 60), True),
        ((10, 10, 12, 60), False),  # two pixels wide
        ((10, 10, 12.5, 60), True),
        ((10, 10, 20, 10), False),
    ],
)
def test_which_boxes_stay(box, stays):
    warped, kept = warp_boxes(np.array([box], dtype=np.float64), np.eye(3), 1.0, SIZE, np.array([False]))
    assert kept.tolist() == [stays] and len(warped) == stays


def test_the_same_boxes_as_ultralytics_random_perspective():
    """The matrix, the clipping and the choice of boxes, against the peer's class with the same random numbers."""
    from ultralytics.data.augment import RandomPerspective

    rng = np.random.default_rng(5)
    first = rng.uniform(0, 200, (200, 2))
    boxes = np.concatenate((first, first + rng.uniform(1, 60, (200, 2))), 1).astype(np.float32)
    for angle, scale, shear in ((0.0, 0.7, (0.0, 0.0)), (20.0, 1.4, (3.0, -6.0))):
        from types import SimpleNamespace

        from yolo_cosine.data.augment import warp_matrix

        params = SimpleNamespace(
            angle=[angle],
            scale=[scale],
            shear=np.array([shear]),
            perspective=np.zeros((1, 2)),
            shift=np.array([[70.0, 58.0]]),
        )
        matrix = warp_matrix(params, 0, (256, 256), SIZE)
        import cv2

        rotation = np.eye(3)
        rotation[:2] = cv2.getRotationMatrix2D(angle=angle, center=(0, 0), scale=scale)
        shearing = np.eye(3)
        shearing[0, 1], shearing[1, 0] = np.tan(np.deg2rad(shear))
        to_center, shift = np.eye(3), np.eye(3)
        to_center[:2, 2], shift[:2, 2] = -128, (70.0, 58.0)
        np.testing.assert_allclose(matrix, shift @ shearing @ rotation @ to_center, atol=1e-9)

        peer = RandomPerspective(size=(SIZE, SIZE))
        moved = peer.apply_bboxes(boxes, matrix.astype(np.float32)).clip(0, SIZE)
        chosen = peer.box_candidates(boxes.T * scale, moved.T)
        ours, kept = warp_boxes(boxes.astype(np.float64), matrix, scale, SIZE, np.zeros(len(boxes), bool))
        np.testing.assert_array_equal(kept, chosen)
        np.testing.assert_allclose(ours, moved[chosen], atol=1e-3)


@pytest.mark.parametrize("box", [(-600, 10, 3, 600), (100, 100, 100.5, 900)])
def test_a_region_to_ignore_stays_while_anything_of_it_is_left(box):
    """The rule for objects would drop it, and what is in it would be trained as background."""
    box = np.array([box], dtype=np.float64)
    assert not warp_boxes(box, np.eye(3), 1.0, SIZE, np.array([False]))[1][0]
    assert warp_boxes(box, np.eye(3), 1.0, SIZE, np.array([True]))[1][0]
    assert not warp_boxes(box + 500, np.eye(3), 1.0, SIZE, np.array([True]))[1][0]  # nothing of it is left


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_the_next_image_stands_in_with_its_pixels_and_boxes_and_nothing_else_changes(mosaic):
    """What is done to it is what would have been done to the image that cannot be read."""
    params = sampled(AugmentConfig(mosaic=mosaic, perspective=0.0008), 0)
    stood_in = {1: 2, 4: 5, 9: 10}
    swapped = replace(params, tiles=np.vectorize(lambda i: stood_in.get(i, i))(params.tiles))
    for k in range(N):
        (image, boxes), (expected, expected_boxes) = (
            augment_image(store, LABELS, p, k) for store, p in ((Store(IMAGES, stood_in), params), (STORE, swapped))
        )
        np.testing.assert_array_equal(image, expected)
        for name in ("image", "xyxy", "classes", "crowd"):
            np.testing.assert_array_equal(getattr(boxes, name), getattr(expected_boxes, name))
