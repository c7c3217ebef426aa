"""Where the anchors of an image are, and how well two boxes agree."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """The A anchors of an image: level after level, each row by row."""

    levels: tuple[tuple[int, int], ...]  # rows and columns of each level
    strides: tuple[float, ...]  # pixels in a cell of each level
    points: Tensor  # (2, A) float32, x and y of the centres, in cells of their level
    stride: Tensor  # (A,) float32, pixels in a cell of the anchor's level
    centers: Tensor  # (2, A) float32, pixels
    extent: Tensor  # (4, 1) float32, pixels: width, height, width, height of an image


def make_grid(size: tuple[int, int], strides: tuple[float, ...], device: torch.device) -> Grid:
    """The anchors of images of one size.

    Args:
        size: height and width, pixels.
        strides: of each level, pixels, the finest first.
    """
    # a graph makes its own: what is made in one must not be kept for others
    make = _make_grid if torch.compiler.is_compiling() else _kept_grid
    return make(size, strides, device)


def _make_grid(size: tuple[int, int], strides: tuple[float, ...], device: torch.device) -> Grid:
    levels = tuple((round(size[0] / s), round(size[1] / s)) for s in strides)
    points, stride = [], []
    for (rows, columns), pixels in zip(levels, strides, strict=True):
        y, x = (torch.arange(n, device=device, dtype=torch.float32) + 0.5 for n in (rows, columns))
        points.append(torch.stack((x.repeat(rows), y.repeat_interleave(columns))))
        stride.append(x.new_full((rows * columns,), pixels))
    points, stride = torch.cat(points, 1), torch.cat(stride)
    extent = torch.stack([stride.new_full((1,), size[axis]) for axis in (1, 0, 1, 0)])
    return Grid(levels, strides, points, stride, points * stride, extent)


_kept_grid = functools.lru_cache(maxsize=64)(_make_grid)


def ciou(first: Tensor, second: Tensor, eps: float = 1e-7) -> Tensor:
    """Complete IoU of boxes: IoU - d**2 / c**2 - alpha * v.

    d is the distance of their centres, c the diagonal of the smallest box around both, and v tells how their aspects
    differ, with the weight alpha = v / (1 - IoU + v), through which no gradient flows.

    Source: Zheng et al. (arXiv 1911.08287). The operations, their order and eps are those of Ultralytics' bbox_iou.

    Args:
        first, second: (4, ...) x1, y1, x2 and y2; the rest broadcasts.

    Returns:
        (...) of the dtype of the boxes.
    """
    (low, high), (low2, high2) = first.split(2), second.split(2)
    (w, h), (w2, h2) = high - low, high2 - low2
    h, h2 = h + eps, h2 + eps
    across, down = (high.minimum(high2) - low.maximum(low2)).clamp(min=0)
    common = across * down
    iou = common / (w * h + w2 * h2 - common + eps)
    wide, tall = (high.maximum(high2) - low.minimum(low2)).square()
    dx, dy = (low2 + high2 - low - high).square()
    aspect = (4 / math.pi**2) * ((w2 / h2).atan() - (w / h).atan()).square()
    with torch.no_grad():
        alpha = aspect / (1 - iou + aspect + eps)
    return iou - ((dx + dy) / 4 / (wide + tall + eps) + aspect * alpha)


def at(values: Tensor, index: Tensor) -> Tensor:
    """Columns (..., S) of values (..., N): what values[..., index] is, and on a CPU several times faster."""
    return values.index_select(-1, index)
