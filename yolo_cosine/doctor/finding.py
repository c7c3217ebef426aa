"""What a check of a data set hands back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from yolo_cosine.doctor.snapshot import Snapshot

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # gravest first


@dataclass(frozen=True)
class Image:
    """An image of a split, by its position in the split's index."""

    split: str
    position: int


@dataclass(frozen=True)
class Example:
    """One case of a finding."""

    # the image's file below the folder of its split; or what it is about: a line of a label file, an id, a class
    place: str
    text: str = ""  # the values, in words
    image: Image | None = None  # None where there is no picture to look at
    boxes: tuple[tuple[float, float, float, float], ...] = ()  # x, y, w, h in pixels, those concerned
    twin: str = ""  # the file that the image is a copy of
    twin_image: Image | None = None


@dataclass(frozen=True)
class Finding:
    """One kind of defect or oddity in a split (or between two: `train+val`; or in the whole set: `all`)."""

    kind: str  # a slug that stays
    severity: Severity
    split: str
    what: str  # after the count: `images whose file is missing`
    examples: tuple[Example, ...]  # all cases; never none
    training: str  # what training and evaluation do about it
    remedy: str

    @property
    def count(self) -> int:
        return len(self.examples)


Check = Callable[[Snapshot], Iterator[Finding]]
