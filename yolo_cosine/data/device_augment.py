"""The augmentation of a batch as operations on tensors, on whatever device trains: pixels of photographs to pixels of images.

What is done to an image is what `augment.py` lets OpenCV do, and every pixel is the same within the rounding of OpenCV's
arithmetic. No canvas is ever made: each pixel of an image is looked up in the photographs themselves. Nothing here waits
for the device, no shape depends on what is in a tensor, and every operation works on each pixel by itself, so that a
compiler can make one kernel of `render`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_AT_ONCE = 2**22  # pixels of the output that are worked on together
_AT_ONCE_ON_GPU = 2**24  # there a batch takes as long as its kernels are many
_MEANWHILE = 110  # bytes that are needed for each of them, about


@dataclass(frozen=True, eq=False)
class Sampling:
    """Where the pixels of B images are, and what becomes of them.

    There are R rows, each a placed image: the B images, then as many as are blended into one of these, then as many of
    which an area is pasted over one; R = B without mixing.

    A canvas is parted at its centre into quarters (top left, top right, bottom left, bottom right) with a photograph each,
    which reaches from the centre to an outer edge; what is not covered is grey. Canvas coordinates are whole at the middle
    of a pixel.
    """

    center: Tensor  # (R, 2) int32, x and y of the first column and row that belong to the right and lower quarters
    outer: Tensor  # (R, 4, 2) int32, x and y of a photograph's outer edge: its first column if it is left, else one past its last
    first: Tensor  # (R, 4) int64, where (0, 0) of the canvas would be among the pixels, if the photograph went on until there
    pitch: Tensor  # (R, 4) int32, pixels from one row of a photograph to the next
    inverse: Tensor  # (R, 3, 3) float32, from pixels of the output to those of the canvas; flips are part of it
    colour: Tensor  # (B, 3) float32: hue shift (fraction of the circle), saturation gain and value gain around 0
    blended: Tensor  # (M,) int64, the images that another one is blended into, each once
    share: Tensor  # (M,) float32, of the image itself
    pasted: Tensor  # (C,) int64, the images that a part of another one is pasted over, each once
    areas: Tensor  # (C, 4) int32 xyxy, pixels of the output, [start, end): which part
    perspective: bool  # whether the third row of a matrix is any other than 0, 0, 1
    coloured: bool  # whether `colour` is anything but zeros


def augment_images(pixels: Tensor, sampling: Sampling, size: int, draw: Callable[..., Tensor] | None = None) -> Tensor:
    """Make the images of a batch, some at a time.

    Args:
        pixels: (P, 3) uint8 RGB, all photographs one after another, row by row. The first pixel is the grey around them.
        size: side S of the images, pixels.
        draw: `render`, or what a compiler has made of it.

    Returns:
        (B, 3, S, S) uint8 RGB, channels last in memory.
    """
    draw, rows, count = draw or render, len(sampling.center), len(sampling.colour)
    mixed = rows > count
    tensors = [getattr(sampling, name) for name in ("center", "outer", "first", "pitch", "inverse", "colour")]
    images = torch.empty(rows, size, size, 3, dtype=torch.uint8, device=pixels.device)
    for some in _in_turn(rows, size, pixels.device):
        images[some] = draw(
            pixels, *(t[some] for t in tensors), size, sampling.perspective, sampling.coloured and not mixed
        )
    if mixed:
        images = _mix(images, sampling)
        for some in _in_turn(count, size, pixels.device) if sampling.coloured else ():
            part = images[some]
            part.copy_(_shift_colours(part.float().flatten(1, 2), sampling.colour[some]).view_as(part))
    return images.permute(0, 3, 1, 2)


def memory_meanwhile(rows: int, size: int, device: torch.device) -> int:
    """Bytes that a device needs, about, while it makes so many rows of images, on top of what it makes."""
    return _MEANWHILE * size**2 * min(rows, _step(size, device))


def _step(size: int, device: torch.device) -> int:
    return max((_AT_ONCE_ON_GPU if device.type == "cuda" else _AT_ONCE) // size**2, 1)


def _in_turn(count: int, size: int, device: torch.device) -> Iterator[slice]:
    """The images that are worked on at a time."""
    step = _step(size, device)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _mix(images: Tensor, sampling: Sampling) -> Tensor:
    """Blend and paste the later of (R, S, S, 3) images into the first B, as `mixing.py` does, and return these."""
    count, size = len(sampling.colour), images.shape[1]
    images, blended, pasted = images.split([count, len(sampling.blended), len(sampling.pasted)])
    for some in _in_turn(len(blended), size, images.device):
        of, share = sampling.blended[some], sampling.share[some].view(-1, 1, 1, 1)
        mixed = images.index_select(0, of) * share + blended[some] * (1 - share)
        images.index_copy_(0, of, mixed.to(torch.uint8))
    row = torch.arange(size, device=images.device).view(1, -1, 1, 1)
    column = row.view(1, 1, -1, 1)
    for some in _in_turn(len(pasted), size, images.device):
        of = sampling.pasted[some]
        x1, y1, x2, y2 = sampling.areas[some].view(-1, 4, 1, 1, 1).unbind(1)
        inside = (row >= y1) & (row < y2) & (column >= x1) & (column < x2)
        images.index_copy_(0, of, torch.where(inside, pasted[some], images.index_select(0, of)))
    return images


def render(
    pixels: Tensor, center: Tensor, outer: Tensor, first: Tensor, pitch: Tensor, inverse: Tensor, colour: Tensor, size: int,
    perspective: bool, coloured: bool,
) -> Tensor:  # fmt: skip
    """(R, S, S, 3) uint8: some rows of a `Sampling`, all at once."""
    x, y = _positions(inverse, size, perspective)
    left, top = x.floor(), y.floor()
    right_share, low_share = (x - left).unsqueeze(-1), (y - top).unsqueeze(-1)
    left, top = left.int(), top.int()

    def between(row: Tensor) -> Tensor:
        ends = (pixels[_addresses(column, row, center, outer, first, pitch)].float() for column in (left, left + 1))
        return torch.lerp(*ends, right_share)

    image = torch.lerp(between(top), between(top + 1), low_share)
    image = image.round()  # as in OpenCV, colours are changed in whole numbers
    if coloured:
        image = _shift_colours(image, colour)
    return image.to(torch.uint8).view(len(center), size, size, 3)


def _positions(inverse: Tensor, size: int, perspective: bool) -> tuple[Tensor, Tensor]:
    """(B, S*S) float32 each: x and y on the canvas of every pixel of the output, row by row."""
    place = torch.arange(size * size, device=inverse.device)
    u, v = (place % size).to(inverse.dtype), (place // size).to(inverse.dtype)
    # not a product of matrices, which some GPUs round to 10 bits
    axes = [inverse[:, k, :1] * u + inverse[:, k, 1:2] * v + inverse[:, k, 2:] for k in range(3 if perspective else 2)]
    if perspective:
        axes = [axis / axes[2] for axis in axes[:2]]
    # no canvas is wider than 2S; what is far outside is as grey as what is near
    return axes[0].clamp(-2, 2 * size + 1), axes[1].clamp(-2, 2 * size + 1)


def _addresses(x: Tensor, y: Tensor, center: Tensor, outer: Tensor, first: Tensor, pitch: Tensor) -> Tensor:
    """(B, K) int64: where the pixels (x, y) of the canvas are, (B, K) int32 each; 0, where the grey is, if none covers them."""
    right, low = x >= center[:, :1], y >= center[:, 1:]
    quarter = torch.where(low, 2, 0) + right
    covered = ((x >= outer[..., 0].gather(1, quarter)) ^ right) & ((y >= outer[..., 1].gather(1, quarter)) ^ low)
    address = first.gather(1, quarter) + y * pitch.gather(1, quarter) + x
    return torch.where(covered, address, 0)


def _shift_colours(image: Tensor, colour: Tensor) -> Tensor:
    """Shift the hue and scale saturation and value of (B, K, 3) RGB, whole numbers 0 to 255 as float32.

    The steps are those of OpenCV's conversions for 8 bits (modules/imgproc/src/color_hsv.simd.hpp): hue in 180 parts of
    the circle, quotients with 12 bits after the point, and what comes back rounded down.
    """
    shift, saturation_gain, value_gain = (part.unsqueeze(1) for part in colour.unbind(1))
    red, green, blue = image.unbind(-1)
    value = image.amax(-1)
    spread = value - image.amin(-1)
    hue = torch.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    hue = _fixed_ratio(torch.where(value == red, green - blue, hue), 30, spread)
    saturation = _fixed_ratio(spread, 255, value)
    hue = (hue + 180 * shift).remainder(180).floor()
    saturation = (saturation * (1 + saturation_gain)).clamp(0, 255).floor()
    value = (value * (1 + value_gain)).clamp(0, 255).floor()
    # from here on in the order of OpenCV's operations: products that should be whole are rounded down if they are not
    saturation, value, sixths = saturation * (1 / 255), value * (1 / 255), hue * (6 / 180)
    channels = []
    for sector in (5, 3, 1):
        place = (sixths + sector).remainder(6)
        channels.append(value * (1 - saturation * torch.minimum(place, 4 - place).clamp(0, 1)) * 255)
    return torch.stack(channels, -1).floor()


def _fixed_ratio(part: Tensor, times: int, whole: Tensor) -> Tensor:
    """`times * part / whole` to the nearest whole number, as OpenCV's tables have it; 0 for nothing of nothing."""
    return ((part * (4096 * times / whole.clamp(min=1)).round() + 2048) / 4096).floor()
