"""A small data set without a fault, for tests to spoil."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import PIL.Image
import pytest


@dataclass
class SmallSet:
    """A folder in COCO's layout: 4 images in train and in val with 3 boxes of `cat` and of `dog` on each."""

    WIDTH: ClassVar[int] = 128
    HEIGHT: ClassVar[int] = 96

    root: Path
    content: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def scene(cls, seed: int) -> np.ndarray:
        """(96, 128, 3) uint8: soft patches of colour, unlike those of another seed."""
        coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        return cv2.resize(coarse, (cls.WIDTH, cls.HEIGHT), interpolation=cv2.INTER_CUBIC)

    @staticmethod
    def save(path: Path, image: np.ndarray, quality: int = 95, orientation: int = 1) -> None:
        """Write an RGB image, a JPEG with EXIF orientation."""
        exif = PIL.Image.Exif()
        exif[0x0112] = orientation
        options = {"quality": quality, "exif": exif} if path.suffix == ".jpg" else {}
        PIL.Image.fromarray(image).save(path, **options)

    def __post_init__(self) -> None:
        for s, split in enumerate(("train", "val")):
            (self.root / split).mkdir(parents=True)
            categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
            self.content[split] = {"images": [], "annotations": [], "categories": categories}
            for i in range(4):
                self.add_image(split, f"{split}{i}.jpg", self.scene(10 * s + i))
        self.write()

    def add_image(self, split: str, name: str, image: np.ndarray, **how: int) -> None:
        content = self.content[split]
        number = len(content["images"])
        content["images"].append({"id": number, "file_name": name, "width": self.WIDTH, "height": self.HEIGHT})
        for k in range(6):
            self.add_box(split, number, [4 + 20 * k, 10 + number, 18, 30], category=1 + k % 2)
        self.save(self.file(split, number), image, **how)

    def add_box(self, split: str, image: int, bbox: list[float], category: int = 1, crowd: int = 0) -> None:
        rows = self.content[split]["annotations"]
        rows.append(
            {
                "id": max((r["id"] for r in rows), default=0) + 1,
                "image_id": image,
                "category_id": category,
                "bbox": bbox,
                "iscrowd": crowd,
            }
            | {"area": bbox[2] * bbox[3]}
        )

    def remove_boxes(self, split: str, image: int | None = None, category: int | None = None) -> None:
        rows = self.content[split]["annotations"]
        rows[:] = [r for r in rows if image not in (None, r["image_id"]) or category not in (None, r["category_id"])]

    def file(self, split: str, image: int) -> Path:
        return self.root / split / self.content[split]["images"][image]["file_name"]

    def write(self) -> str:
        """Write the annotation files; returns what to call the set."""
        (self.root / "annotations").mkdir(exist_ok=True)
        for split, content in self.content.items():
            (self.root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
        return str(self.root)


@pytest.fixture
def small_set(tmp_path) -> SmallSet:
    return SmallSet(tmp_path / "set")
