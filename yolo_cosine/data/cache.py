"""Decoded images: read, oriented and resized once, kept in memory where they fit."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import psutil

from yolo_cosine.data.index import Index

cv2.setNumThreads(1)  # images are worked on side by side; threads inside one would only contend


# What becomes of an image that cannot be decoded, for all who speak of one.
UNREADABLE_IN_TRAINING = "the next image that can be read takes its place"
UNREADABLE_IN_EVALUATION = "every object on it counts as not found"


def fitted_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height after the longer side was brought to `size`, as Ultralytics rounds them (up)."""
    ratio = size / max(width, height)
    return min(math.ceil(width * ratio), size), min(math.ceil(height * ratio), size)


def read_image(index: Index, i: int, size: int) -> np.ndarray | None:
    """Decode image `i` as (h, w, 3) uint8 RGB with its longer side at `size`; None if it cannot be read.

    EXIF orientation is applied, unless the annotations were made on the picture as it is stored: then their width and
    height are those of the stored picture, and turning it would part the boxes from their objects.
    """
    try:
        data = np.fromfile(index.path(i), dtype=np.uint8)
    except OSError:
        return None
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    except cv2.error:  # over a billion pixels
        image = None
    if image is None:
        return None
    annotated = tuple(index.sizes[i])
    if annotated != (image.shape[1], image.shape[0]) and annotated == (image.shape[0], image.shape[1]):
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    width, height = fitted_size(image.shape[1], image.shape[0], size)
    if (width, height) != (image.shape[1], image.shape[0]):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def free_memory() -> int:
    """Bytes that this process may fill: of the machine's and its container's, its share where torchrun started several."""
    free = psutil.virtual_memory().available
    try:
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            free = min(free, int(limit) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass  # no container, or one that does not say
    return max(free, 0) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))


class ImageStore:
    """The images of an index at one size, from memory or from disk.

    `unreadable` holds the images that could not be decoded: those found while everything is read, and those found
    later, when one is asked for. A grey image without boxes stands in for these, so that a bad sector does not end a
    run of hours.
    """

    def __init__(
        self, index: Index, size: int, cache: str, workers: int, progress: Callable[[int, int], None] | None = None
    ):
        """Read everything into memory where `cache` and the free memory allow it (`cached` tells).

        Args:
            cache: "ram", "none", or "auto" for memory if the images fit in half of what is free.
            progress: called with (images done, images in all) while they are read.
        """
        self.index, self.size = index, size
        self.fate = UNREADABLE_IN_TRAINING
        self.unreadable: set[int] = set()
        self._told: set[int] = set()
        self._images: list[np.ndarray | None] = [None] * len(index)
        known = np.maximum(index.sizes, 1)
        self.bytes = int((known * (size / known.max(1, keepdims=True))).prod(1).sum() * 3)
        self.cached = cache == "ram" or (cache == "auto" and self.bytes < free_memory() / 2)
        if self.cached:
            with ThreadPoolExecutor(max(workers, 1)) as pool:
                for i, image in enumerate(pool.map(lambda i: read_image(index, i, size), range(len(index)))):
                    if image is None:
                        self.unreadable.add(i)
                    self._images[i] = image
                    if progress is not None:
                        progress(i + 1, len(index))

    def untold(self) -> list[int]:
        """The unreadable images that no earlier call returned, in order: each is for its caller to name, once."""
        new = sorted(self.unreadable - self._told)
        self._told.update(new)
        return new

    def __getitem__(self, i: int) -> np.ndarray:
        """(h, w, 3) uint8 RGB with its longer side at `size`."""
        image = self._images[i] if self.cached else read_image(self.index, i, self.size)
        if image is None:
            self.unreadable.add(i)
            width, height = fitted_size(*(int(v) for v in np.maximum(self.index.sizes[i], 1)), self.size)
            image = np.full((height, width, 3), 114, dtype=np.uint8)
        return image
