"""The report on a data set: figures of its splits, classes and box sizes, and all findings. Plain values only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from yolo_cosine.doctor.boxes import check_box_sizes, check_crowds, check_inside, check_repeated
from yolo_cosine.doctor.classes import check_balance, check_ids, check_presence, class_counts
from yolo_cosine.doctor.copies import check_copies
from yolo_cosine.doctor.files import check_decoding, check_empty, check_notes, check_sizes
from yolo_cosine.doctor.finding import SEVERITIES, Check, Finding
from yolo_cosine.doctor.snapshot import Snapshot, Split

CHECKS: tuple[Check, ...] = (
    check_notes, check_decoding, check_sizes, check_empty, check_copies, check_inside, check_repeated, check_crowds,
    check_box_sizes, check_ids, check_presence, check_balance,
)  # fmt: skip
# Between the classes of box size, pixels: an octave each, so that the strides are among them.
EDGES = (4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class SplitFigures:
    """How much there is in a split."""

    name: str
    source: str
    images: int
    boxes: int  # as the file has them, crowds apart
    crowds: int
    empty: int  # images without objects
    unreadable: int  # images whose file is missing or does not decode
    # boxes in each class of size, by the root of their area at imgsz: below EDGES[0], ..., EDGES[-1] and more
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class ClassFigures:
    """How much there is of a class, by split; boxes that training leaves out and crowds do not count."""

    id: int
    name: str
    boxes: Mapping[str, int]
    images: Mapping[str, int]


@dataclass(frozen=True)
class Report:
    """What the doctor has to say."""

    data: str
    imgsz: int
    strides: tuple[int, ...]
    splits: tuple[SplitFigures, ...]
    classes: tuple[ClassFigures, ...]
    findings: tuple[Finding, ...]  # gravest first

    def tally(self) -> dict[str, int]:
        """Findings of each severity."""
        return {severity: sum(f.severity == severity for f in self.findings) for severity in SEVERITIES}


def examine(snapshot: Snapshot) -> Report:
    """Run all checks."""
    findings = [finding for check in CHECKS for finding in check(snapshot)]
    counts = {name: class_counts(split) for name, split in snapshot.splits.items()}
    return Report(
        data=snapshot.data,
        imgsz=snapshot.imgsz,
        strides=snapshot.strides,
        splits=tuple(_figures(split, snapshot.imgsz) for split in snapshot.splits.values()),
        classes=tuple(
            ClassFigures(
                category.id,
                category.name,
                {name: int(boxes[k]) for name, (boxes, _) in counts.items()},
                {name: int(images[k]) for name, (_, images) in counts.items()},
            )
            for k, category in enumerate(snapshot.categories)
        ),
        findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
    )


def _figures(split: Split, imgsz: int) -> SplitFigures:
    index = split.index
    sizes = split.box_sizes(imgsz)[~index.crowd]
    with np.errstate(all="ignore"):
        side = np.sqrt(np.maximum(sizes, 0).prod(1))
    side = side[np.isfinite(side) & (side > 0)]
    return SplitFigures(
        name=split.name,
        source=index.source,
        images=len(index),
        boxes=int((~index.crowd).sum()),
        crowds=int(index.crowd.sum()),
        empty=int((np.diff(index.offsets) == 0).sum()),
        unreadable=sum(not picture.readable for picture in split.pictures),
        sizes=tuple(np.bincount(np.searchsorted(EDGES, side, side="right"), minlength=len(EDGES) + 1).tolist()),
    )


def size_names() -> tuple[str, ...]:
    """What to call the classes of box size."""
    between = (f"{low} to {high}" for low, high in pairwise(EDGES))
    return (f"below {EDGES[0]}", *between, f"{EDGES[-1]} and more")


def to_json(report: Report) -> str:
    """The whole report with all cases of every finding; numbers that JSON has no word for are null."""
    content = asdict(report) | {
        "tally": report.tally(),
        "size_edges": EDGES,
        "findings": [asdict(finding) | {"count": finding.count} for finding in report.findings],
    }
    return json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
