"""Where the anchors of an image are, and how well two boxes agree."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
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


def ciou(first: Sequence[Tensor], second: Sequence[Tensor], eps: float = 1e-7) -> Tensor:
    """Complete IoU of boxes: IoU - d**2 / c**2 - alpha * v.

    d is the distance of their centres, c the diagonal of the smallest box around both, and v tells how their aspects
    differ, with the weight alpha = v / (1 - IoU + v), through which no gradient flows.

    Source: Zheng et al. (arXiv 1911.08287). The operations, their order and eps are those of Ultralytics' bbox_iou.

    Args:
        first, second: x1, y1, x2 and y2 of the boxes, four tensors each; all of them broadcast.
    """
    ax1, ay1, ax2, ay2 = first
    bx1, by1, bx2, by2 = second
    aw, ah, bw, bh = ax2 - ax1, ay2 - ay1 + eps, bx2 - bx1, by2 - by1 + eps
    width, height = ax2.minimum(bx2) - ax1.maximum(bx1), ay2.minimum(by2) - ay1.maximum(by1)
    common = width.clamp(min=0) * height.clamp(min=0)
    iou = common / (aw * ah + bw * bh - common + eps)
    diagonal = (ax2.maximum(bx2) - ax1.minimum(bx1)).square() + (ay2.maximum(by2) - ay1.minimum(by1)).square() + eps
    distance = ((bx1 + bx2 - ax1 - ax2).square() + (by1 + by2 - ay1 - ay2).square()) / 4
    aspect = (4 / math.pi**2) * ((bw / bh).atan() - (aw / ah).atan()).square()
    with torch.no_grad():
        alpha = aspect / (1 - iou + aspect + eps)
    return iou - (distance / diagonal + aspect * alpha)


def at(values: Tensor, index: Tensor) -> Tensor:
    """Columns (..., S) of values (..., N): what values[..., index] is, and on a CPU several times faster."""
    return values.index_select(-1, index)
