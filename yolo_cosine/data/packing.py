"""What a device has to be told and sent of a batch, so that it can make the images: the CPU's part, batch by batch.

Of photographs that are not on the device, it is sent what the images show of them: of a mosaic, less than half. A
photograph that is shown twice in a batch is decoded once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from yolo_cosine.data.augment import GREY, Boxes
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.index import TrainableBoxes
from yolo_cosine.data.layout import IS_LEFT_TOP, Layout, inverse_matrices, laid_boxes, lay_out, seen_part
from yolo_cosine.data.loader import padded
from yolo_cosine.data.mixing import Objects, cut_area
from yolo_cosine.data.parcel import Parcel
from yolo_cosine.data.resident import ResidentImages
from yolo_cosine.data.sampler import AugmentParams, Placement

_NONE = np.zeros(0, dtype=np.int64)


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
    blended, pasted = (_NONE if mix is None else np.flatnonzero(mix.on) for mix in (params.mixup, params.cutmix))
    rows = _rows(params, blended, pasted)
    owner = np.concatenate((np.arange(len(params)), blended, pasted))
    images, sizes, photographs = _find(store, rows, resident)
    layout = lay_out(rows, images, sizes, store.size)
    inverse = inverse_matrices(layout, params.flipud[owner], params.fliplr[owner], store.size)
    boxes, areas = _boxes(layout, labels, rows.scale, params, blended, pasted, store.size)
    if resident is not None:
        outer, corner, extent, first, end = layout.outer, layout.origin, layout.sizes, resident.first[images], 0
    else:
        center = layout.center[:, None]
        outer = seen_part(layout, inverse, store.size)
        corner, extent = np.where(IS_LEFT_TOP, outer, center), abs(outer - center)
        ends = 1 + np.cumsum(extent.prod(-1)).reshape(-1, 4)
        first, end = ends - extent.prod(-1), int(ends[-1, -1])
    pitch = extent[..., 0]
    targets = padded(len(indices), boxes, size / store.size)
    arrays = {
        "center": layout.center.astype(np.int32),
        "outer": outer.astype(np.int32),
        "first": first - corner[..., 1] * pitch - corner[..., 0],
        "pitch": pitch.astype(np.int32),
        "inverse": inverse.astype(np.float32),
        "colour": params.hsv.astype(np.float32),
        "blended": blended,
        "share": params.mixup.share[blended].astype(np.float32)
        if params.mixup is not None
        else np.zeros(0, np.float32),
        "pasted": pasted,
        "areas": areas.astype(np.int32),
        **{name: tensor.numpy() for name, tensor in vars(targets).items()},
    }
    contents = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    parcel = Parcel({**contents, "pixels": (np.dtype(np.uint8), (end, 3))}, pinned)
    for name, array in arrays.items():
        parcel.arrays[name][...] = array
    if resident is None:
        _copy_parts(parcel.arrays["pixels"], layout, photographs, first, corner, extent)
    return Packed(indices, size, parcel, bool(rows.perspective.any()), bool(params.hsv.any()))


def _rows(params: AugmentParams, blended: np.ndarray, pasted: np.ndarray) -> Placement:
    """How the images are placed, then those that are blended into some of them, then those that are pasted."""
    parts: list[tuple[Placement, np.ndarray | slice]] = [(params, slice(None))]
    parts += [(mix.other, of) for mix, of in ((params.mixup, blended), (params.cutmix, pasted)) if mix is not None]
    names = [field.name for field in fields(Placement)]
    return Placement(**{name: np.concatenate([getattr(part, name)[of] for part, of in parts]) for name in names})


def _find(
    store: ImageStore, rows: Placement, resident: ResidentImages | None
) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
    """The photographs that tiles stand for, (R, 4), their widths and heights, (R, 4, 2), and their pixels, if needed."""
    tiles = rows.tiles
    if resident is not None:
        images = resident.stands_for[tiles]
        return images, resident.sizes[images], {}
    images, sizes = np.zeros_like(tiles), np.zeros((*tiles.shape, 2), dtype=np.int64)
    used = rows.mosaic[:, None] | (np.arange(4) == 0)
    wanted, place = np.unique(tiles[used], return_inverse=True)
    found = [store.readable(i) for i in wanted.tolist()]
    images[used] = np.array([image for image, _ in found])[place]
    sizes[used] = np.array([photograph.shape[1::-1] for _, photograph in found])[place]
    return images, sizes, dict(found)


def _boxes(
    layout: Layout, labels: TrainableBoxes, scale: np.ndarray, params: AugmentParams, blended: np.ndarray,
    pasted: np.ndarray, size: int,
) -> tuple[Boxes, np.ndarray]:  # fmt: skip
    """The boxes of the images, and (C, 4) int64 xyxy, pixels: the areas that are pasted, empty where there is none."""
    row, xyxy, label = laid_boxes(layout, labels, scale, size)
    objects = Objects(xyxy, labels.classes[label], labels.crowd[label])
    areas = np.zeros((len(pasted), 4), dtype=np.int64)
    if len(layout.images) > len(params):
        ends = np.searchsorted(row, np.arange(len(layout.images)), side="right")
        each = [objects[start:end] for start, end in zip((0, *ends[:-1]), ends, strict=True)]
        each, others = each[: len(params)], iter(each[len(params) :])
        for k in blended:
            each[k] += next(others)
        for c, k in enumerate(pasted):
            area, each[k] = cut_area(each[k], next(others), params.cutmix.areas[k], params.cutmix.choice[k])
            areas[c] = area or 0
        row = np.repeat(np.arange(len(params)), [len(some.classes) for some in each])
        objects = Objects(*(np.concatenate(part) for part in zip(*(vars(some).values() for some in each), strict=True)))
    boxes = _flipped(objects.xyxy, params, row, size)
    return Boxes(row, boxes.astype(np.float32), objects.classes, objects.crowd), _flipped(areas, params, pasted, size)


def _flipped(xyxy: np.ndarray, params: AugmentParams, row: np.ndarray, size: int) -> np.ndarray:
    """(K, 4) boxes of these rows, pixels, as they lie when their images are flipped."""
    flip = np.stack((params.fliplr[row], params.flipud[row]), 1)
    first, last = xyxy[:, :2], xyxy[:, 2:]
    return np.concatenate((np.where(flip, size - last, first), np.where(flip, size - first, last)), 1)


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
