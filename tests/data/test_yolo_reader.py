from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from yolo_cosine.data.image_files import image_size
from yolo_cosine.data.index import Category, Index
from yolo_cosine.data.yolo import label_path, list_images, read_labels, read_yolo
from yolo_cosine.errors import UserError

NAMES = ("cat", "dog")
CATEGORIES = tuple(Category(k, name) for k, name in enumerate(NAMES))


def picture(path: Path, size: tuple[int, int] = (40, 20), orientation: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.new("RGB", size).save(path, exif=exif)
    return path


def labelled(root: Path, name: str, text: str | None) -> None:
    """An image of 40 x 20 and, unless None, its label file."""
    picture(root / "images" / f"{name}.jpg")
    if text is not None:
        label = root / "labels" / f"{name}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(text, encoding="utf-8")


def read(root: Path, *entries: str, **options) -> Index:
    return read_yolo("set: train", root, [root / e for e in entries or ("images",)], CATEGORIES, **options)


def test_columns(tmp_path):
    labelled(tmp_path, "sub/b", "1 0.5 0.5 0.25 0.5\n\n0 0.1 0.2 0.1 0.2\n")
    labelled(tmp_path, "c", "")
    labelled(tmp_path, "a", None)
    (tmp_path / "images/notes.txt").write_text("no picture")
    (tmp_path / "images/._a.jpg").write_text("macOS")
    index = read(tmp_path)
    assert index.files == ("images/a.jpg", "images/c.jpg", "images/sub/b.jpg") and index.notes == ()
    assert index.image_ids.tolist() == [1, 2, 3] and index.sizes.tolist() == [[40, 20]] * 3
    assert index.offsets.tolist() == [0, 0, 0, 2] and index.classes.tolist() == [1, 0]
    np.testing.assert_allclose(index.boxes, [[15, 5, 10, 10], [2, 2, 4, 4]])
    np.testing.assert_allclose(index.areas, [100, 16])
    assert not index.crowd.any()


@pytest.mark.parametrize(
    ("line", "xywh"),
    [
        ("1 0.5 0.5 0.25 0.5", (0.375, 0.25, 0.25, 0.5)),
        ("1.0\t5e-1 .5 0.25 0.5 ", (0.375, 0.25, 0.25, 0.5)),
        ("1 0.1 0.2 0.5 0.1 0.3 0.8", (0.1, 0.1, 0.4, 0.7)),  # a polygon
        ("1 0.2 0.2 0.6 0.2 0.6 0.4 0.2 0.4", (0.2, 0.2, 0.4, 0.2)),  # four corners, as for oriented boxes
        ("1 0.0 0.5 0.1 1.2", (-0.05, -0.1, 0.1, 1.2)),  # over the edge: kept
        ("\ufeff1 0.5 0.5 0.25 0.5", (0.375, 0.25, 0.25, 0.5)),
    ],
)
def test_a_line(tmp_path, line, xywh):
    (tmp_path / "a.txt").write_text(line, encoding="utf-8")
    (box,) = read_labels(str(tmp_path / "a.txt"), NAMES)
    assert (box.line, box.klass) == (1, 1)
    np.testing.assert_allclose(box.xywh, xywh)


def test_key_points_are_passed_over(tmp_path):
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.2 0.2 0.9 0.9 0.1 0.1")
    options = {"keypoint_columns": 4}
    np.testing.assert_allclose(read_labels(str(tmp_path / "a.txt"), NAMES, **options)[0].xywh, (0.4, 0.4, 0.2, 0.2))
    np.testing.assert_allclose(read_labels(str(tmp_path / "a.txt"), NAMES)[0].xywh, (0.1, 0.1, 0.8, 0.8))


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("0 0.5 0.5 0.1", "has 4 columns; a box is"),
        ("0 0.5 0.5 0.1 0.1 0.9", "has 6 columns; a box is"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "has 8 columns; a box is"),
        ("0", "has 1 columns"),
        ("cat 0.5 0.5 0.1 0.1", "no number"),
        ("0,0.5,0.5,0.1,0.1", "no number"),
        ("0 0.5 nan 0.1 0.1", "no finite number"),
        ("0 0.5 inf 0.1 0.1", "no finite number"),
        ("2 0.5 0.5 0.1 0.1", "class 2 is none of the 2 classes, 0 to 1"),
        ("-1 0.5 0.5 0.1 0.1", "class -1 is none"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5 is none"),
        ("0 320 240 64 48", "not in fractions of the image"),
    ],
)
def test_a_malformed_line(tmp_path, line, rule):
    labelled(tmp_path, "a", f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    with pytest.raises(UserError, match=f"labels/a.txt:3: '{line}': .*{rule}"):
        read(tmp_path)


def test_a_label_file_that_is_no_text(tmp_path):
    labelled(tmp_path, "a", "")
    (tmp_path / "labels/a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"labels/a.txt: cannot be read as a label file"):
        read(tmp_path)


def test_boxes_over_the_edge_are_noted_beyond_a_little(tmp_path):
    labelled(tmp_path, "a", "0 0.005 0.5 0.02 0.1\n0 0.5 0.95 0.1 0.3\n")
    (note,) = read(tmp_path).notes
    assert "1 box(es) reach over the image's edge" in note and "labels/a.txt:2" in note


def test_no_label_file_at_all(tmp_path):
    labelled(tmp_path, "a", None)
    with pytest.raises(UserError, match=r"none of its 1 images has a label file; looked for .*labels/a.txt"):
        read(tmp_path)


def test_unreadable_images_are_left_out_by_name(tmp_path):
    for name in "ab":
        labelled(tmp_path, name, "0 0.5 0.5 0.1 0.1")
    (tmp_path / "images/a.jpg").write_bytes(b"no picture")
    (tmp_path / "images/c.heic").write_bytes(b"of another kind")
    index = read(tmp_path)
    assert index.files == ("images/b.jpg",) and index.image_ids.tolist() == [1] and len(index.boxes) == 1
    assert "1 of 2 images have a header that cannot be read (images/a.jpg" in index.notes[0]
    assert "c.heic: left out" in index.notes[1]


@pytest.mark.parametrize("style", ["./images/a.jpg", "images/a.jpg", "{root}/images/a.jpg"])
def test_a_list_of_images(tmp_path, style):
    labelled(tmp_path, "a", "0 0.5 0.5 0.1 0.1")
    labelled(tmp_path, "b", "0 0.5 0.5 0.1 0.1")
    (tmp_path / "train.txt").write_text("\n" + style.format(root=tmp_path) + "\n")
    assert read(tmp_path, "train.txt").files == ("images/a.jpg",)
    both = read(tmp_path, "train.txt", "images")
    assert both.files == ("images/a.jpg", "images/b.jpg") and "1 image(s) are listed more than once" in both.notes[0]


def test_a_list_that_names_what_is_not_there(tmp_path):
    labelled(tmp_path, "a", "0 0.5 0.5 0.1 0.1")
    (tmp_path / "train.txt").write_text("images/a.jpg\nimages/gone.jpg")
    index = read(tmp_path, "train.txt")
    assert index.files == ("images/a.jpg",) and "1 of 2 images are missing (images/gone.jpg" in index.notes[0]
    (tmp_path / "train.txt").write_text("images/gone.jpg")
    with pytest.raises(UserError, match=r"none of its 1 images is there, such as images/gone.jpg"):
        read(tmp_path, "train.txt")


def test_entries_without_images(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: holds no images; their names end in one of .*\.jpg"):
        list_images("set", tmp_path, [tmp_path / "empty"])
    with pytest.raises(UserError, match=r"gone: there is no such folder or list"):
        list_images("set", tmp_path, [tmp_path / "gone"])


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("/d/images/a.jpg", "/d/labels/a.txt"),
        ("/images/x/images/train/a.b.png", "/images/x/labels/train/a.b.txt"),
        ("/d/pictures/a.jpg", "/d/pictures/a.txt"),
        ("/d/myimages/a.jpg", "/d/myimages/a.txt"),
    ],
)
def test_where_labels_are_is_ultralytics_rule(image, label):
    from ultralytics.data.utils import img2label_paths

    assert label_path(image) == label == img2label_paths([image])[0]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp", ".jp2"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_sizes_are_those_that_opencv_decodes(tmp_path, suffix, orientation):
    import cv2

    path = picture(tmp_path / f"a{suffix}", (40, 20), orientation)
    height, width = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_COLOR).shape[:2]
    assert image_size(path) == (width, height)


def test_sizes_of_what_is_no_picture(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    assert image_size(tmp_path / "a.jpg") is None and image_size(tmp_path / "gone.jpg") is None


unit = st.floats(0, 1)


@given(st.lists(st.tuples(st.integers(0, 1), unit, unit, unit, unit), max_size=5))
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("labels") / "a.txt"
    path.write_text("".join(f"{c} {x!r} {y!r} {w!r} {h!r}\n" for c, x, y, w, h in rows))
    found = read_labels(str(path), NAMES)
    assert [box.klass for box in found] == [row[0] for row in rows]
    for box, (_, cx, cy, w, h) in zip(found, rows, strict=True):
        np.testing.assert_allclose(box.xywh, (cx - w / 2, cy - h / 2, w, h), atol=1e-15)


@pytest.mark.skipif(
    not os.environ.get("YOLO_COSINE_REAL_DATA"), reason="YOLO_COSINE_REAL_DATA names no folder with bccd/"
)
def test_bccd_as_text_is_bccd(tmp_path):
    from yolo_cosine.data.coco import read_coco

    root = Path(os.environ["YOLO_COSINE_REAL_DATA"]) / "bccd"
    coco = read_coco(root / "annotations/instances_val.json", [root / "images"], keep_missing=False)
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for i, file in enumerate(coco.files):
        os.symlink(coco.path(i), tmp_path / "images" / file)
        width, height = coco.sizes[i]
        lines = []
        for k in range(*coco.offsets[i : i + 2]):
            x, y, w, h = coco.boxes[k]
            lines.append(
                f"{coco.classes[k]} {(x + w / 2) / width:.17g} {(y + h / 2) / height:.17g} {w / width:.17g} {h / height:.17g}"
            )
        (tmp_path / "labels" / file).with_suffix(".txt").write_text("\n".join(lines))
    categories = tuple(Category(k, name) for k, name in enumerate(coco.names))
    index = read_yolo("bccd", tmp_path, [tmp_path / "images"], categories)
    order = np.argsort(coco.files)
    expected = coco.subset(order)
    assert [Path(file).name for file in index.files] == list(expected.files)
    np.testing.assert_array_equal(index.offsets, expected.offsets)
    np.testing.assert_array_equal(index.classes, expected.classes)
    np.testing.assert_array_equal(index.sizes, expected.sizes)
    np.testing.assert_allclose(index.boxes, expected.boxes, atol=1e-9)
    assert len(index) == 87 and len(index.boxes) == 1138
