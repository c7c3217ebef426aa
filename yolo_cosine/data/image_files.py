"""The image files of a data set: which are there, and how large they are by their headers.

Every reader needs both, and both must stay cheap for a hundred thousand images on a network disk: one directory listing
for each folder, headers instead of pixels, threads for what waits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from yolo_cosine.data.disk import in_threads
from yolo_cosine.data.kept import NOTHING_KEPT, Kept
from yolo_cosine.data.notes import Note
from yolo_cosine.errors import UserError, some_of

Image.MAX_IMAGE_PIXELS = None  # only headers are read here, and large pictures are in order

SUFFIXES = frozenset({".avif", ".bmp", ".jp2", ".jpeg", ".jpg", ".mpo", ".png", ".tif", ".tiff", ".webp"})
_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 turn the picture by a quarter
_ORIENTED = frozenset({"JPEG", "MPO", "PNG", "TIFF", "WEBP"})  # formats whose EXIF orientation OpenCV applies


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Width and height, pixels, as OpenCV decodes the picture (EXIF orientation applied); None if there is no telling."""
    try:
        with Image.open(path) as image:
            # Pillow's versions differ in whether a TIFF's size is turned already; its tags are never
            width, height = (image.tag_v2[256], image.tag_v2[257]) if image.format == "TIFF" else image.size
            turned = orientation(image) in (5, 6, 7, 8)
    except Exception:  # a damaged header raises nearly anything in Pillow's plugins
        return None
    return (height, width) if turned else (width, height)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation that OpenCV applies to an opened picture: 1 (as it is stored) to 8."""
    # asking a PNG for EXIF that is not in its header would decode all of it
    known = image.format in _ORIENTED and (image.format != "PNG" or "exif" in image.info)
    value = image.getexif().get(_ORIENTATION, 1) if known else 1
    return value if value in range(1, 9) else 1


def existing(root: Path, files: Sequence[str]) -> np.ndarray:
    """(N,) bool, which of the files below `root` are there; reads each folder once."""
    split = [os.path.split(file) for file in files]
    listing = {folder: _listing(root / folder) for folder in {folder for folder, _ in split}}
    return np.fromiter((name in listing[folder] for folder, name in split), dtype=bool, count=len(files))


def _listing(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except (OSError, ValueError):  # the latter: a name that no file system encodes
        return frozenset()


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """The size of each of N images, and the K of them that the split uses."""

    sizes: np.ndarray  # (N, 2) int64, width and height, pixels; 0 where nothing tells
    used: np.ndarray  # (K,) int64, positions, ascending
    notes: tuple[Note, ...]


def check_images(
    source: str, root: Path, files: Sequence[str], sizes: np.ndarray, *, keep_missing: bool, kept: Kept = NOTHING_KEPT
) -> ImageFiles:  # fmt: skip
    """Find the images, and read the sizes that the annotations do not give from their headers.

    Args:
        source: what to call the split in messages.
        files: paths below `root`, N of them.
        sizes: (N, 2) int64, width and height as the annotations give them, pixels; 0 where they do not.
        keep_missing: keep an image that is missing or unreadable, so that a metric is that of the whole annotation
            file; otherwise it is left out. Either way a note names it.
        kept: the sizes of files whose headers were read before.

    Raises:
        UserError: if none of the images is there, or none can be read.
    """
    there = existing(root, files)
    if not there.any():
        raise UserError(
            f"{source}: none of its {len(files)} images is there, such as {files[0]}; looked in {root}; "
            "check the folder of the images, and `path`, in the data set's YAML"
        )
    sizes = sizes.copy()
    unknown = np.flatnonzero((sizes <= 0).any(1) & there)
    paths = [os.path.join(root, files[i]) for i in unknown]
    known = kept.columns("sizes", f"{source}\0{os.path.abspath(root)}", paths, (), lambda: {"sizes": _headers(paths)})
    sizes[unknown] = known["sizes"]
    # what the disk failed to read once may be in order, with no change to the file
    again = unknown[(sizes[unknown] <= 0).any(1)]
    sizes[again] = _headers([os.path.join(root, files[i]) for i in again])
    unreadable = there & (sizes <= 0).any(1)
    fate = "kept, and every object on them counts as not found" if keep_missing else "left out"
    notes = [
        Note(
            f"{source}: {mask.sum()} of {len(files)} images {what} ({named(files, mask)}; folder {root}): {fate}",
            kind,
            [files[i] for i in np.flatnonzero(mask)],
        )
        for mask, kind, what in (
            (~there, "missing-file", "are missing"),
            (unreadable, "unreadable-header", "have a header that cannot be read"),
        )
        if mask.any()
    ]
    if (unreadable | ~there).all():
        raise UserError("; ".join(notes) + "; nothing is left of the split; mend the files")
    used = np.arange(len(files)) if keep_missing else np.flatnonzero(there & ~unreadable)
    return ImageFiles(sizes, used, tuple(notes))


def _headers(paths: Sequence[str]) -> np.ndarray:
    """(K, 2) int64, width and height, pixels; 0 where a header does not tell."""
    return np.array([size or (0, 0) for size in in_threads(image_size, paths)], dtype=np.int64).reshape(-1, 2)


def named(files: Sequence[str], mask: np.ndarray) -> str:
    """The first three files of a mask, in words."""
    return some_of(np.flatnonzero(mask), lambda i: files[i])
