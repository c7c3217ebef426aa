"""All of training's randomness, in one place and without state.

The order of an epoch is a function of (seed, epoch); what happens to an image is a function of (seed, epoch, index), and
the size of a batch of (seed, epoch, number of the batch). Workers, ranks, restarts and accumulation therefore cannot
change what is trained on. The numbers of an epoch are drawn as one table with a row for each image, which costs less than
a generator for each image.

The distributions are those of Ultralytics' `v8_transforms` (ultralytics/data/augment.py), and of its trainer where it
resizes batches (ultralytics/models/yolo/detect/train.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from yolo_cosine.config.schema import AugmentConfig

_ORDER, _AUGMENT, _MIX, _SIZE = range(4)  # streams of one (seed, epoch)
_PLACED = 14  # columns for how an image comes to lie on its square
_COLUMNS = _PLACED + 5  # and for its colours and flips
_MIXUP = 3 + _PLACED  # whether, with which image and in what shares; how that one comes to lie on its square
_CUTMIX = 12 + _PLACED  # whether, with which image, three areas of three numbers, which of them; the same
_BETA = 32.0  # both parameters of the beta distribution of MixUp's shares


def epoch_order(seed: int, epoch: int, n: int) -> np.ndarray:
    """(n,) int64, the images 0..n-1 in the order of this epoch."""
    return np.random.default_rng([seed, epoch, _ORDER]).permutation(n)


def epoch_draws(seed: int, epoch: int, n: int, mixing: bool = False) -> np.ndarray:
    """(n, 19) float32 in [0, 1): row `i` is all that is random about image `i` in this epoch.

    Args:
        mixing: draw the numbers of MixUp and CutMix too: (n, 62), of which the first 19 are the same.
    """
    draws = np.random.default_rng([seed, epoch, _AUGMENT]).random((n, _COLUMNS), dtype=np.float32)
    if not mixing:
        return draws
    more = np.random.default_rng([seed, epoch, _MIX]).random((n, _MIXUP + _CUTMIX), dtype=np.float32)
    return np.concatenate((draws, more), 1)


def batch_sizes(seed: int, epoch: int, count: int, size: int, multi_scale: float, stride: int) -> np.ndarray:
    """(count,) int64, the sides at which the network sees the batches of an epoch, pixels: multiples of `stride`.

    Ultralytics' trainer lets a rounding error make some sizes a stride larger (at 800 px, not at 320 or 640); that is not
    copied.

    Args:
        size: side of the training images, pixels, a multiple of `stride`.
        multi_scale: a size is up to this fraction smaller or larger, rounded outwards; 0 for all of them as they are.
    """
    if not multi_scale:
        return np.full(count, size)
    smallest, end = max(stride, int(size * (1 - multi_scale))), int(size * (1 + multi_scale) + stride)
    u = np.random.default_rng([seed, epoch, _SIZE]).random(count)
    return (smallest + (u * (end - smallest)).astype(np.int64)) // stride * stride


@dataclass(frozen=True, eq=False)
class Placement:
    """How each of B images comes to lie on a square of side S: mosaic and affine. Lengths are in pixels of the square."""

    tiles: np.ndarray  # (B, 4) int64, the images of the mosaic; without mosaic the first alone is used
    mosaic: np.ndarray  # (B,) bool
    center: np.ndarray  # (B, 2) int64, x and y of the mosaic's centre on its canvas of side 2S
    scale: np.ndarray  # (B,) float64
    angle: np.ndarray  # (B,) float64, degrees
    shear: np.ndarray  # (B, 2) float64, degrees
    perspective: np.ndarray  # (B, 2) float64
    shift: np.ndarray  # (B, 2) float64, where the centre of the source lands


@dataclass(frozen=True, eq=False)
class MixUp:
    """Which of B images are blended with another one."""

    on: np.ndarray  # (B,) bool
    share: np.ndarray  # (B,) float64, of the image itself; the rest is the other one's
    other: Placement  # of the other image; the rows where it is not on mean nothing


@dataclass(frozen=True, eq=False)
class CutMix:
    """Which of B images get a part of another one pasted over them, where their objects leave room for it."""

    on: np.ndarray  # (B,) bool
    areas: np.ndarray  # (B, 3, 4) int64, x1, y1, x2, y2 of areas to try, pixels, [start, end)
    choice: np.ndarray  # (B,) float64 in [0, 1), which of the areas that leave all objects free, as a fraction of them
    other: Placement  # of the other image; the rows where it is not on mean nothing


@dataclass(frozen=True, eq=False)
class AugmentParams(Placement):
    """What to do to each of B training images: place it, mix it with others, shift its colours, flip it, in this order."""

    hsv: np.ndarray  # (B, 3) float64: hue shift (fraction of the circle), saturation gain and value gain around 0
    flipud: np.ndarray  # (B,) bool
    fliplr: np.ndarray  # (B,) bool
    mixup: MixUp | None = None  # None where no image of the run, or of its mosaic-free end, is mixed
    cutmix: CutMix | None = None  # the same; it follows on MixUp

    def __len__(self) -> int:
        return len(self.tiles)

    def images(self) -> np.ndarray:
        """(K,) int64, the images that the batch is made of: its own, then those of mosaics, then those mixed in."""
        found = [self.tiles[:, 0], self.tiles[self.mosaic, 1:].ravel()]
        for mix in (self.mixup, self.cutmix):
            if mix is not None:
                found += [mix.other.tiles[mix.on, 0], mix.other.tiles[mix.on & mix.other.mosaic, 1:].ravel()]
        return np.concatenate(found)


def augment_params(
    images: np.ndarray, draws: np.ndarray, size: int, config: AugmentConfig, mosaic: bool = True
) -> AugmentParams:
    """Turn an epoch's draws into the parameters of a batch.

    Args:
        images: (B,) int64, the images of the batch.
        draws: of `epoch_draws`, for all N images of the data set, with the numbers for mixing if `config.mixes`; the other
            images of a mosaic, and those that are mixed in, are any of them.
        size: side S of the output, pixels.
        mosaic: False in the mosaic-free end of a run, which is free of MixUp and CutMix too.
    """
    u = draws[images].astype(np.float64)
    n = len(draws)

    def placed(images: np.ndarray, u: np.ndarray) -> dict[str, np.ndarray]:
        return _placed(images, u, n, size, config, mosaic)

    mixup = cutmix = None
    if mosaic and config.mixup:
        v = u[:, _COLUMNS : _COLUMNS + _MIXUP]
        mixup = MixUp(
            on=v[:, 0] < config.mixup,
            share=_beta_quantile(v[:, 2]),
            other=Placement(**placed((v[:, 1] * n).astype(np.int64), v[:, 3:])),
        )
    if mosaic and config.cutmix:
        v = u[:, _COLUMNS + _MIXUP :]
        cutmix = CutMix(
            on=v[:, 0] < config.cutmix,
            areas=_cut_areas(v[:, 2:11].reshape(-1, 3, 3), size),
            choice=v[:, 11],
            other=Placement(**placed((v[:, 1] * n).astype(np.int64), v[:, 12:])),
        )
    return AugmentParams(
        **placed(images, u),
        hsv=(2 * u[:, 14:17] - 1) * (config.hsv_h, config.hsv_s, config.hsv_v),
        flipud=u[:, 17] < config.flipud,
        fliplr=u[:, 18] < config.fliplr,
        mixup=mixup,
        cutmix=cutmix,
    )


def _placed(
    images: np.ndarray, u: np.ndarray, n: int, size: int, config: AugmentConfig, mosaic: bool
) -> dict[str, np.ndarray]:
    """The fields of a `Placement` from (B, 14 or more) numbers in [0, 1)."""
    signed = 2 * u - 1  # uniform in [-1, 1)
    others = (u[:, 1:4] * n).astype(np.int64)
    return {
        "tiles": np.concatenate((images[:, None], others), 1),
        "mosaic": (u[:, 0] < config.mosaic) & mosaic,
        "center": (size / 2 + u[:, 4:6] * size).astype(np.int64),
        "scale": 1 + signed[:, 6] * config.scale,
        "angle": signed[:, 7] * config.degrees,
        "shear": signed[:, 8:10] * config.shear,
        "perspective": signed[:, 10:12] * config.perspective,
        "shift": (0.5 + signed[:, 12:14] * config.translate) * size,
    }


def _beta_quantile(u: np.ndarray) -> np.ndarray:
    """MixUp's shares, Beta(32, 32), from numbers that are uniform in [0, 1)."""
    from scipy.special import betaincinv  # takes a while to import, and most runs do without

    return betaincinv(_BETA, _BETA, u)


def _cut_areas(u: np.ndarray, size: int) -> np.ndarray:
    """(..., 4) int64, areas with a uniform centre that are a uniform share of the square before they are clipped to it.

    Args:
        u: (..., 3) in [0, 1): 1 - the share, and the centre's x and y. Yun et al., CutMix (arXiv 1905.04899), with
            Beta(1, 1).
    """
    half = (size * np.sqrt(1 - u[..., :1])).astype(np.int64) // 2
    center = (u[..., 1:] * size).astype(np.int64)
    return np.clip(np.concatenate((center - half, center + half), -1), 0, size)
