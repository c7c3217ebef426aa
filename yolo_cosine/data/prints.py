"""A fingerprint of a split: whether a run that goes on trains on the data that it began with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from yolo_cosine.data.disk import file_stamps
from yolo_cosine.data.index import Index

Print = Mapping[str, str]


def fingerprint(index: Index) -> Print:
    """What of a split a run's numbers depend on, in words with a digest each; the folder that it lies in is not part of it.

    The images count by their names, order and length in bytes, not by their content, which would have to be read.
    """
    return {
        "images": _said(
            f"{len(index)} images", "\0".join(index.files).encode(errors="surrogatepass"), index.sizes, index.image_ids
        ),
        "files": _said("their files' lengths", file_stamps(index.paths())[:, 0]),
        "boxes": _said(
            f"{len(index.boxes)} boxes", index.offsets, index.boxes, index.classes, index.crowd, index.areas
        ),
        "classes": _said(f"{len(index.categories)} classes", repr(index.categories).encode()),
    }


def digest(split: Print) -> str:
    """A fingerprint in twelve letters, to be compared with others and no more."""
    return hashlib.sha256(repr(sorted(split.items())).encode()).hexdigest()[:12]


def differences(before: Mapping[str, Print], now: Mapping[str, Print]) -> list[str]:
    """In words, what differs between the fingerprints of the splits of two data sets."""
    found = []
    for split in before:
        for part, said in before[split].items():
            other = now.get(split, {}).get(part)
            if said != other:
                found.append(f"{split}: {part} were {said}, and are {other or 'not there'} now")
    return found


def _said(words: str, *content: bytes | np.ndarray) -> str:
    digest = hashlib.sha256()
    for part in content:
        data = part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return f"{words} ({digest.hexdigest()[:12]})"
