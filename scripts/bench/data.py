"""One data set on disk that both trainers read: YOLO's layout, made by our own converter, images linked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yolo_cosine.convert.convert import convert
from yolo_cosine.convert.formats import write_coco
from yolo_cosine.data.dataset import Dataset, open_dataset
from yolo_cosine.data.prints import fingerprint
from yolo_cosine.errors import UserError


@dataclass(frozen=True)
class BenchData:
    """The data set of a benchmark."""

    yaml: Path  # names the labels for Ultralytics, and for us also the exact annotations
    about: dict[str, object]  # what a reader wants to know of it


def prepare(data: str, limit: int | None, work: Path) -> BenchData:
    """Convert a data set into a folder of `work` whose name tells the data, or find it converted there.

    Args:
        data: what `open_dataset` takes.
        limit: images to train on, at most, and a third as many to evaluate by; None for all.

    Raises:
        UserError: if the data set cannot be read, or `work` cannot be written.
    """
    source = open_dataset(data, None if limit is None else ("train", "val"))
    # what the data is like now, not where it lies: it may be changed, or moved
    prints = {split: fingerprint(index) for split, index in source.splits.items()}
    key = hashlib.sha256(f"{prints} {limit}".encode()).hexdigest()[:12]
    out = work / f"data-{key}"
    yaml = out / "data.yaml"
    if not yaml.exists():
        convert(data if limit is None else str(_cut(source, limit, work / f"cut-{key}")), "yolo", out)
    dataset = open_dataset(str(yaml))
    return BenchData(yaml, {"data": data, "limit": limit, **_describe(dataset)})


def _cut(dataset: Dataset, limit: int, folder: Path) -> Path:
    """A YAML of the first images of each split."""
    lines = []
    for split, index in dataset.splits.items():
        most = limit if split == "train" else max(limit // 3, 1)
        part = index.subset(np.arange(min(most, len(index))))
        annotations = folder / f"{split}.json"
        annotations.parent.mkdir(parents=True, exist_ok=True)
        annotations.unlink(missing_ok=True)  # of an attempt that was cut short
        write_coco(annotations, part, part.files)
        root = str(Path(index.root).resolve())
        lines.append(f'{split}: {{images: "{root}", annotations: "{annotations.resolve()}"}}\n')
    yaml = folder / "data.yaml"
    yaml.write_text("".join(lines), encoding="utf-8")
    return yaml


def _describe(dataset: Dataset) -> dict[str, object]:
    train, val = dataset.splits["train"], dataset.splits["val"]
    sample = [train.path(i) for i in np.linspace(0, len(train) - 1, min(len(train), 200)).astype(int)]
    sizes = [path.stat().st_size for path in sample if path.exists()]
    if not sizes:
        raise UserError(f"{train.source}: not one of its images is there; nothing can be trained on")
    return {
        "train_images": len(train),
        "val_images": len(val),
        "classes": len(train.categories),
        "boxes_per_image": round(len(train.boxes) / len(train), 2),
        "median_file_kb": round(float(np.median(sizes)) / 1e3, 1),
        "median_size": np.median(train.sizes, axis=0).astype(int).tolist(),
    }
