"""Decoded images: read, oriented and resized once, kept in memory where they fit, or in a file that runs share.

An image that cannot be had is one of two things. A file that is not there or is no picture will be so tomorrow: that is a
property of the file, and the image counts as unreadable at once. A read that fails is a matter of the disk or the network,
and may pass: it is tried again. Where one image after another fails so, it is the disk, and no image is to blame.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from yolo_cosine.data.index import Index
from yolo_cosine.data.mapped import MappedImages
from yolo_cosine.data.memory import free_memory
from yolo_cosine.data.shared import shared_images
from yolo_cosine.data.workers import TIMEOUT, ahead, say_nothing
from yolo_cosine.errors import TrainingFailed, UserError, some_of

cv2.setNumThreads(1)  # images are worked on side by side; threads inside one would only contend


# What becomes of an image that cannot be decoded, for all who speak of one.
UNREADABLE_IN_TRAINING = "the next image that can be read takes its place"
UNREADABLE_IN_EVALUATION = "every object on it counts as not found"

_PAUSES = (0.2, 1.0, 4.0)  # seconds before a read that failed is tried again
_PERMANENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)  # trying again changes nothing
_DEAD = 32  # images, one after another, that the disk failed to read in all tries: then there is no disk


def fitted_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height after the longer side was brought to `size`, as Ultralytics rounds them (up)."""
    ratio = size / max(width, height)
    return min(math.ceil(width * ratio), size), min(math.ceil(height * ratio), size)


def read_image(index: Index, i: int, size: int) -> np.ndarray | None:
    """Decode image `i` as (h, w, 3) uint8 RGB with its longer side at `size`; None if it is not there or no picture.

    EXIF orientation is applied, unless the annotations were made on the picture as it is stored: then their width and
    height are those of the stored picture, and turning it would part the boxes from their objects.

    Raises:
        OSError: if the read fails again and again.
    """
    data = _read_file(index.path(i))
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data is not None and data.size else None
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


def _read_file(path: Path) -> np.ndarray | None:
    """(bytes,) uint8; None if there is no such file that may be read."""
    pauses = iter(_PAUSES)
    while True:
        try:
            # np.fromfile would pass the part before a failure off as the whole
            return np.frombuffer(path.read_bytes(), dtype=np.uint8)
        except _PERMANENT:
            return None
        except OSError:
            if (pause := next(pauses, None)) is None:
                raise
            time.sleep(pause)


def decoded_bytes(index: Index, size: int) -> int:
    """Bytes of all images of an index with their longer sides at `size`, about."""
    known = np.maximum(index.sizes, 1)
    return int((known * (size / known.max(1, keepdims=True))).prod(1).sum() * 3)


class ImageStore:
    """The images of an index at one size, from memory, from a file of decoded images, or from their own files.

    `unreadable` holds the images that could not be had: those found while everything is read, and those found later,
    when one is asked for. What is in it stays so, whatever becomes of the file. In training another image takes the place
    of such a one (`readable`), in evaluation it is grey (`store[i]`), so that a bad sector does not end a run of hours.
    """

    def __init__(
        self, index: Index, size: int, cache: str, workers: int, progress: Callable[[int, int], None] | None = None, *,
        folder: Path = Path("runs/.images"), fate: str = UNREADABLE_IN_EVALUATION, timeout: float = TIMEOUT,
        tell: Callable[[str], None] = say_nothing, say: Callable[[str], None] = say_nothing,
    ):  # fmt: skip
        """Decode everything beforehand where `cache` and the free room allow it (`cached` tells).

        Args:
            cache: "ram"; "disk" for a file in `folder` that all processes share, built where there is none; "none"; or
                "auto" for memory if the images fit in half of what is free, which is also what "disk" comes to where the
                file cannot be had.
            progress: called with (images done, images in all) while they are read.
            fate: what becomes of an unreadable image, in words.
            timeout: seconds after which a thread that is still reading one image is replaced.
            tell: told of such threads, and of a file that cannot be had.
            say: told what the reading waits for.

        Raises:
            UserError: if there is no such folder and none can be made.
            TrainingFailed: if the disk does not answer, or fails for one image after another.
        """
        self.index, self.size, self.fate = index, size, fate
        self.unreadable: set[int] = set()
        self._told: set[int] = set()
        self._next: dict[int, int] = {}  # unreadable image: one after it that could be read
        self._failed = 0  # images that the disk failed to read since it last did not
        self._may_pass = False  # whether an image counts as unreadable that another run may find well
        self.bytes = decoded_bytes(index, size)
        progress = progress or (lambda done, total: None)

        def decode(images: Sequence[int]) -> Iterator[np.ndarray | None]:
            yield from ahead(
                self._decode, images, workers, describe=lambda i: f"image {index.path(i)}", timeout=timeout, tell=tell
            )

        self._images: Sequence[np.ndarray | None] | MappedImages = ()
        trouble = None
        if cache == "disk":
            try:
                self._images = shared_images(
                    index, size, folder, decode, room=self.bytes, may_keep=lambda: not self._may_pass, progress=progress,
                    say=say,
                )  # fmt: skip
            except OSError as error:
                cache, trouble = "auto", error.strerror or error
        self.cached = cache in ("ram", "disk") or (cache == "auto" and self.bytes < free_memory() / 2)
        if trouble:
            remedy = "write a smaller imgsz, or a cache_dir where there is room, or train with more memory"
            instead = "kept in memory, by this run alone" if self.cached else f"decoded anew each time; {remedy}"
            tell(f"{index.source}: decoded images cannot be shared in {folder}: {trouble}; they are {instead}")
        if self.cached and cache != "disk":
            self._images = []
            for image in decode(range(len(index))):
                self._images.append(image)
                progress(len(self._images), len(index))

    @property
    def mapped(self) -> bool:
        """Whether the images lie in a file, and come to memory when they are looked at."""
        return isinstance(self._images, MappedImages)

    def untold(self) -> list[int]:
        """The unreadable images that no earlier call returned, in order: each is for its caller to name, once."""
        new = sorted(self.unreadable - self._told)
        self._told.update(new)
        return new

    def news(self) -> str | None:
        """The unreadable images that nobody was told of yet and what becomes of them, in words; None if there are none."""
        new = self.untold()
        files = some_of(new, lambda i: str(self.index.path(i)))
        return f"{self.index.source}: {len(new)} image(s) cannot be read: {files}; {self.fate}" if new else None

    def __getitem__(self, i: int) -> np.ndarray:
        """(h, w, 3) uint8 RGB with its longer side at `size`; all grey if it cannot be read."""
        image = self._get(i)
        if image is None:
            width, height = fitted_size(*(int(v) for v in np.maximum(self.index.sizes[i], 1)), self.size)
            image = np.full((height, width, 3), 114, dtype=np.uint8)
        return image

    def readable(self, i: int) -> tuple[int, np.ndarray]:
        """Image `i`, or the next one of the list (from its end on to its start) that can be read, after its number.

        Raises:
            UserError: if there is none.
        """
        k = i
        for _ in range(len(self.index)):
            k = self._next.get(k, k)  # those between cannot be read; where there are many, nobody asks each again
            image = self._get(k)
            if image is not None:
                if k != i:
                    self._next[i] = k
                return k, image
            k = (k + 1) % len(self.index)
        files = some_of(range(len(self.index)), lambda k: str(self.index.path(k)))
        raise UserError(
            f"{self.index.source}: none of the {len(self.index)} images can be read ({files}); mend the files"
        )

    def _get(self, i: int) -> np.ndarray | None:
        if i in self.unreadable:
            return None
        return self._images[i] if self.cached else self._decode(i)

    def _decode(self, i: int) -> np.ndarray | None:
        """Read an image, and keep in mind if that cannot be done."""
        try:
            image = read_image(self.index, i, self.size)
            self._failed = 0
        except OSError as error:
            image = None
            self._may_pass = True
            self._failed += 1  # threads may count past each other; it need not be exact
            if self._failed >= _DEAD:
                raise TrainingFailed(
                    f"{self.index.source}: {self._failed} images, one after another, could not be read in {1 + len(_PAUSES)} tries "
                    f"each, the last one {self.index.path(i)}: {error.strerror or error}; mend the disk or its network"
                ) from error
        if image is None:
            self.unreadable.add(i)
        return image
