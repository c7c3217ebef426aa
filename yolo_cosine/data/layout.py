"""Where the photographs of many images lie on their canvases, and what that comes to for boxes and pixels. All at once.

`augment.py` places the photographs of one image, for OpenCV; here are those of a batch, as arrays. A photograph that is an
image by itself is taken for the top left one of a mosaic that has no other, with the centre at its lower right corner.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from yolo_cosine.data.augment import warp_boxes, warp_matrix
from yolo_cosine.data.index import TrainableBoxes
from yolo_cosine.data.sampler import Placement

IS_LEFT_TOP = np.array([[True, True], [False, True], [True, False], [False, False]])  # of the four of a mosaic


@dataclass(frozen=True, eq=False)
class Layout:
    """The canvases of B images. Lengths are in pixels of the canvas, x before y."""

    images: np.ndarray  # (B, 4) int64, whose pixels and boxes they are: top left, top right, bottom left, bottom right
    sizes: np.ndarray  # (B, 4, 2) int64, width and height of each; 0 where there is none
    center: np.ndarray  # (B, 2) int64, where the four meet
    canvas: np.ndarray  # (B, 2) int64, width and height
    matrix: np.ndarray  # (B, 3, 3) float64, to the pixels of the output, without flips

    @cached_property
    def origin(self) -> np.ndarray:
        """(B, 4, 2) int64, where the first pixel of each photograph lies, or would lie if the canvas were large enough."""
        return self.center[:, None] - np.where(IS_LEFT_TOP, self.sizes, 0)

    @cached_property
    def outer(self) -> np.ndarray:
        """(B, 4, 2) int64, the outer edges of the photographs, as in `Sampling`; they end with the canvas."""
        end = np.minimum(self.origin + self.sizes, self.canvas[:, None])
        return np.where(IS_LEFT_TOP, np.maximum(self.origin, 0), end)


def lay_out(params: Placement, images: np.ndarray, sizes: np.ndarray, size: int) -> Layout:
    """Place photographs as the parameters say.

    Args:
        images: (B, 4) int64, the photographs.
        sizes: (B, 4, 2) int64, width and height of each, pixels.
        size: side S of the output, pixels.
    """
    alone = ~params.mosaic[:, None]
    sizes = np.where(alone[..., None] & (np.arange(4) > 0)[:, None], 0, sizes)
    canvas = np.where(alone, sizes[:, 0], 2 * size)
    center = np.where(alone, sizes[:, 0], params.center)
    return Layout(images, sizes, center, canvas, warp_matrix(params, slice(None), canvas, size))


def laid_boxes(
    layout: Layout, labels: TrainableBoxes, scale: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The boxes of all photographs on the output, by the rule of `warp_boxes`.

    Args:
        scale: (B,), the scale in `layout.matrix`.

    Returns:
        For K boxes: (K,) int64, the images of the batch that they are on, ascending; (K, 4) float64 xyxy, pixels of the
        output without flips; (K,) int64, their rows in `labels`.
    """
    images = np.where(layout.sizes[..., 0] > 0, layout.images, -1).ravel()
    start = labels.offsets[images]
    count = np.where(images >= 0, labels.offsets[images + 1] - start, 0)
    tile = np.repeat(np.arange(len(images)), count)
    row = np.arange(len(tile)) + np.repeat(start - (np.cumsum(count) - count), count)
    owner = tile // 4
    sides, origin = (np.tile(array.reshape(-1, 2)[tile], 2) for array in (layout.sizes, layout.origin))
    xyxy = np.clip(labels.xyxy[row].astype(np.float64) * sides + origin, 0, np.tile(layout.canvas[owner], 2))
    inside = (xyxy[:, 2:] > xyxy[:, :2]).all(1)
    owner, row = owner[inside], row[inside]
    xyxy, kept = warp_boxes(xyxy[inside], layout.matrix[owner], scale[owner], size, labels.crowd[row])
    return owner[kept], xyxy, row[kept]


def inverse_matrices(layout: Layout, flipud: np.ndarray, fliplr: np.ndarray, size: int) -> np.ndarray:
    """(B, 3, 3) float64 from pixels of the output, flips included, to pixels of the canvas; whole at their middle."""
    flip = np.zeros((len(layout.matrix), 3, 3))
    for axis, flipped in enumerate((fliplr, flipud)):
        flip[:, axis, axis] = np.where(flipped, -1, 1)
        flip[:, axis, 2] = np.where(flipped, size - 1, 0)
    flip[:, 2, 2] = 1
    return np.linalg.inv(layout.matrix) @ flip


def seen_part(layout: Layout, inverse: np.ndarray, size: int) -> np.ndarray:
    """(B, 4, 2) int64: `layout.outer`, drawn in to what the output shows of each photograph.

    What it shows is between the centre, where a photograph begins, and the farthest pixel that is looked at.
    """
    corners = np.array([[x, y, 1] for x in (0, size - 1) for y in (0, size - 1)], dtype=np.float64)
    seen = corners @ inverse.swapaxes(1, 2)  # (B, 4, 3)
    depth = seen[..., 2:]
    # else a horizon runs through the output, and everything may be seen
    ahead = (depth > 0).all(1) | (depth < 0).all(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        seen = np.where(ahead[:, None], seen[..., :2] / depth, np.nan)
    # neighbours are blended, and rounding may look one pixel farther
    first = np.where(ahead, np.floor(seen.min(1)) - 1, 0).astype(np.int64)
    end = np.where(ahead, np.ceil(seen.max(1)) + 2, layout.canvas).astype(np.int64)
    center, outer = layout.center[:, None], layout.outer
    left = np.minimum(np.maximum(outer, first[:, None]), center)
    return np.where(IS_LEFT_TOP, left, np.maximum(np.minimum(outer, end[:, None]), center))
