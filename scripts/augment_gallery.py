"""Draw training images as they leave augmentation, with their boxes: configs/augmentation/gallery.png.

    python scripts/augment_gallery.py

The photographs are those of the embedded data set, so the sheet can be made anew anywhere. Look at it after a change.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from yolo_cosine.config.schema import AugmentConfig
from yolo_cosine.data.augment import Boxes, augment_image
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.dataset import open_dataset
from yolo_cosine.data.index import trainable_boxes
from yolo_cosine.data.sampler import augment_params, epoch_draws
from yolo_cosine.data.shapes import generate

SHEET = Path(__file__).parents[1] / "configs/augmentation/gallery.png"
ROWS = {
    "mosaic: 0": {"mosaic": 0.0},
    "mosaic: 1 (default)": {},
    "mosaic: 0, mixup: 1": {"mosaic": 0.0, "mixup": 1.0},
    "mosaic: 0, cutmix: 1 (where there is room)": {"mosaic": 0.0, "cutmix": 1.0},
    "mosaic: 0, degrees: 30, shear: 10, perspective: 0.001, flipud: 0.5": {
        "mosaic": 0.0, "degrees": 30.0, "shear": 10.0, "perspective": 0.001, "flipud": 0.5,
    },
}  # fmt: skip
PHOTOGRAPHS, SEED = 48, 3
ACROSS, SIZE, GAP, TITLE = 5, 160, 5, 19  # images in a row; pixels
COLOURS = 192  # in the file, which has to be small
OUTLINES = [(255, 40, 80), (255, 225, 25), (0, 215, 255), (70, 240, 90), (255, 150, 40)]  # one for each class
IGNORED = (255, 255, 255)  # outlines of regions to ignore


def augmented(store: ImageStore, config: AugmentConfig) -> Iterator[tuple[np.ndarray, Boxes]]:
    """Training images with something on them; with CutMix, those that something was pasted on."""
    labels, n = trainable_boxes(store.index), len(store.index)
    params = augment_params(np.arange(n), epoch_draws(SEED, 0, n, config.mixes), store.size, config)
    for k in range(n):
        image, boxes = augment_image(store, labels, params, k)
        before = len(augment_image(store, labels, replace(params, cutmix=None), k)[1].xyxy) if params.cutmix else 0
        if len(boxes.xyxy) > before:
            yield image, boxes


def outlined(image: np.ndarray, boxes: Boxes) -> Image.Image:
    """The image with its boxes, each in the colour of its class."""
    picture = Image.fromarray(image)
    draw = ImageDraw.Draw(picture)
    for xyxy, label, crowd in zip(boxes.xyxy.tolist(), boxes.classes.tolist(), boxes.crowd.tolist(), strict=True):
        x1, y1, x2, y2 = (min(round(v), SIZE - 1) for v in xyxy)
        draw.rectangle((x1, y1, x2, y2), outline=IGNORED if crowd else OUTLINES[label], width=1 if crowd else 2)
    return picture


def main() -> None:
    """Write the sheet."""
    height = TITLE + SIZE + GAP
    sheet = Image.new("RGB", (ACROSS * (SIZE + GAP) + GAP, len(ROWS) * height + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    with tempfile.TemporaryDirectory() as scratch:
        data = generate(Path(scratch) / "shapes", train=PHOTOGRAPHS, val=1, size=(SIZE, SIZE * 4 // 5))
        store = ImageStore(open_dataset(str(data)).splits["train"], SIZE, "ram", 1)
        for row, (title, keys) in enumerate(ROWS.items()):
            draw.text((GAP, GAP + row * height), title, fill="black", font=font)
            shown = augmented(store, AugmentConfig(**keys))
            for column, (image, boxes) in zip(range(ACROSS), shown, strict=False):
                sheet.paste(outlined(image, boxes), (GAP + column * (SIZE + GAP), row * height + GAP + TITLE - 3))
    sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(SHEET, optimize=True)
    print(f"{SHEET}: {SHEET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
