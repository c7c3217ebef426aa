"""A file of decoded images that processes map into their memory, so that they all look at one copy.

The images lie one after another, each (h, w, 3) uint8 as it is in memory. After them comes the index, three 64-bit
integers for each image (offset in bytes, height, width; height 0 for one that could not be read), and a digest of the
index and of what the file is of. It stands at the end, so a file that was cut short is not taken for a whole one, and a
file is written in one go. The pixels themselves are not checked when it is opened: that would mean to read them all.

A file that is deleted or replaced stays there for those who have it open. One that somebody else cuts short or writes into
does not: the system ends a process that looks at what is gone, and nothing here guards against that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from yolo_cosine.files import write_flushed

_ROW = np.dtype(("<i8", 3))  # offset, height, width
_FOOT = hashlib.sha256().digest_size


class MappedImages:
    """The N images of a file."""

    def __init__(self, content: np.ndarray, rows: np.ndarray):
        """
        Args:
            content: (bytes,) uint8, the file.
            rows: (N, 3) int64, its index.
        """
        self._content, self._rows = content, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i: int) -> np.ndarray | None:
        """(h, w, 3) uint8, read-only; None for one that could not be read."""
        offset, height, width = self._rows[i].tolist()
        if not height:
            return None
        return self._content[offset : offset + height * width * 3].reshape(height, width, 3)

    @property
    def unreadable(self) -> list[int]:
        """The images that could not be read when the file was written."""
        return np.flatnonzero(self._rows[:, 1] == 0).tolist()


def write_mapped(path: Path, of: str, images: Iterable[np.ndarray | None]) -> None:
    """Write images, (h, w, 3) uint8 or None each, as they come, and have the disk confirm it.

    Args:
        of: a digest of what the file is of.

    Raises:
        OSError: if it cannot be written; then there is no such file. Likewise for whatever `images` raises.
    """

    def parts() -> Iterator[bytes | memoryview]:
        rows, end = [], 0
        for image in images:
            if image is None:
                rows.append((end, 0, 0))
                continue
            rows.append((end, *image.shape[:2]))
            end += image.nbytes
            yield np.ascontiguousarray(image).data
        index = np.array(rows, dtype="<i8").tobytes()
        yield index
        yield _foot(of, index)

    write_flushed(path, parts())


def open_mapped(path: Path, of: str, count: int) -> MappedImages | None:
    """The images of a file; None if it is not there, not whole, or not of `count` images of what `of` is the digest of."""
    try:
        with open(path, "rb") as file:
            rows = _read_index(file, of, count)
            # as a plain array: slices of a memmap are slow to make
            return None if rows is None else MappedImages(np.asarray(np.memmap(file, np.uint8, mode="r")), rows)
    except OSError:
        return None


def _read_index(file: BinaryIO, of: str, count: int) -> np.ndarray | None:
    start = os.fstat(file.fileno()).st_size - _FOOT - count * _ROW.itemsize
    if start < 0:
        return None
    file.seek(start)
    index = file.read(count * _ROW.itemsize)
    if file.read() != _foot(of, index):
        return None
    rows = np.frombuffer(index, dtype="<i8").reshape(count, 3)
    return rows if 3 * int((rows[:, 1] * rows[:, 2]).sum()) == start else None


def _foot(of: str, index: bytes) -> bytes:
    return hashlib.sha256(of.encode() + index).digest()
