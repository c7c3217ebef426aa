from __future__ import annotations

import cv2
import numpy as np
import pytest

from yolo_cosine.doctor import copies, snapshot
from yolo_cosine.doctor.snapshot import read_picture, take_snapshot


@pytest.mark.parametrize(
    ("orientation", "size", "digests"),
    [(1, (128, 96), 1), (2, (128, 96), 2), (3, (128, 96), 2), (6, (96, 128), 2), (8, (96, 128), 2)],
)
def test_a_picture_is_seen_as_opencv_shows_it_and_known_as_it_is_stored(small_set, orientation, size, digests):
    plain, turned = small_set.root / "plain.jpg", small_set.root / "turned.jpg"
    small_set.save(plain, small_set.scene(5))
    small_set.save(turned, small_set.scene(5), orientation=orientation)
    one, two = read_picture(plain), read_picture(turned)
    assert two.size == size and two.orientation == orientation and not two.damage
    assert cv2.imread(str(turned)).shape[1::-1] == size
    assert (
        one.pixels[0] == two.pixels[0] and len(two.pixels) == digests and (one.data == two.data) == (orientation == 1)
    )


def test_exif_that_cannot_be_parsed_is_no_damage(small_set):
    path = small_set.file("train", 0)
    data = path.read_bytes()
    path.write_bytes(data[:2] + b"\xff\xe1\x00\x0cExif\x00\x00oops" + data[2:])
    picture = read_picture(path)
    assert picture.readable and not picture.damage and picture.orientation == 1


def test_a_file_that_is_not_there():
    picture = read_picture(snapshot.Path("nowhere.jpg"))
    assert not picture.readable and picture.damage and picture.thumb is None


def test_each_file_is_read_once_also_where_two_splits_have_it(small_set, monkeypatch):
    (small_set.root / "set.yaml").write_text(
        "train: {images: train, annotations: annotations/instances_train.json}\n"
        "val: {images: train, annotations: annotations/instances_train.json}\n"
        "test: {images: val, annotations: annotations/instances_val.json}\n"
    )
    small_set.write()
    read, told = [], []
    monkeypatch.setattr(snapshot, "read_picture", lambda path: read.append(path) or read_picture(path))
    found = take_snapshot(str(small_set.root / "set.yaml"), None, 128, lambda done, total: told.append((done, total)))
    assert len(read) == len(set(read)) == 8 and told == [(k, 8) for k in range(1, 9)]
    assert list(found.splits) == ["train", "val", "test"]
    assert found.splits["train"].pictures == found.splits["val"].pictures
    assert list(take_snapshot(str(small_set.root / "set.yaml"), ("val",), 128).splits) == ["val"]


def test_a_snapshot_keeps_no_images(small_set):
    kept = [p for split in take_snapshot(small_set.write(), None, 128).splits.values() for p in split.pictures]
    assert len(kept) == 8 and all(p.thumb.base is None or p.thumb.base.size <= p.thumb.size for p in kept)
    assert all(len(p.data) + sum(map(len, p.pixels)) < 200 for p in kept)


def test_box_sizes_are_those_at_the_input_of_the_network(small_set):
    small_set.content["val"]["images"][3].update(width=0, height=0)  # not known ...
    small_set.file("val", 3).unlink()  # ... and nothing tells
    split = take_snapshot(small_set.write(), None, 64).splits["val"]
    np.testing.assert_array_equal(split.box_sizes(64)[:18], split.index.boxes[:18, 2:] / 2)
    assert np.isnan(split.box_sizes(64)[18:]).all()


def test_the_most_alike_rows_are_those_that_a_search_of_all_pairs_finds(monkeypatch):
    monkeypatch.setattr(copies, "_BLOCK", 7)
    rows = np.random.default_rng(0).normal(size=(33, 12)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    all_pairs = rows @ rows.T
    best, likeness = copies.most_alike(rows, None)
    for i in range(1, 33):
        assert best[i] == all_pairs[i, :i].argmax() and likeness[i] == pytest.approx(all_pairs[i, :i].max(), abs=1e-6)
    assert likeness[0] == -1
    best, likeness = copies.most_alike(rows[:20], rows[20:])
    np.testing.assert_array_equal(best, all_pairs[:20, 20:].argmax(1))
    np.testing.assert_allclose(likeness, all_pairs[:20, 20:].max(1), atol=1e-6)
