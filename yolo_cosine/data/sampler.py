"""All of training's randomness, in one place and without state.

The order of an epoch is a function of (seed, epoch); what happens to an image is a function of (seed, epoch, index).
Workers, ranks, restarts and accumulation therefore cannot change what is trained on. The numbers of an epoch are drawn
as one table with a row for each image, which costs less than a generator for each image.

The distributions are those of Ultralytics' `v8_transforms` (ultralytics/data/augment.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolo_cosine.config.schema import AugmentConfig

_ORDER, _AUGMENT = 0, 1  # streams of one (seed, epoch)
_COLUMNS = 19


def epoch_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """(n,) int64, the images 0..n-1 in the order of this epoch."""
    return np.random.default_rng([seed, epoch, _ORDER]).permutation(n)


def epoch_draws(seed: int, epoch: int, n: int) -> np.ndarray:
    """(n, 19) float32 in [0, 1): row `i` is all that is random about image `i` in this epoch."""
    return np.random.default_rng([seed, epoch, _AUGMENT]).random((n, _COLUMNS), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class AugmentParams:
    """What to do to each of B training images. Lengths are in pixels of a square output of side S."""

    tiles: np.ndarray  # (B, 4) int64, the images of the mosaic; without mosaic the first alone is used
    mosaic: np.ndarray  # (B,) bool
    center: np.ndarray  # (B, 2) int64, x and y of the mosaic's centre on its canvas of side 2S
    scale: np.ndarray  # (B,) float64
    angle: np.ndarray  # (B,) float64, degrees
    shear: np.ndarray  # (B, 2) float64, degrees
    perspective: np.ndarray  # (B, 2) float64
    shift: np.ndarray  # (B, 2) float64, where the centre of the source lands, pixels of the output
    hsv: np.ndarray  # (B, 3) float64: hue shift (fraction of the circle), saturation gain and value gain around 0
    flipud: np.ndarray  # (B,) bool
    fliplr: np.ndarray  # (B,) bool

    def __len__(self) -> int:
        return len(self.tiles)


def augment_params(
    images: np.ndarray, draws: np.ndarray, size: int, config: AugmentConfig, mosaic: bool = True
) -> AugmentParams:
    """Turn an epoch's draws into the parameters of a batch.

    Args:
        images: (B,) int64, the images of the batch.
        draws: (N, 19) of `epoch_draws`, for all images of the data set; the other three of a mosaic are any of them.
        size: side S of the output, pixels.
        mosaic: False in the mosaic-free end of a run.
    """
    u = draws[images].astype(np.float64)
    signed = 2 * u - 1  # uniform in [-1, 1)
    others = (u[:, 1:4] * len(draws)).astype(np.int64)
    return AugmentParams(
        tiles=np.concatenate((images[:, None], others), 1),
        mosaic=(u[:, 0] < config.mosaic) & mosaic,
        center=(size / 2 + u[:, 4:6] * size).astype(np.int64),
        scale=1 + signed[:, 6] * config.scale,
        angle=signed[:, 7] * config.degrees,
        shear=signed[:, 8:10] * config.shear,
        perspective=signed[:, 10:12] * config.perspective,
        shift=(0.5 + signed[:, 12:14] * config.translate) * size,
        hsv=signed[:, 14:17] * (config.hsv_h, config.hsv_s, config.hsv_v),
        flipud=u[:, 17] < config.flipud,
        fliplr=u[:, 18] < config.fliplr,
    )
