"""The images of a batch on the CPU, all at once and by all its threads: what `augment.py` has OpenCV do, in one pass in C.

It makes the same images within the rounding of OpenCV's arithmetic, as `device_augment.py` does on a GPU, and no canvas. What
threads of Python could do side by side here is little: they would take turns with the interpreter, and PyTorch's own threads
wait spinning for a while after each step, on the cores that the others would need.
"""

from __future__ import annotations

import ctypes
import sys

import numpy as np

from yolo_cosine import kernels
from yolo_cosine.data.arrange import arrange
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.index import TrainableBoxes
from yolo_cosine.data.mixing import blend
from yolo_cosine.data.sampler import AugmentParams
from yolo_cosine.data.shared_batches import Arrays

# `Image` of host_augment.c
_IMAGE = np.dtype(
    [
        ("center", np.int32, 2), ("outer", np.int32, (4, 2)), ("origin", np.uintp, 4), ("pitch", np.intp, 4),
        ("inverse", np.float32, 9), ("colour", np.float32, 3),
    ],
    align=True,
)  # fmt: skip


def can_augment() -> bool:
    """Whether the kernel is there: it is compiled on this machine."""
    return sys.byteorder == "little" and _kernel() is not None


def _kernel() -> ctypes.CDLL | None:
    return kernels.load("data/host_augment", "-ffp-contract=off")


def augment_batch(store: ImageStore, labels: TrainableBoxes, params: AugmentParams, threads: int) -> Arrays:
    """The B images of a batch and what is on them.

    Args:
        threads: of the kernel; the images do not depend on it. More than one only where PyTorch's are used, too.

    Returns:
        `images` (B, S, S, 3) uint8 RGB; of all K boxes `image` (K,) int64, `xyxy` (K, 4) float32 in pixels, `classes` (K,)
        int64 and `crowd` (K,) bool, as in `Boxes`.

    Raises:
        UserError: if not one image can be read.
    """
    made = arrange(store, labels, params)
    count, rows, size = len(params), len(made.inverse), store.size
    told = np.zeros(rows, dtype=_IMAGE)
    told["center"], told["outer"] = made.layout.center, made.layout.outer
    told["inverse"] = made.inverse.reshape(rows, 9)
    told["colour"][:count] = params.hsv
    sizes, origin = made.layout.sizes, made.layout.origin
    told["pitch"] = 3 * sizes[..., 0]
    # the kernel is given addresses: the photographs have to live until it is done, and lie without gaps
    photographs = {i: np.ascontiguousarray(pixels) for i, pixels in made.photographs.items()}
    address = {i: pixels.ctypes.data for i, pixels in photographs.items()}
    first = np.array([address.get(i, 0) for i in made.layout.images.ravel().tolist()], dtype=np.intp).reshape(rows, 4)
    first -= origin[..., 1] * told["pitch"] + 3 * origin[..., 0]
    told["origin"] = first.view(np.uintp)
    images = np.empty((rows, size, size, 3), dtype=np.uint8)
    mixed, coloured = rows > count, bool(params.hsv.any())
    _call("make", told, rows, size, int(made.perspective), int(coloured and not mixed), images, threads)
    if mixed:
        others = iter(images[count:])
        for k, share in zip(made.blended, made.share, strict=True):
            blend(images[k], next(others), share, out=images[k])
        for k, (x1, y1, x2, y2) in zip(made.pasted, made.areas.tolist(), strict=True):
            images[k, y1:y2, x1:x2] = next(others)[y1:y2, x1:x2]
        if coloured:
            _call("recolour", told, count, ctypes.c_long(size * size), images, threads)
    return {"images": images[:count].copy() if mixed else images, **vars(made.boxes)}  # not what was mixed in


def _call(name: str, told: np.ndarray, count: int, *rest: object) -> None:
    values = (ctypes.c_void_p(x.ctypes.data) if isinstance(x, np.ndarray) else x for x in rest)
    getattr(_kernel(), name)(ctypes.c_void_p(told.ctypes.data), ctypes.c_long(count), *values)
