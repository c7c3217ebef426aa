"""Arrays laid one after another in one buffer, so that one copy takes all of them to a device."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from yolo_cosine.data.memory import free_memory

_ALIGNED = 16  # bytes: where an array may begin
_PINNED = 2**30  # bytes of pinned memory that batches may wait in, where a machine's memory is small
_SHARE = 16  # of a larger one's free memory they may have the sixteenth part

Shape = tuple[int, ...]


def may_wait(workers: int, size: int) -> int:
    """How many batches of about `size` bytes may be made ahead in pinned memory, which the system can use for nothing else.

    PyTorch keeps pinned memory in pieces of whole powers of two.
    """
    room, piece = max(_PINNED, free_memory() // _SHARE), 1 << max(size - 1, 0).bit_length()
    return min(2 * max(workers, 1), max(2, room // piece))


class Parcel:
    """A buffer with room for arrays of the given types and shapes, filled through `arrays`.

    Args:
        contents: the type and shape of each array, by name.
        pinned: in memory that stays where it is, which a GPU copies from by itself. PyTorch hands out such memory again,
            but only when the copies that were begun from it are done.
    """

    def __init__(self, contents: Mapping[str, tuple[np.dtype | type, Shape]], pinned: bool = False):
        self._places: dict[str, tuple[int, int, torch.dtype, Shape]] = {}
        spans, end = {}, 0
        for name, (kind, shape) in contents.items():
            start, dtype = -(-end // _ALIGNED) * _ALIGNED, np.dtype(kind)
            end = start + dtype.itemsize * int(np.prod(shape))
            self._places[name] = start, end, torch.from_numpy(np.empty(0, dtype)).dtype, shape
            spans[name] = start, end, dtype, shape
        self.buffer = torch.empty(end, dtype=torch.uint8, pin_memory=pinned)
        memory = self.buffer.numpy()
        self.arrays = {
            name: memory[start:end].view(dtype).reshape(shape) for name, (start, end, dtype, shape) in spans.items()
        }

    def open(self, buffer: Tensor) -> dict[str, Tensor]:
        """The arrays in a copy of the buffer, as views of it."""
        return {
            name: buffer[start:end].view(dtype).view(shape) for name, (start, end, dtype, shape) in self._places.items()
        }
