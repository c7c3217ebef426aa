"""What a batch comes to before a pixel is touched: which photographs, where they lie, which boxes are left of theirs.

A photograph that is shown twice in a batch is decoded once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from yolo_cosine.data.augment import Boxes
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.index import TrainableBoxes
from yolo_cosine.data.layout import Layout, inverse_matrices, laid_boxes, lay_out
from yolo_cosine.data.mixing import Objects, cut_area
from yolo_cosine.data.resident import ResidentImages
from yolo_cosine.data.sampler import AugmentParams, Placement

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Arrangement:
    """A batch of B images, in R rows, each a placed image: the B images, then as many as are blended into one of these, then
    as many of which an area is pasted over one; R = B without mixing."""

    layout: Layout  # of the R rows
    inverse: np.ndarray  # (R, 3, 3) float64, from pixels of the output, flips included, to those of the canvas
    photographs: dict[int, np.ndarray]  # (h, w, 3) uint8 RGB by number, unless they are resident
    boxes: Boxes  # of the B images
    blended: np.ndarray  # (M,) int64, the images that another one is blended into, each once
    share: np.ndarray  # (M,) float64, of the image itself
    pasted: np.ndarray  # (C,) int64, the images that a part of another one is pasted over, each once
    areas: np.ndarray  # (C, 4) int64 xyxy, pixels of the output, [start, end): which part; empty where there is none
    perspective: bool  # whether the third row of a matrix is any other than 0, 0, 1


def arrange(
    store: ImageStore, labels: TrainableBoxes, params: AugmentParams, resident: ResidentImages | None = None
) -> Arrangement:
    """Find the photographs and boxes of a batch, and where they go.

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
    share = params.mixup.share[blended] if params.mixup is not None else np.zeros(0)
    return Arrangement(layout, inverse, photographs, boxes, blended, share, pasted, areas, bool(rows.perspective.any()))


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
