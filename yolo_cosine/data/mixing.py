"""Two training images in one: MixUp and CutMix, as Ultralytics has them (ultralytics/data/augment.py).

Sources: Zhang et al., mixup (arXiv 1710.09412); Yun et al., CutMix (arXiv 1905.04899). Detection keeps the boxes of both
images instead of mixing labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_ROWS = 16  # of an image that are blended at once
_MIN_SHARE = 0.1  # of an object's area, below which it is not pasted: Ultralytics' CutMix


@dataclass(frozen=True, eq=False)
class Objects:
    """What is on an image, K boxes."""

    xyxy: np.ndarray  # (K, 4) float64, pixels
    classes: np.ndarray  # (K,) int64
    crowd: np.ndarray  # (K,) bool, regions to ignore

    def __getitem__(self, rows: np.ndarray) -> Objects:
        return Objects(self.xyxy[rows], self.classes[rows], self.crowd[rows])

    def __add__(self, other: Objects) -> Objects:
        """Those of this one, then those of the other."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Objects(*(np.concatenate(pair) for pair in pairs))


Annotated = tuple[np.ndarray, Objects]  # (S, S, 3) uint8, and what is on it


def mix_up(one: Annotated, other: Annotated, share: float) -> Annotated:
    """Blend two images; the objects are those of both.

    Args:
        share: of the first image; the rest is the second one's. Rounded down, as Ultralytics does.
    """
    return blend(one[0], other[0], share, np.empty_like(one[0])), one[1] + other[1]


def blend(one: np.ndarray, other: np.ndarray, share: float, out: np.ndarray) -> np.ndarray:
    """`out`, which may be `one`, with so much of one image and the rest of the other, rounded down. (S, S, 3) uint8 each."""
    for k in range(0, len(out), _ROWS):  # not the whole at once: that would go through memory, not the cache
        rows = slice(k, k + _ROWS)
        out[rows] = one[rows] * share + other[rows] * (1 - share)
    return out


def cut_mix(one: Annotated, other: Annotated, areas: np.ndarray, choice: float) -> Annotated:
    """Paste an area of the second image over the first, which is written to, by the rule of `cut_area`."""
    area, objects = cut_area(one[1], other[1], areas, choice)
    if area is not None:
        x1, y1, x2, y2 = area
        one[0][y1:y2, x1:x2] = other[0][y1:y2, x1:x2]
    return one[0], objects


def cut_area(
    one: Objects, other: Objects, areas: np.ndarray, choice: float
) -> tuple[tuple[int, int, int, int] | None, Objects]:
    """The area of a second image to paste over a first one, where that hides no object, and what is on the two then.

    The area is one of those that touch no object of the first image. At least one object of the second must have a tenth of
    its box in it; such objects come along, clipped to the area. Otherwise nothing is pasted. Regions to ignore have no say
    in this; those of the second image come along with whatever of them is in the area.

    Args:
        areas: (A, 4) int64 xyxy, pixels.
        choice: in [0, 1), which of the areas that may be pasted, as a fraction of them.

    Returns:
        x1, y1, x2, y2 of the area, None for nothing, and the objects.
    """
    free = areas[~(_overlap(areas, one[~one.crowd].xyxy) > 0).any(1)]
    if not len(free):
        return None, one
    area = free[int(choice * len(free))]
    extent = other.xyxy[:, 2:] - other.xyxy[:, :2]
    overlap = _overlap(area[None], other.xyxy)[0]
    come = (overlap >= _MIN_SHARE * extent.prod(1)) & ~other.crowd
    if not come.any():
        return None, one
    x1, y1, x2, y2 = area.tolist()
    pasted = other[come | (other.crowd & (overlap > 0))]
    clipped = np.clip(pasted.xyxy, (x1, y1, x1, y1), (x2, y2, x2, y2))
    return (x1, y1, x2, y2), one + Objects(clipped, pasted.classes, pasted.crowd)


def _overlap(areas: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """(A, K) float64, the pixels that (A, 4) areas and (K, 4) boxes have in common."""
    first = np.maximum(areas[:, None, :2], boxes[None, :, :2])
    last = np.minimum(areas[:, None, 2:], boxes[None, :, 2:])
    return (last - first).clip(0).prod(-1)
