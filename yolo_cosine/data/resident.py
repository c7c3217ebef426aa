"""The decoded images of a split on the device that trains, copied there once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from yolo_cosine.data.augment import GREY
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.memory import free_memory

_SHARE = 0.25  # of what is free on the device: training needs the rest
_AT_ONCE = 64 * 2**20  # bytes that are copied in one go


@dataclass(frozen=True, eq=False)
class ResidentImages:
    """N images, P pixels in all."""

    pixels: Tensor  # (P, 3) uint8 RGB on the device; the first one is the grey around images
    stands_for: np.ndarray  # (N,) int64, the image itself, or the one that takes its place where it cannot be read
    sizes: np.ndarray  # (N, 2) int64, width and height, pixels; 0 where it cannot be read
    first: np.ndarray  # (N,) int64, an image's first pixel


def room_on(device: torch.device) -> int:
    """Bytes on a device that images may fill."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    elif device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    else:
        free = free_memory()
    return int(max(free, 0) * _SHARE)


def make_resident(store: ImageStore, device: torch.device, room: int) -> ResidentImages | None:
    """The images of a store on a device; None if they need more than `room` bytes there, or are not kept at all.

    Raises:
        UserError: if not one image can be read.
    """
    if not store.cached or store.bytes > room:
        return None
    count = len(store.index)
    stands_for, sizes = np.empty(count, dtype=np.int64), np.zeros((count, 2), dtype=np.int64)
    for i in range(count):
        stands_for[i], image = store.readable(i)
        if stands_for[i] == i:
            sizes[i] = image.shape[1::-1]
    end = 1 + np.cumsum(sizes.prod(1))
    if 3 * end[-1] > room:  # the annotations told otherwise
        return None
    first = end - sizes.prod(1)
    pixels = torch.empty(int(end[-1]), 3, dtype=torch.uint8, device=device)
    pixels[0] = GREY
    start = 0
    while start < count:
        stop = max(int(np.searchsorted(end, first[start] + _AT_ONCE // 3, side="right")), start + 1)
        images = [store.readable(i)[1].reshape(-1, 3) for i in range(start, stop) if stands_for[i] == i]
        if images:
            pixels[first[start] : end[stop - 1]].copy_(torch.from_numpy(np.concatenate(images)))
        start = stop
    return ResidentImages(pixels, stands_for, sizes, first)
