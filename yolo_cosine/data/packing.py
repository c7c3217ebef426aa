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
    rows, owner = _rows(params)
    images, sizes, photographs = _find(store, rows, resident)
    layout = lay_out(rows, images, sizes, store.size)
    inverse = inverse_matrices(layout, params.flipud[owner], params.fliplr[owner], store.size)
    boxes, mixed = _boxes(layout, labels, rows.scale, params, owner, store.size)
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
        **mixed,
        **{name: tensor.numpy() for name, tensor in vars(targets).items()},
    }
    contents = {name: (array.dtype, array.shape) for name, array in arrays.items()}
    parcel = Parcel({**contents, "pixels": (np.dtype(np.uint8), (end, 3))}, pinned)
    for name, array in arrays.items():
        parcel.arrays[name][...] = array
    if resident is None:
        _copy_parts(parcel.arrays["pixels"], layout, photographs, first, corner, extent)
    return Packed(indices, size, parcel, bool(rows.perspective.any()), bool(params.hsv.any()))


def _rows(params: AugmentParams) -> tuple[Placement, np.ndarray]:
    """The placements of B images, of those that are blended into them, and of those pasted; and the images they are for."""
    parts: list[tuple[Placement, np.ndarray]] = [(params, np.arange(len(params)))]
    parts += [(mix.other, np.flatnonzero(mix.on)) for mix in (params.mixup, params.cutmix) if mix is not None]
    names = [field.name for field in fields(Placement)]
    rows = {name: np.concatenate([getattr(some, name)[of] for some, of in parts]) for name in names}
    return Placement(**rows), np.concatenate([of for _, of in parts])


def _find(
    store: ImageStore, rows: Placement, resident: ResidentImages | None
) -> tuple[np.ndarray, np.ndarray, dict[int, np.ndarray]]:
    """The photographs that tiles stand for, (R, 4), their widths and heights, (R, 4, 2), and their pixels, if needed."""
    tiles = rows.tiles
    if resident is not None:
        images = resident.stands_for[tiles]
        return images, resident.sizes[images], {}
    images, sizes, photographs = np.zeros_like(tiles), np.zeros((*tiles.shape, 2), dtype=np.int64), {}
    used = rows.mosaic[:, None] | (np.arange(4) == 0)
    for tile in np.unique(tiles[used]).tolist():
        image, photograph = store.readable(tile)
        photographs[image] = photograph
        images[tiles == tile], sizes[tiles == tile] = image, photograph.shape[1::-1]
    return images, sizes, photographs


def _boxes(
    layout: Layout, labels: TrainableBoxes, scale: np.ndarray, params: AugmentParams, owner: np.ndarray, size: int
) -> tuple[Boxes, dict[str, np.ndarray]]:
    """The boxes of the B images, and what the device has to be told of their mixing."""
    count = len(params)
    row, xyxy, label = laid_boxes(layout, labels, scale, size)
    objects = Objects(xyxy, labels.classes[label], labels.crowd[label])
    areas: list[tuple[int, int, int, int]] = []
    if len(owner) > count:
        ends = np.searchsorted(row, np.arange(len(owner)), side="right")
        each = [objects[start:end] for start, end in zip((0, *ends[:-1]), ends, strict=True)]
        areas = _mix(each, params)
        row = np.repeat(np.arange(count), [len(some.classes) for some in each[:count]])
        columns = zip(*(vars(some).values() for some in each[:count]), strict=True)
        objects = Objects(*(np.concatenate(column) for column in columns))
    pasted = count + np.count_nonzero(params.mixup.on) if params.mixup is not None else count
    blended, pasted = owner[count:pasted], owner[pasted:]
    share = params.mixup.share[blended] if params.mixup is not None else np.zeros(0)
    boxes = Boxes(row, _flipped(objects.xyxy, params, row, size).astype(np.float32), objects.classes, objects.crowd)
    return boxes, {
        "blended": blended,
        "share": share.astype(np.float32),
        "pasted": pasted,
        "areas": _flipped(np.array(areas, dtype=np.int32).reshape(-1, 4), params, pasted, size),
    }


def _mix(each: list[Objects], params: AugmentParams) -> list[tuple[int, int, int, int]]:
    """Add what is mixed in to the objects of each image, and return the areas that are pasted, empty where none is.

    Args:
        each: of the images, and after them of those that are blended and of those that are pasted in, as they are placed.
    """
    others, areas = iter(each[len(params) :]), []
    if params.mixup is not None:
        for k in np.flatnonzero(params.mixup.on):
            each[k] += next(others)
    if params.cutmix is not None:
        for k in np.flatnonzero(params.cutmix.on):
            area, each[k] = cut_area(each[k], next(others), params.cutmix.areas[k], params.cutmix.choice[k])
            areas.append(area or (0, 0, 0, 0))
    return areas


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
