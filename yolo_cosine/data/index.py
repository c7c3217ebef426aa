"""One immutable index for every kind of data set: which images there are, and which boxes are on them.

The index is made of columns (numpy arrays), so that a set of COCO's size is a few arrays and not a million objects.
It holds the annotations as the file has them; what training leaves out or clips is decided by `trainable_boxes`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from yolo_cosine.data.notes import Note
from yolo_cosine.errors import UserError, some_of


@dataclass(frozen=True)
class Category:
    """A class: its id in the user's file, and its name."""

    id: int
    name: str


@dataclass(frozen=True, eq=False)
class Index:
    """The images of one split with their boxes, N images and M boxes.

    Image `i` owns the boxes `offsets[i]:offsets[i + 1]`. All arrays are read-only.
    """

    source: str  # what to call it in messages
    root: Path  # folder of the images
    files: tuple[str, ...]  # (N) paths below `root`
    image_ids: np.ndarray  # (N,) int64, as in the user's file
    sizes: np.ndarray  # (N, 2) int64, width and height in pixels as the annotations say
    offsets: np.ndarray  # (N + 1,) int64
    boxes: np.ndarray  # (M, 4) float64, COCO's x, y, width, height in pixels, as in the file
    classes: np.ndarray  # (M,) int64, positions in `categories`
    crowd: np.ndarray  # (M,) bool, regions to ignore
    areas: np.ndarray  # (M,) float64, square pixels, as in the file (COCO: of the mask)
    categories: tuple[Category, ...]  # in the order of the network's outputs
    notes: tuple[Note, ...] = field(default=())  # what was found wrong with the files

    def __post_init__(self) -> None:
        for array in (self.image_ids, self.sizes, self.offsets, self.boxes, self.classes, self.crowd, self.areas):
            array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.files)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(category.name for category in self.categories)

    def path(self, i: int) -> Path:
        return self.root / self.files[i]

    def paths(self) -> list[str]:
        """The paths of all images, as text: a hundred thousand `Path`s take half a second to make."""
        return [os.path.join(self.root, file) for file in self.files]

    @cached_property
    def image_of_box(self) -> np.ndarray:
        """(M,) int64, the image that owns each box."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def subset(self, images: np.ndarray) -> Index:
        """The index of the given images only, in the given order; `images` is (K,) int64."""
        counts = np.diff(self.offsets)[images]
        offsets = np.concatenate(([0], np.cumsum(counts)))
        boxes = np.repeat(self.offsets[:-1][images] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Index(
            self.source, self.root, tuple(self.files[i] for i in images), self.image_ids[images], self.sizes[images],
            offsets, self.boxes[boxes], self.classes[boxes], self.crowd[boxes], self.areas[boxes], self.categories,
            self.notes,
        )  # fmt: skip


def build_index(
    source: str,
    root: Path,
    images: list[tuple[int, str, int, int]],
    annotations: list[tuple[int, int, tuple[float, float, float, float], float, bool]],
    categories: tuple[Category, ...],
    notes: tuple[Note, ...] = (),
) -> Index:
    """Arrange rows into an index.

    Args:
        images: (image id, file below root, width, height), pixels, in the order that the index keeps.
        annotations: (image id, position of the category, (x, y, w, h) in pixels, area, crowd), in any order; those of
            one image keep their order.

    Raises:
        UserError: if two images share an id, an annotation names an image that is not there, or there is no image.
    """
    if not images:
        raise UserError(f"{source}: holds no images; an empty split cannot be used")
    position = {}
    for row, (image_id, file, _, _) in enumerate(images):
        if image_id in position:
            raise UserError(
                f"{source}: the image id {image_id} stands twice, at {images[position[image_id]][1]} and {file}"
            )
        position[image_id] = row
    missing = next((a for a in annotations if a[0] not in position), None)
    if missing is not None:
        raise UserError(f"{source}: an annotation names the image id {missing[0]}, and there is no such image")
    owner = np.array([position[a[0]] for a in annotations], dtype=np.int64)
    order = np.argsort(owner, kind="stable")
    rows = [annotations[k] for k in order]
    offsets = np.concatenate(([0], np.cumsum(np.bincount(owner, minlength=len(images)))))
    return Index(
        source=source,
        root=root,
        files=tuple(image[1] for image in images),
        image_ids=np.array([image[0] for image in images], dtype=np.int64),
        sizes=np.array([image[2:] for image in images], dtype=np.int64).reshape(-1, 2),
        offsets=offsets.astype(np.int64),
        boxes=np.array([a[2] for a in rows], dtype=np.float64).reshape(-1, 4),
        classes=np.array([a[1] for a in rows], dtype=np.int64),
        crowd=np.array([a[4] for a in rows], dtype=bool),
        areas=np.array([a[3] for a in rows], dtype=np.float64),
        categories=categories,
        notes=notes,
    )


@dataclass(frozen=True, eq=False)
class TrainableBoxes:
    """The boxes that training uses: clipped to their image, without the empty ones. K boxes of N images."""

    offsets: np.ndarray  # (N + 1,) int64
    xyxy: np.ndarray  # (K, 4) float32, fractions of the image's width and height, 0..1
    classes: np.ndarray  # (K,) int64
    crowd: np.ndarray  # (K,) bool
    notes: tuple[Note, ...]  # what was left out or clipped


def trainable_boxes(index: Index) -> TrainableBoxes:
    """Clip every box to its image and leave out what has no area or no number in it.

    A box that lies outside its image by up to a pixel (rounding in the tool that wrote it) is clipped in silence;
    more than that, and every box that is left out, is noted with file and value.
    """
    size = index.sizes[index.image_of_box].astype(np.float64)
    first, last = index.boxes[:, :2], index.boxes[:, :2] + index.boxes[:, 2:]
    finite = np.isfinite(index.boxes).all(1)
    start, end = (
        np.clip(np.where(finite[:, None], first, 0), 0, size),
        np.clip(np.where(finite[:, None], last, 0), 0, size),
    )
    kept = finite & ((end - start) > 0).all(1) & (index.boxes[:, 2:] > 0).all(1)
    outside = kept & ((first < -1) | (last > size + 1)).any(1)
    notes = []
    for mask, kind, what in (
        (~kept, "box-without-area", "without area inside the image: left out"),
        (outside, "box-over-edge", "over the image's edge: clipped"),
    ):
        if mask.any():
            which = np.flatnonzero(mask)
            examples = some_of(which, lambda k: f"{index.files[index.image_of_box[k]]} {index.boxes[k].tolist()}")
            text = f"{index.source}: {len(which)} box(es) {what} ({examples}; x, y, w, h)"
            notes.append(Note(text, kind, [index.files[i] for i in index.image_of_box[which]], which))
    count = np.bincount(index.image_of_box[kept], minlength=len(index))
    return TrainableBoxes(
        offsets=np.concatenate(([0], np.cumsum(count))).astype(np.int64),
        xyxy=(np.concatenate((start, end), 1)[kept] / np.tile(size[kept], 2)).astype(np.float32),
        classes=index.classes[kept],
        crowd=index.crowd[kept],
        notes=tuple(notes),
    )
