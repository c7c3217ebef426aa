"""Everything that the checks look at, read once: the annotations of each split, and what each image file holds."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
import PIL.Image

from yolo_cosine.data.dataset import open_dataset
from yolo_cosine.data.image_files import orientation
from yolo_cosine.data.index import Category, Index, TrainableBoxes, trainable_boxes
from yolo_cosine.processor import available_cores

STRIDES = (8, 16, 32)  # pixels between the cells of the network's levels: v5u to 26, every scale
THUMB = 16  # side of the grey thumbnail that look-alikes are found by, pixels
_MISSING_GREY = 128  # what libjpeg paints where the data of a JPEG ended too early


@dataclass(frozen=True, eq=False)
class Picture:
    """What one reading of an image file tells. It is small: the decoded image does not stay."""

    size: tuple[int, int] = (0, 0)  # width and height as OpenCV decodes it, EXIF applied, pixels; 0 if it does not
    orientation: int = 1  # EXIF, 1 (as it is stored) to 8
    damage: str = ""  # what Pillow says of a file that does not decode to its end
    data: bytes = b""  # digest of the file
    pixels: tuple[bytes, ...] = ()  # digests of the decoded image: as stored and, if EXIF turns it, as shown
    thumb: np.ndarray | None = None  # (THUMB * THUMB,) uint8, grey, as shown

    @property
    def readable(self) -> bool:
        return self.size != (0, 0)


@dataclass(frozen=True, eq=False)
class Split:
    """A split: its annotations, what training makes of them, and the N pictures in the order of the index."""

    name: str
    index: Index
    labels: TrainableBoxes
    pictures: tuple[Picture, ...]

    @property
    def trains(self) -> bool:
        return self.name == "train"

    def box_sizes(self, imgsz: int) -> np.ndarray:
        """(M, 2) float64, width and height of each box once the longer side of its image is `imgsz`, pixels.

        NaN where the size of the image is not known: it cannot be read, and the annotations do not give it.
        """
        longer = self.index.sizes.max(1).astype(np.float64)
        scale = np.divide(imgsz, longer, out=np.full(len(longer), np.nan), where=longer > 0)
        return self.index.boxes[:, 2:] * scale[self.index.image_of_box][:, None]


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A data set at one moment, and the network's input that it is judged for."""

    data: str  # as the user named it
    categories: tuple[Category, ...]
    splits: Mapping[str, Split]
    imgsz: int  # pixels, the longer side of an image in the network
    strides: tuple[int, ...] = STRIDES


def take_snapshot(
    data: str, splits: tuple[str, ...] | None, imgsz: int, progress: Callable[[int, int], None] | None = None
) -> Snapshot:
    """Open a data set and read every image file of it once.

    Args:
        data: whatever `open_dataset` takes.
        splits: None for all that there are.
        imgsz: pixels, the longer side of an image in the network.
        progress: called with (files read, files in all).

    Raises:
        UserError: if the data set cannot be opened.
    """
    opened = open_dataset(data, splits)
    paths = list(dict.fromkeys(index.path(i) for index in opened.splits.values() for i in range(len(index))))
    pictures: dict[Path, Picture] = {}
    with quiet(), ThreadPoolExecutor(available_cores(), thread_name_prefix="doctor") as pool:
        for path, picture in zip(paths, pool.map(read_picture, paths), strict=True):
            pictures[path] = picture
            if progress is not None:
                progress(len(pictures), len(paths))
    found = {
        name: Split(name, index, trainable_boxes(index), tuple(pictures[index.path(i)] for i in range(len(index))))
        for name, index in opened.splits.items()
    }
    return Snapshot(data, opened.categories, MappingProxyType(found), imgsz)


def read_picture(path: Path) -> Picture:
    """Read, decode and digest one file; whatever is wrong with it becomes a part of the answer."""
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        return Picture(damage=error.strerror or "it cannot be opened")
    kind, turn, damage = _by_pillow(data)
    digest = hashlib.sha256(data).digest()
    shown = _decode(data, cv2.IMREAD_COLOR)
    if shown is None:
        return Picture(orientation=turn, damage=damage or "OpenCV does not decode it", data=digest)
    stored = shown if turn == 1 else _decode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if kind == "JPEG" and not damage:
        damage = _missing_part(shown if stored is None else stored)
    grey = cv2.resize(cv2.cvtColor(shown, cv2.COLOR_BGR2GRAY), (THUMB, THUMB), interpolation=cv2.INTER_AREA)
    pixels = dict.fromkeys(_digest(image) for image in (stored, shown) if image is not None)
    return Picture((shown.shape[1], shown.shape[0]), turn, damage, digest, tuple(pixels), grey.ravel())


def _by_pillow(data: np.ndarray) -> tuple[str, int, str]:
    """Format, orientation, and what keeps the file from being decoded to its end ('' for nothing)."""
    try:
        image = PIL.Image.open(io.BytesIO(data.tobytes()))
    except Exception:  # no picture, or of a kind that Pillow does not know; OpenCV decides
        return "", 1, "" if data.size else "the file is empty"
    kind, turn = image.format or "", 1
    try:
        with suppress(Exception):  # EXIF that cannot be parsed turns nothing
            turn = orientation(image)
        # an eighth of a JPEG needs all of its data, but not the work of making all pixels
        image.draft("L", (image.width // 8, image.height // 8))
        image.load()
    except Exception as error:  # Pillow's plugins raise nearly anything
        return kind, turn, str(error) or type(error).__name__
    return kind, turn, ""


def _decode(data: np.ndarray, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(data, flags) if data.size else None
    except cv2.error:  # over a billion pixels
        return None


def _missing_part(image: np.ndarray) -> str:
    """What part of a JPEG is the grey that stands for missing data: rows of exactly that grey at its lower end."""
    if (image[0] == _MISSING_GREY).all() or not (image[-1] == _MISSING_GREY).all():
        return ""
    rows = int(np.argmin((image == _MISSING_GREY).all((1, 2))[::-1]))
    return f"the data ends early: the lowest {rows} of {len(image)} rows are grey" if rows >= 8 else ""


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(image, usedforsecurity=False).digest() + bytes(str(image.shape), "ascii")


@contextmanager
def quiet() -> Iterator[None]:
    """What Pillow and OpenCV have to say of damaged files stands in the report."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        cv2.utils.logging.setLogLevel(level)
