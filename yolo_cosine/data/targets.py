"""What the loss is told of a batch: boxes, classes and regions to ignore, padded to the same number for each image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

_ROUND = 8  # numbers of boxes are rounded up to a multiple of it, so that shapes come again


@dataclass(frozen=True, eq=False)
class Targets:
    """The boxes of B images, M places for each, and their regions to ignore, C places for each.

    What stands in a place that is not valid counts for nothing, but it must be a number and a class that there is.
    """

    boxes: torch.Tensor  # (B, M, 4) float32 xyxy, pixels; M is 1 at least
    classes: torch.Tensor  # (B, M) int64
    valid: torch.Tensor  # (B, M) bool
    crowds: torch.Tensor  # (B, C, 4) float32 xyxy, pixels; C may be 0
    crowd_valid: torch.Tensor  # (B, C) bool

    def __getitem__(self, images: slice) -> Targets:
        """Those of some of the images."""
        return Targets(**{name: value[images] for name, value in vars(self).items()})

    def to(self, device: torch.device) -> Targets:
        """The same on a device; the copies do not wait for each other."""
        return Targets(**{name: value.to(device, non_blocking=True) for name, value in vars(self).items()})


def pad_targets(
    images: int, image_of_box: np.ndarray, classes: np.ndarray, boxes: np.ndarray, image_of_crowd: np.ndarray,
    crowds: np.ndarray,
) -> Targets:  # fmt: skip
    """Pad the boxes of a batch.

    Args:
        images: how many there are, B.
        image_of_box: (K,) int64, ascending. classes: (K,) int64. boxes: (K, 4) float32 xyxy, pixels.
        image_of_crowd: (L,) int64, ascending. crowds: (L, 4) float32 xyxy, pixels.

    Returns:
        Targets with the boxes of each image first, in their order. M and C are multiples of 8, C is 0 without crowds.
    """
    box, valid = _places(image_of_box, images, least=_ROUND)
    crowd, crowd_valid = _places(image_of_crowd, images, least=0)
    padded = {
        "boxes": np.zeros((*valid.shape, 4), np.float32),
        "classes": np.zeros(valid.shape, np.int64),
        "crowds": np.zeros((*crowd_valid.shape, 4), np.float32),
    }
    padded["boxes"][box], padded["classes"][box], padded["crowds"][crowd] = boxes, classes, crowds
    tensors = {name: torch.from_numpy(value) for name, value in padded.items()}
    return Targets(valid=torch.from_numpy(valid), crowd_valid=torch.from_numpy(crowd_valid), **tensors)


def _places(owner: np.ndarray, images: int, least: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Row and column of each box, and the (B, M) bool table of the places that are taken."""
    counts = np.bincount(owner, minlength=images)
    columns = np.arange(len(owner)) - (counts.cumsum() - counts)[owner]
    width = max(least, -(-int(counts.max(initial=0)) // _ROUND) * _ROUND)
    return (owner, columns), np.arange(width) < counts[:, None]
