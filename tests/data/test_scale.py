"""What does not grow with the data set: the work for a batch, and what is said."""

from __future__ import annotations

import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.data.cache import ImageStore
from yolo_cosine.data.image_files import check_images
from yolo_cosine.data.index import Category, Index, trainable_boxes
from yolo_cosine.data.loader import TrainLoader
from yolo_cosine.data.prints import fingerprint
from yolo_cosine.data.shared import decoding_print

COCO = 118_000  # images


def index_of(images: int, boxes_each: int = 7, width: float = 20.0, root: Path = Path("nowhere")) -> Index:
    """An index of images of 640 x 480 that are not there."""
    m = images * boxes_each
    return Index(
        "set", root, tuple(f"{i:012d}.jpg" for i in range(images)), np.arange(images), np.full((images, 2), (640, 480)),
        np.arange(images + 1) * boxes_each, np.tile((10.0, 10.0, width, 20.0), (m, 1)), np.zeros(m, np.int64),
        np.zeros(m, bool), np.full(m, 400.0), (Category(1, "a"),),
    )  # fmt: skip


class Grey(ImageStore):
    """Images that cost nothing to read."""

    def _get(self, i):
        return np.full((24, 32, 3), 114, np.uint8)


def held_for_a_batch(images: int) -> int:
    """Bytes at most that batches take while they are made, without what is there from the first one of an epoch on."""
    index = index_of(images)
    loader = TrainLoader(Grey(index, 32, "none", 1), trainable_boxes(index), RunConfig(), batch=8, seed=0, workers=1)
    epoch = loader.epoch(0)
    next(epoch)
    tracemalloc.start()
    try:
        assert len(list(islice(epoch, 12))) == 12
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        epoch.close()


def test_the_work_for_the_next_batch_does_not_depend_on_how_many_images_there_are():
    # an array with as much as a byte for each image would show
    assert held_for_a_batch(COCO) < held_for_a_batch(1000) + COCO


@pytest.mark.parametrize("width", [0.0, 5000.0])
def test_what_is_wrong_with_every_box_is_said_in_one_line(width):
    (note,) = trainable_boxes(index_of(2000, width=width)).notes
    assert len(note.boxes) == 14000 and len(note) < 400 and "\n" not in note


def test_what_is_wrong_with_every_image_is_said_in_one_line(tmp_path):
    files = [f"{i:012d}.jpg" for i in range(3000)]
    (tmp_path / files[0]).touch()
    for file in files[:2000]:
        (tmp_path / file).touch()
    sizes = np.zeros((3000, 2), np.int64)
    sizes[0] = 640, 480
    notes = check_images("set", tmp_path, files, sizes, keep_missing=True).notes
    assert [len(note.places) for note in notes] == [1000, 1999]
    assert all(len(note) < 400 + len(str(tmp_path)) and "\n" not in note for note in notes)


def test_a_data_set_of_any_size_and_names_has_its_prints(tmp_path):
    (tmp_path / "000000000001.jpg").write_bytes(b"x" * 5)
    before = index_of(2500, root=tmp_path)
    prints = fingerprint(before), decoding_print(before, 64)
    (tmp_path / "000000000001.jpg").write_bytes(b"x" * 6)
    after = fingerprint(before), decoding_print(before, 64)
    assert {part for part in prints[0] if prints[0][part] != after[0][part]} == {"files"} and prints[1] != after[1]
    odd = Index(**{**vars(index_of(2)), "files": ("half a letter \ud800", "no utf-8 \udcff"), "root": tmp_path})
    assert "2 images" in fingerprint(odd)["images"] and decoding_print(odd, 64)
