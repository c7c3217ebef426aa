"""Training images: mosaic, affine or perspective, mixing, colour, flips, by OpenCV, one image after another.

Here is what `host_augment.py` and `device_augment.py` have to come to, and what a CPU does where the kernel of the former
cannot be compiled.

Geometry is one 3x3 matrix for each tile of an image, from the pixels of the resized photograph to those of the
output, so pixels and boxes cannot part. The operations, their order and the rule for which boxes stay are those of
Ultralytics' `v8_transforms` (ultralytics/data/augment.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from yolo_cosine.data.index import TrainableBoxes
from yolo_cosine.data.mixing import Objects, cut_mix, mix_up
from yolo_cosine.data.sampler import AugmentParams, Placement

GREY = 114  # the field's padding value
_MIN_SIDE, _MIN_VISIBLE, _MAX_ASPECT = 2.0, 0.10, 100.0  # pixels, share of the area, ratio: Ultralytics' box_candidates


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of a batch, K in all."""

    image: np.ndarray  # (K,) int64, position in the batch
    xyxy: np.ndarray  # (K, 4) float32, pixels of the output
    classes: np.ndarray  # (K,) int64
    crowd: np.ndarray  # (K,) bool


@dataclass(frozen=True, eq=False)
class Tile:
    """Where a part of a photograph lies on the canvas, before the affine. Pixels, [start, end)."""

    source: tuple[int, int, int, int]  # x1, y1, x2, y2 in the resized photograph
    canvas: tuple[int, int, int, int]  # the same part on the canvas

    @property
    def offset(self) -> tuple[int, int]:
        return self.canvas[0] - self.source[0], self.canvas[1] - self.source[1]


def mosaic_tiles(shapes: list[tuple[int, int]], center: tuple[int, int], size: int) -> list[Tile]:
    """Place four images around `center` on a canvas of side 2*size: top left, top right, bottom left, bottom right.

    Args:
        shapes: height and width of each of the four.
    """
    xc, yc = center
    tiles = []
    for k, (h, w) in enumerate(shapes):
        x = xc - w if k in (0, 2) else xc
        y = yc - h if k in (0, 1) else yc
        x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + w, 2 * size), min(y + h, 2 * size)
        tiles.append(Tile((x1 - x, y1 - y, x2 - x, y2 - y), (x1, y1, x2, y2)))
    return tiles


def warp_matrix(params: Placement, k: int | slice, canvas: tuple[int, int] | np.ndarray, size: int) -> np.ndarray:
    """(3, 3) float64 from canvas pixels to output pixels, without the flips: T @ S @ R @ P @ C, right to left.

    Args:
        k: which image of the batch, or several: then (..., 3, 3).
        canvas: width and height of the canvas; (..., 2) for several.
    """
    angle, scale = np.deg2rad(params.angle[k]), params.scale[k]
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    shear_x, shear_y = np.moveaxis(np.tan(np.deg2rad(params.shear[k])), -1, 0)
    shift = np.asarray(params.shift[k])
    matrix = np.zeros((*shift.shape[:-1], 3, 3))
    matrix[..., 0, 0], matrix[..., 0, 1] = cos - shear_x * sin, sin + shear_x * cos  # shear @ rotation, with the scale
    matrix[..., 1, 0], matrix[..., 1, 1] = shear_y * cos - sin, shear_y * sin + cos
    matrix[..., 2, :2], matrix[..., 2, 2] = params.perspective[k], 1
    matrix[..., :2, :2] += shift[..., :, None] * matrix[..., 2:, :2]
    matrix[..., :2, 2] = shift
    center = np.asarray(canvas) / 2  # it is moved to the origin before all else
    matrix[..., 2] -= (matrix[..., :2] * center[..., None, :]).sum(-1)
    return matrix


class Images(Protocol):
    """Resized photographs by number: (h, w, 3) uint8 RGB with the longer side at `size`."""

    size: int

    def readable(self, i: int) -> tuple[int, np.ndarray]:
        """Image `i`, or the next one that can be read, after its number."""
        ...


def augment_image(store: Images, labels: TrainableBoxes, params: AugmentParams, k: int) -> tuple[np.ndarray, Boxes]:
    """Image `k` of a batch: (size, size, 3) uint8 RGB, and its boxes with `image` set to `k`.

    Where a photograph cannot be read, the pixels and boxes are those of the next that can; what is done to them stays.
    """
    size, mixup, cutmix = store.size, params.mixup, params.cutmix
    mixed = place_image(store, labels, params, k)
    if mixup is not None and mixup.on[k]:
        mixed = mix_up(mixed, place_image(store, labels, mixup.other, k), mixup.share[k])
    if cutmix is not None and cutmix.on[k]:
        mixed = cut_mix(mixed, place_image(store, labels, cutmix.other, k), cutmix.areas[k], cutmix.choice[k])
    image, objects = mixed
    image = _shift_colours(image, params.hsv[k])
    if params.flipud[k] or params.fliplr[k]:
        image = cv2.flip(image, -1 if params.flipud[k] and params.fliplr[k] else 0 if params.flipud[k] else 1)
    xyxy = objects.xyxy
    if params.flipud[k]:
        xyxy[:, [1, 3]] = size - xyxy[:, [3, 1]]
    if params.fliplr[k]:
        xyxy[:, [0, 2]] = size - xyxy[:, [2, 0]]
    owner = np.full(len(xyxy), k, dtype=np.int64)
    return image, Boxes(owner, xyxy.astype(np.float32), objects.classes, objects.crowd)


def place_image(store: Images, labels: TrainableBoxes, params: Placement, k: int) -> tuple[np.ndarray, Objects]:
    """Mosaic and warp of row `k`: (size, size, 3) uint8 RGB, and what is on it."""
    size = store.size
    wanted = params.tiles[k] if params.mosaic[k] else params.tiles[k, :1]
    images, pixels = zip(*(store.readable(int(i)) for i in wanted), strict=True)
    if params.mosaic[k]:
        tiles = mosaic_tiles([p.shape[:2] for p in pixels], tuple(params.center[k].tolist()), size)
        canvas = np.full((2 * size, 2 * size, 3), GREY, dtype=np.uint8)
        for p, tile in zip(pixels, tiles, strict=True):
            (sx1, sy1, sx2, sy2), (cx1, cy1, cx2, cy2) = tile.source, tile.canvas
            canvas[cy1:cy2, cx1:cx2] = p[sy1:sy2, sx1:sx2]
    else:
        canvas = pixels[0]
        h, w = canvas.shape[:2]
        tiles = [Tile((0, 0, w, h), (0, 0, w, h))]
    matrix = warp_matrix(params, k, (canvas.shape[1], canvas.shape[0]), size)
    border = (GREY, GREY, GREY)
    if params.perspective[k].any():
        image = cv2.warpPerspective(canvas, matrix, (size, size), flags=cv2.INTER_LINEAR, borderValue=border)
    else:
        image = cv2.warpAffine(canvas, matrix[:2], (size, size), flags=cv2.INTER_LINEAR, borderValue=border)
    xyxy, classes, crowd = _canvas_boxes(images, pixels, tiles, labels, canvas.shape)
    xyxy, kept = warp_boxes(xyxy, matrix, params.scale[k], size, crowd)
    return image, Objects(xyxy, classes[kept], crowd[kept])


def _canvas_boxes(
    images: Sequence[int],
    pixels: Sequence[np.ndarray],
    tiles: Sequence[Tile],
    labels: TrainableBoxes,
    shape: tuple[int, ...],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes of all tiles on the canvas, clipped to it: (K, 4) float64 xyxy pixels, (K,) classes, (K,) crowd."""
    xyxy, rows = [], []
    for i, p, tile in zip(images, pixels, tiles, strict=True):
        row = slice(labels.offsets[i], labels.offsets[i + 1])
        h, w = p.shape[:2]
        xyxy.append(labels.xyxy[row].astype(np.float64) * (w, h, w, h) + np.tile(tile.offset, 2))
        rows.append(np.arange(row.start, row.stop))
    boxes, row = np.concatenate(xyxy), np.concatenate(rows)
    boxes = np.clip(boxes, 0, (shape[1], shape[0], shape[1], shape[0]))
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return boxes[inside], labels.classes[row[inside]], labels.crowd[row[inside]]


def warp_boxes(
    xyxy: np.ndarray, matrix: np.ndarray, scale: float | np.ndarray, size: int, crowd: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Warp boxes to the upright boxes around their corners, clip them, and say which stay.

    A box stays if it is over 2 px wide and high, has over 10% of its scaled area left, and is less than 100 times
    longer than wide. A region to ignore stays as long as anything of it is left: what is in it must not become background.

    Args:
        xyxy: (K, 4) float64, canvas pixels.
        matrix: (3, 3), canvas to output; or (K, 3, 3), each box's own.
        scale: the scale in `matrix`; or (K,).
        crowd: (K,) bool, regions to ignore.

    Returns:
        (L, 4) float64 xyxy pixels of the output for those that stay, and (K,) bool.
    """
    corners = np.ones((len(xyxy), 4, 3))
    corners[..., :2] = xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    corners = corners @ matrix.swapaxes(-1, -2)
    points = corners[..., :2] / corners[..., 2:]
    warped = np.clip(np.concatenate((points.min(1), points.max(1)), 1), 0, size)
    before, after = (xyxy[:, 2:] - xyxy[:, :2]) * np.reshape(scale, (-1, 1)), warped[:, 2:] - warped[:, :2]
    with np.errstate(divide="ignore", invalid="ignore"):
        aspect = np.maximum(after[:, 0] / after[:, 1], after[:, 1] / after[:, 0])
    kept = (after > _MIN_SIDE).all(1) & (after.prod(1) > _MIN_VISIBLE * before.prod(1)) & (aspect < _MAX_ASPECT)
    kept |= crowd & (after > 0).all(1)
    return warped[kept], kept


def _shift_colours(image: np.ndarray, hsv: np.ndarray) -> np.ndarray:
    """Shift the hue and scale saturation and value of (h, w, 3) uint8 RGB; grey stays grey."""
    if not hsv.any():
        return image
    x = np.arange(256, dtype=np.float64)
    hue = (x + hsv[0] * 180) % 180
    saturation, value = np.clip(x * (1 + hsv[1]), 0, 255), np.clip(x * (1 + hsv[2]), 0, 255)
    table = np.stack((hue, saturation, value), -1).astype(np.uint8)[None]
    return cv2.cvtColor(cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table), cv2.COLOR_HSV2RGB)
