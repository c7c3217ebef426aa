"""Training batches that are augmented on the device that trains.

Threads prepare a parcel for each batch: where its pixels are to be found, its boxes, and those parts of its photographs
that it shows, unless all photographs are on the device anyway. A GPU fetches the parcel and augments the images on a stream
of its own, while the batch before is trained on: copies do not use what computes at all, and kernels fill the gaps between
those of the step, which has many.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from yolo_cosine.data.augment import GREY, Boxes
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.device_augment import Sampling, augment_images, render
from yolo_cosine.data.index import TrainableBoxes
from yolo_cosine.data.layout import IS_LEFT_TOP, Layout, inverse_matrices, laid_boxes, lay_out, seen_part
from yolo_cosine.data.loader import TrainBatch
from yolo_cosine.data.parcel import Parcel
from yolo_cosine.data.resident import ResidentImages
from yolo_cosine.data.sampler import AugmentParams
from yolo_cosine.data.targets import Targets, pad_targets

_SAMPLING = ("center", "outer", "first", "pitch", "inverse", "colour")


@dataclass(frozen=True, eq=False)
class Packed:
    """A batch that is ready to be sent."""

    indices: np.ndarray  # (B,) int64, as in `TrainBatch`
    parcel: Parcel
    perspective: bool  # as in `Sampling`
    coloured: bool


class Feeder:
    """Makes batches on a device, from photographs that are there (`resident`) or are sent with each batch."""

    def __init__(
        self, store: ImageStore, labels: TrainableBoxes, device: torch.device, resident: ResidentImages | None = None
    ):
        self.store, self.labels, self.device, self.resident = store, labels, device, resident
        self.draw = render  # or what a compiler makes of it
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    # --- in threads ---------------------------------------------------------------------------------------------------

    def pack(self, indices: np.ndarray, params: AugmentParams) -> Packed:
        """Prepare a batch: what does not depend on where it is augmented, and all that the device has to be told.

        Raises:
            UserError: if not one image can be read.
        """
        size = self.store.size
        images, sizes, photographs = self._find(params.tiles, params.mosaic)
        layout = lay_out(params, images, sizes, size)
        inverse = inverse_matrices(layout, params.flipud, params.fliplr, size)
        if self.resident is not None:
            outer, corner, extent = layout.outer, layout.origin, layout.sizes
            first, count = self.resident.first[images], 0
        else:
            center = layout.center[:, None]
            outer = seen_part(layout, inverse, size)
            corner, extent = np.where(IS_LEFT_TOP, outer, center), abs(outer - center)
            end = 1 + np.cumsum(extent.prod(-1))
            first, count = end.reshape(-1, 4) - extent.prod(-1), int(end[-1])
        pitch = extent[..., 0]
        arrays = {
            "center": layout.center.astype(np.int32),
            "outer": outer.astype(np.int32),
            "first": first - corner[..., 1] * pitch - corner[..., 0],
            "pitch": pitch.astype(np.int32),
            "inverse": inverse.astype(np.float32),
            "colour": params.hsv.astype(np.float32),
            **_target_arrays(len(indices), self._boxes(layout, params)),
        }
        contents = {name: (array.dtype, array.shape) for name, array in arrays.items()}
        parcel = Parcel({**contents, "pixels": (np.uint8, (count, 3))}, pinned=self._stream is not None)
        for name, array in arrays.items():
            parcel.arrays[name][...] = array
        if photographs is not None:
            _copy_parts(parcel.arrays["pixels"], layout, photographs, first, corner, extent)
        return Packed(indices, parcel, bool(params.perspective.any()), bool(params.hsv.any()))

    def _find(self, tiles: np.ndarray, mosaic: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray] | None]:
        """The photographs that tiles stand for, (B, 4), their widths and heights, (B, 4, 2), and those that must be sent."""
        if self.resident is not None:
            images = self.resident.stands_for[tiles]
            return images, self.resident.sizes[images], None
        images, sizes, photographs = np.zeros_like(tiles), np.zeros((*tiles.shape, 2), dtype=np.int64), {}
        for tile in np.unique(tiles[mosaic[:, None] | (np.arange(4) == 0)]).tolist():  # each is decoded once, if at all
            image, photograph = self.store.readable(tile)
            photographs[image] = photograph
            images[tiles == tile], sizes[tiles == tile] = image, photograph.shape[1::-1]
        return images, sizes, photographs

    def _boxes(self, layout: Layout, params: AugmentParams) -> Boxes:
        owner, xyxy, row = laid_boxes(layout, self.labels, params.scale, self.store.size)
        for flipped, axis in ((params.flipud[owner], 1), (params.fliplr[owner], 0)):
            first, last = xyxy[:, axis].copy(), xyxy[:, axis + 2].copy()
            xyxy[:, axis] = np.where(flipped, self.store.size - last, first)
            xyxy[:, axis + 2] = np.where(flipped, self.store.size - first, last)
        return Boxes(owner, xyxy.astype(np.float32), self.labels.classes[row], self.labels.crowd[row])

    # --- where the batches are asked for ------------------------------------------------------------------------------

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
        """Have a batch made beside what the device does; nothing of this waits."""
        with contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            buffer = packed.parcel.buffer.to(self.device, non_blocking=True)
            found = packed.parcel.open(buffer)
            pixels = found.pop("pixels") if self.resident is None else self.resident.pixels
            sampling = Sampling(
                **{name: found[name] for name in _SAMPLING},
                perspective=packed.perspective,
                coloured=packed.coloured,
            )
            images = augment_images(pixels, sampling, self.store.size, self.draw)
            event = None if self._stream is None else self._stream.record_event()
        targets = Targets(**{field.name: found[field.name] for field in fields(Targets)})
        return TrainBatch(packed.indices, images, targets), buffer, event

    def _receive(self, batch: TrainBatch, buffer: Tensor, event: torch.cuda.Event | None) -> TrainBatch:
        """Let what the device is asked for from now on come after a batch is made; the host does not wait."""
        if event is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(event)
            # their memory belongs to the other stream, and must not be used again before this one is done with it
            batch.images.record_stream(stream)
            buffer.record_stream(stream)
        return batch


def _target_arrays(images: int, boxes: Boxes) -> dict[str, np.ndarray]:
    crowd = boxes.crowd
    targets = pad_targets(
        images, boxes.image[~crowd], boxes.classes[~crowd], boxes.xyxy[~crowd], boxes.image[crowd], boxes.xyxy[crowd]
    )
    return {name: tensor.numpy() for name, tensor in vars(targets).items()}


def _copy_parts(
    pixels: np.ndarray, layout: Layout, photographs: dict[int, np.ndarray], first: np.ndarray, corner: np.ndarray,
    extent: np.ndarray,
) -> None:  # fmt: skip
    """Copy what is seen of the photographs of a batch to (P, 3) pixels, and before them the grey."""
    pixels[0] = GREY
    for k, q in zip(*np.nonzero(extent.prod(-1)), strict=True):
        (x, y), (w, h), start = (corner - layout.origin)[k, q], extent[k, q], first[k, q]
        part = photographs[int(layout.images[k, q])][y : y + h, x : x + w]
        pixels[start : start + h * w].reshape(h, w, 3)[...] = part
