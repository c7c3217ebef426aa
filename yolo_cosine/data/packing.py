"""What a device has to be told and sent of a batch, so that it can make the images: the CPU's part, batch by batch.

Of photographs that are not on the device, it is sent what the images show of them: of a mosaic, less than half.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolo_cosine.data.arrange import arrange
from yolo_cosine.data.augment import GREY
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.index import TrainableBoxes
from yolo_cosine.data.layout import IS_LEFT_TOP, Layout, seen_part
from yolo_cosine.data.loader import padded
from yolo_cosine.data.parcel import Parcel
from yolo_cosine.data.resident import ResidentImages
from yolo_cosine.data.sampler import AugmentParams


@dataclass(frozen=True, eq=False)
class Packed:
    """A batch that is ready to be sent."""

    indices: np.ndarray  # (B,) int64, as in `TrainBatch`
    size: int  # as in `TrainBatch`
    parcel: Parcel  # the tensors of a `Sampling`, those of `Targets`, and (P, 3) uint8 pixels unless they are resident
    perspective: bool  # as in `Sampling`
    coloured: bool


def pack(
    store: ImageStore, labels: TrainableBoxes, indices: np.ndarray, params: AugmentParams, size: int,
    resident: ResidentImages | None = None, pinned: bool = False,
) -> Packed:  # fmt: skip
    """Prepare a batch.

    Args:
        indices: (B,) int64, the images of the index whose turn it is.
        size: side at which the network will see the images, pixels.
        resident: the photographs, where they are on the device.
        pinned: as for `Parcel`.

    Raises:
        UserError: if not one image can be read.
    """
    made = arrange(store, labels, params, resident)
    layout = made.layout
    if resident is not None:
        outer, corner, extent, first, end = layout.outer, layout.origin, layout.sizes, resident.first[layout.images], 0
    else:
        center = layout.center[:, None]
        outer = seen_part(layout, made.inverse, store.size)
        corner, extent = np.where(IS_LEFT_TOP, outer, center), abs(outer - center)
        ends = 1 + np.cumsum(extent.prod(-1)).reshape(-1, 4)
        first, end = ends - extent.prod(-1), int(ends[-1, -1])
    pitch = extent[..., 0]
    targets = padded(len(indices), made.boxes, size / store.size)
    arrays = {
        "center": layout.center.astype(np.int32),
        "outer": outer.astype(np.int32),
        "first": first - corner[..., 1] * pitch - corner[..., 0],
        "pitch": pitch.astype(np.int32),
        "inverse": made.inverse.astype(np.float32),
        "colour": params.hsv.astype(np.float32),
        "blended": made.blended,
        "share": made.share.astype(np.float32),
        "pasted": made.pasted,
        "areas": made.areas.astype(np.int32),
        **{name: tensor.numpy() for name, tensor in vars(targets).items()},
    }
    contents = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    parcel = Parcel({**contents, "pixels": (np.dtype(np.uint8), (end, 3))}, pinned)
    for name, array in arrays.items():
        parcel.arrays[name][...] = array
    if resident is None:
        _copy_parts(parcel.arrays["pixels"], layout, made.photographs, first, corner, extent)
    return Packed(indices, size, parcel, made.perspective, bool(params.hsv.any()))


def _copy_parts(
    pixels: np.ndarray, layout: Layout, photographs: dict[int, np.ndarray], first: np.ndarray, corner: np.ndarray,
    extent: np.ndarray,
) -> None:  # fmt: skip
    """Copy what is seen of the photographs to (P, 3) pixels, after the grey.

    Args:
        first: (R, 4) int64, where each begins among the pixels.
        corner: (R, 4, 2) int64, x and y of what is seen of each on its canvas, pixels. extent: width and height, likewise.
    """
    pixels[0] = GREY
    where = corner - layout.origin
    for k, q in zip(*np.nonzero(extent.prod(-1)), strict=True):
        (x, y), (w, h), start = where[k, q], extent[k, q], first[k, q]
        part = photographs[int(layout.images[k, q])][y : y + h, x : x + w]
        pixels[start : start + h * w].reshape(h, w, 3)[...] = part
