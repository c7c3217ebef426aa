"""Photographs to train on where there are none: COCO's sizes, texture and number of objects, made from a seed.

They are no test of accuracy. What they have in common with real ones is what costs time: the bytes of a JPEG, its
pixels, and the boxes of an image. The ground is noise whose amplitude falls with the frequency, as it does in nature.
"""

from __future__ import annotations

import json
import math
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

CLASSES = 80
_QUALITY = 92
_OBJECTS = 8  # drawn for an image, mean; some turn out too small, and 7 stay, as many as COCO has
# widths and heights, and about how often each is among COCO's images
_SIZES = [((640, 480), 35), ((480, 640), 15), ((640, 427), 20), ((427, 640), 6), ((500, 375), 8), ((640, 360), 6),
          ((612, 612), 5), ((375, 500), 5)]  # fmt: skip
_VAL_SHARE = 8  # one image to evaluate by for so many to train on


def generate(folder: Path, images: int, seed: int, workers: int) -> Path:
    """Make a data set in COCO's layout, or find it there; the annotations are written last.

    Args:
        images: to train on; an eighth as many are for evaluation.
        workers: processes.

    Returns:
        The folder.
    """
    splits = {"train": images, "val": max(images // _VAL_SHARE, 8)}
    if all((folder / "annotations" / f"instances_{split}.json").exists() for split in splits):
        return folder
    with ProcessPoolExecutor(workers) as pool:
        for number, (split, count) in enumerate(splits.items()):
            (folder / split).mkdir(parents=True, exist_ok=True)
            jobs = [(folder / split / f"{k:06d}.jpg", (seed, number, k)) for k in range(count)]
            found = list(pool.map(_write, *zip(*jobs, strict=True), chunksize=16))
            _annotate(folder / "annotations" / f"instances_{split}.json", found)
    return folder


def photograph(seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture (H, W, 3) uint8 BGR, its boxes (K, 4) int64 x, y, width, height, and their classes (K,) int64."""
    rng = np.random.default_rng(seed)
    shares = np.array([share for _, share in _SIZES], dtype=float)
    width, height = _SIZES[rng.choice(len(_SIZES), p=shares / shares.sum())][0]
    image = _ground(rng, width, height)
    boxes, classes = [], []
    for _ in range(min(rng.poisson(_OBJECTS), 40)):
        label = int(rng.integers(CLASSES))
        mask = _outline(rng, width, height, label)
        box = cv2.boundingRect(mask)
        if box[2] < 4 or box[3] < 4:
            continue
        x, y, w, h = box
        inside = mask[y : y + h, x : x + w] > 0
        part = image[y : y + h, x : x + w]
        part[inside] = part[inside] * 0.45 + _colour(label) * 0.55
        boxes.append(box)
        classes.append(label)
    grain = rng.normal(0, 7, (height, width, 1)).astype(np.float32)
    picture = np.clip(image + grain, 0, 255).astype(np.uint8)
    return picture, np.array(boxes, dtype=np.int64).reshape(-1, 4), np.array(classes, dtype=np.int64)


def _ground(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(H, W, 3) float32: octaves of noise, each of half the grain and half the amplitude of the one before."""
    image = np.full((height, width, 3), rng.uniform(70, 170, 3), dtype=np.float32)
    amplitude = rng.uniform(35, 60)
    for octave in range(8):
        step = 2 ** (7 - octave)
        shape = (math.ceil(height / step) + 1, math.ceil(width / step) + 1, 3 if octave < 3 else 1)
        noise = cv2.resize(
            rng.normal(0, amplitude, shape).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        image += noise if noise.ndim == 3 else noise[..., None]
        amplitude *= 0.66
    return image


def _outline(rng: np.random.Generator, width: int, height: int, label: int) -> np.ndarray:
    """(H, W) uint8: a figure of the class's own shape; half of the sides are below an eighth of the picture's."""
    mask = np.zeros((height, width), dtype=np.uint8)
    side = min(width, height) * min(rng.lognormal(math.log(0.12), 0.8), 0.9)
    centre = np.array([rng.uniform(0, width), rng.uniform(0, height)])
    stretch, turn = math.exp(rng.normal(0, 0.3)), rng.uniform(0, 2 * math.pi)
    corners = 3 + label % 6  # 8 is nearly round
    angles = turn + np.arange(2 * corners) * math.pi / corners
    radii = (
        np.where(np.arange(2 * corners) % 2, 0.55 if label % 4 == 0 else math.cos(math.pi / corners), 1.0) * side / 2
    )
    points = centre + np.stack((np.cos(angles) * radii * stretch, np.sin(angles) * radii / stretch), 1)
    cv2.fillPoly(mask, [points.round().astype(np.int32)], 255)
    return mask


def _colour(label: int) -> np.ndarray:
    hsv = np.uint8([[[label * 47 % 180, 200, 130 + label % 3 * 60]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float32)


def _write(path: Path, seed: tuple[int, ...]) -> dict:
    cv2.setNumThreads(1)
    picture, boxes, classes = photograph(seed)
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return {"file": path.name, "size": picture.shape[1::-1], "boxes": boxes.tolist(), "classes": classes.tolist()}


def _annotate(path: Path, found: list[dict]) -> None:
    path.parent.mkdir(exist_ok=True)
    images = [
        {"id": k, "file_name": each["file"], "width": each["size"][0], "height": each["size"][1]}
        for k, each in enumerate(found, 1)
    ]
    rows = [
        (k, box, c) for k, each in enumerate(found, 1) for box, c in zip(each["boxes"], each["classes"], strict=True)
    ]
    annotations = [
        {"id": n, "image_id": k, "category_id": c + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for n, (k, box, c) in enumerate(rows, 1)
    ]
    categories = [{"id": c + 1, "name": f"thing {c}"} for c in range(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content), encoding="utf-8")
