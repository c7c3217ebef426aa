"""Training batches that are augmented on the device that trains.

Threads prepare what the device has to be told and sent of a batch. A GPU fetches it and makes the images on a stream of its
own, while the batch before is trained on: copies do not use what computes, and kernels fill the gaps between those of a
step. Nothing here waits for the device; its streams wait for each other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.device_augment import Sampling, augment_images, memory_meanwhile, render
from yolo_cosine.data.index import TrainableBoxes
from yolo_cosine.data.loader import TrainBatch
from yolo_cosine.data.packing import Packed, pack
from yolo_cosine.data.parcel import may_wait
from yolo_cosine.data.resident import ResidentImages
from yolo_cosine.data.sampler import AugmentParams
from yolo_cosine.data.targets import Targets

_SHOWN = 2  # times the pixels of an image is what it shows of its photographs, about: half of a mosaic's canvas
_COPYING = 4  # threads that are worth having where photographs need not be decoded: more would only hold more memory


def device_memory(rows: int, size: int, resident: bool, device: torch.device) -> int:
    """Bytes that a device needs, about, for batches of so many placed images: that which is trained on, that which is made,
    one that is not yet free again, and what it takes to make them.

    Args:
        size: side of the images, pixels.
        resident: whether the photographs are there.
    """
    images = rows * 3 * size**2
    return images * (3 if resident else 3 + 2 * _SHOWN) + memory_meanwhile(rows, size, device)


class Feeder:
    """Makes batches on a device, from photographs that are there (`resident`) or are sent with each batch."""

    def __init__(
        self, store: ImageStore, labels: TrainableBoxes, device: torch.device, resident: ResidentImages | None = None
    ):
        self.store, self.labels, self.device, self.resident = store, labels, device, resident
        self.draw = render  # or what a compiler makes of it
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._stream is not None:  # the resident images may still be on their way
            self._stream.wait_stream(torch.cuda.current_stream(device))

    def pack(self, indices: np.ndarray, params: AugmentParams, size: int) -> Packed:
        """Prepare a batch, in any thread (see `packing.pack`)."""
        pinned = self._stream is not None
        return pack(self.store, self.labels, indices, params, size, self.resident, pinned)

    def threads(self, wanted: int) -> int:
        """How many of them should pack."""
        return min(wanted, _COPYING) if self.store.cached else wanted

    def waiting(self, workers: int, rows: int) -> int:
        """How many packed batches of so many placed images may wait, if so many threads pack."""
        if self.resident is not None:
            return 2 * workers
        return may_wait(workers, _SHOWN * rows * 3 * self.store.size**2)

    def feed(self, batches: Generator[Packed, None, None]) -> Iterator[TrainBatch]:
        """The batches on the device, each on its way there while the one before is trained on."""
        with contextlib.closing(batches):
            before = None
            for packed in batches:
                sent = self._send(packed)
                if before is not None:
                    yield self._receive(*before)
                before = sent
            if before is not None:
                yield self._receive(*before)

    def _send(self, packed: Packed) -> tuple[TrainBatch, Tensor, torch.cuda.Event | None]:
        """Have a batch made beside what the device is at."""
        with contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            buffer = packed.parcel.buffer.to(self.device, non_blocking=self._stream is not None)
            found = packed.parcel.open(buffer)
            pixels = found.pop("pixels") if self.resident is None else self.resident.pixels
            told = {field.name: found[field.name] for field in fields(Sampling) if field.name in found}
            sampling = Sampling(**told, perspective=packed.perspective, coloured=packed.coloured)
            images = augment_images(pixels, sampling, self.store.size, self.draw)
            event = None if self._stream is None else self._stream.record_event()
        targets = Targets(**{field.name: found[field.name] for field in fields(Targets)})
        return TrainBatch(packed.indices, images, targets, packed.size), buffer, event

    def _receive(self, batch: TrainBatch, buffer: Tensor, event: torch.cuda.Event | None) -> TrainBatch:
        """Let what the device is asked for from now on come after a batch is made."""
        if event is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(event)
            # their memory belongs to the other stream, and must not be used again before this one is done with it
            batch.images.record_stream(stream)
            buffer.record_stream(stream)
        return batch
