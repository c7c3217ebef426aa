from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_cosine.data.index import Category, Index
from yolo_cosine.data.voc import VocPart, read_voc, read_xml
from yolo_cosine.errors import UserError

NAMES = ("cat", "dog")
CATEGORIES = tuple(Category(k, name) for k, name in enumerate(NAMES))


def thing(name: str = "dog", box=(1, 2, 10, 20), extra: str = "") -> str:
    edges = "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name>{extra}<bndbox>{edges}</bndbox></object>"


def annotation(*things: str, size: tuple[int, int] | None = (40, 30), filename: str = "old.jpg") -> str:
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    return f"<annotation><filename>{filename}</filename>{sides}{''.join(things)}</annotation>"


def write(root: Path, xmls: dict[str, str], pictures: tuple[str, ...] | None = None) -> VocPart:
    for folder in ("JPEGImages", "Annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for stem, text in xmls.items():
        (root / "Annotations" / f"{stem}.xml").write_text(text, encoding="utf-8")
    for name in pictures if pictures is not None else [f"{stem}.jpg" for stem in xmls]:
        Image.new("RGB", (40, 30)).save(root / "JPEGImages" / name)
    return VocPart(root / "JPEGImages", root / "Annotations")


def read(root: Path, xmls: dict[str, str], pictures: tuple[str, ...] | None = None, **options) -> Index:
    return read_voc("set: train", root, [write(root, xmls, pictures)], CATEGORIES, **options)


def test_columns(tmp_path):
    xmls = {"b": annotation(thing(), thing("cat", (1, 1, 40, 30))), "a": annotation()}
    index = read(tmp_path, xmls)
    assert index.files == ("JPEGImages/a.jpg", "JPEGImages/b.jpg") and index.image_ids.tolist() == [1, 2]
    assert index.sizes.tolist() == [[40, 30]] * 2 and index.offsets.tolist() == [0, 0, 2] and index.notes == ()
    assert index.boxes.tolist() == [[0, 1, 10, 19], [0, 0, 40, 30]]  # the whole picture is 1, 1, 40, 30 in VOC
    assert index.classes.tolist() == [1, 0] and index.areas.tolist() == [190, 1200]


def test_boxes_that_count_from_zero(tmp_path):
    assert read(tmp_path, {"a": annotation(thing(box=(0, 0, 40, 30)))}, one_based=False).boxes.tolist() == [
        [0, 0, 40, 30]
    ]


def test_difficult_objects_are_regions_to_ignore(tmp_path):
    hard = thing(extra="<difficult>1</difficult>")
    easy = thing(extra="<difficult>0</difficult><part><name>tail</name><bndbox><xmin>x</xmin></bndbox></part>")
    index = read(tmp_path, {"a": annotation(hard, easy)})
    assert index.crowd.tolist() == [True, False]
    assert index.notes == ("set: train: 1 object(s) are marked difficult: taken as regions to ignore",)


def test_a_size_that_is_missing_is_read_from_the_header(tmp_path):
    xmls = {"a": annotation(size=None), "b": annotation(size=(0, 0)), "c": annotation(size=("wide", 30))}
    assert read(tmp_path, xmls).sizes.tolist() == [[40, 30]] * 3


def test_the_image_of_an_xml(tmp_path):
    xmls = {"a": annotation(filename="b.png"), "c": annotation(filename="x\\d.png")}
    index = read(tmp_path, xmls, pictures=("a.jpeg", "b.png", "d.png"))
    assert index.files == ("JPEGImages/a.jpeg", "JPEGImages/d.png")  # its own name first, what it says next


@pytest.mark.parametrize(
    ("keep", "files"), [(True, ("JPEGImages/a.jpg", "JPEGImages/b.jpg")), (False, ("JPEGImages/a.jpg",))]
)
def test_missing_images(tmp_path, keep, files):
    xmls = {"a": annotation(thing()), "b": annotation(thing())}
    index = read(tmp_path, xmls, pictures=("a.jpg",), keep_missing=keep)
    assert index.files == files and len(index.boxes) == len(files)
    assert "1 of 2 images are missing (JPEGImages/b.jpg" in index.notes[0]


def test_no_image_at_all(tmp_path):
    with pytest.raises(UserError, match=r"none of its 1 images is there, such as JPEGImages/a.jpg"):
        read(tmp_path, {"a": annotation()}, pictures=())


@pytest.mark.parametrize("text", ["b\na\n", "b  1\na -1\n", "b\r\n\r\na\na\n"])
def test_lists_and_years(tmp_path, text):
    one = write(tmp_path / "VOC2007", {"a": annotation(), "b": annotation(), "c": annotation()})
    two = write(tmp_path / "VOC2012", {"d": annotation()})
    (tmp_path / "list.txt").write_text(text)
    parts = [VocPart(one.images, one.annotations, tmp_path / "list.txt"), two]
    files = read_voc("set", tmp_path, parts, CATEGORIES).files
    assert files == ("VOC2007/JPEGImages/b.jpg", "VOC2007/JPEGImages/a.jpg", "VOC2012/JPEGImages/d.jpg")


def test_a_list_of_images_in_folders(tmp_path):
    part = write(tmp_path, {"a": annotation()})
    for folder in ("JPEGImages", "Annotations"):
        (tmp_path / folder / "s").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "JPEGImages/s/a.png")
    (tmp_path / "Annotations/s/a.xml").write_text(annotation(thing()))
    (tmp_path / "Annotations/s/b.xml").write_text(annotation(filename="a.png"))
    (tmp_path / "list.txt").write_text("s/a\na\ns/b\n")
    index = read_voc("set", tmp_path, [VocPart(part.images, part.annotations, tmp_path / "list.txt")], CATEGORIES)
    assert index.files == ("JPEGImages/s/a.png", "JPEGImages/a.jpg", "JPEGImages/s/a.png")
    assert index.offsets.tolist() == [0, 1, 1, 1]
    assert read_voc("set", tmp_path, [part], CATEGORIES).files == (
        "JPEGImages/a.jpg",
    )  # without a list: none but its own


def test_a_name_with_a_dot_is_not_taken_for_that_of_another_image(tmp_path):
    index = read(tmp_path, {"a": annotation(), "a.jpg": annotation()}, pictures=("a.jpg", "a.jpg.png"))
    assert index.files == ("JPEGImages/a.jpg.png", "JPEGImages/a.jpg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\ngone\n", r"list.txt: names 'gone', and there is no .*gone.xml \(1 of 2"),
        ("\n", "list.txt: names no image"),
        (None, r"list: .*list.txt: cannot be read"),
    ],
)
def test_a_wrong_list(tmp_path, text, message):
    part = write(tmp_path, {"a": annotation()})
    if text is not None:
        (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        read_voc("set", tmp_path, [VocPart(part.images, part.annotations, tmp_path / "list.txt")], CATEGORIES)


def test_a_wrong_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"annotations: .*gone: there is no such folder"):
        read_voc("set", tmp_path, [VocPart(tmp_path, tmp_path / "gone")], CATEGORIES)
    with pytest.raises(UserError, match=r"annotations: .*empty: holds no XML file"):
        read_voc("set", tmp_path, [VocPart(tmp_path, tmp_path / "empty")], CATEGORIES)


BOMB = '<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]><annotation>&y;</annotation>'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (annotation(thing("dgo")), r"a.xml: object 1: name: 'dgo' is not in `names`; did you mean 'dog'\?"),
        (annotation(thing("zebra")), "'zebra' is not in `names`; the classes are cat, dog"),
        (annotation(thing(), thing("")), "object 2: name: '' is not in `names`"),
        (annotation("<object><name>cat</name></object>"), "object 1: bndbox.xmin: missing; must be a finite number"),
        (annotation(thing(box=(1, 2, "x", 4))), "object 1: bndbox.xmax: 'x'; must be a finite number"),
        (annotation(thing(box=(1, "nan", 3, 4))), "object 1: bndbox.ymin: 'nan'; must be a finite number"),
        (annotation()[:-5], "is no XML: .*write or download it again"),
        ("", "is no XML"),
        (BOMB, "has a DOCTYPE"),
    ],
)
def test_a_wrong_xml(tmp_path, text, message):
    with pytest.raises(UserError, match=f"a.xml: .*{message}" if not message.startswith("a.xml") else message):
        read(tmp_path, {"a": text})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_doctype_hides_in_no_encoding(tmp_path, encoding):
    (tmp_path / "a.xml").write_bytes(BOMB.encode(encoding))
    with pytest.raises(UserError, match="has a DOCTYPE"):
        read_xml(tmp_path / "a.xml", NAMES)


def test_an_unknown_encoding(tmp_path):
    (tmp_path / "a.xml").write_text('<?xml version="1.0" encoding="nonsense"?><annotation/>')
    with pytest.raises(UserError, match="is no XML"):
        read_xml(tmp_path / "a.xml", NAMES)


@pytest.mark.skipif(
    not os.environ.get("YOLO_COSINE_REAL_DATA"), reason="YOLO_COSINE_REAL_DATA names no folder with bccd/"
)
@pytest.mark.parametrize("one_based", [True, False])
def test_bccd_as_xml_is_bccd(tmp_path, one_based):
    from yolo_cosine.data.coco import read_coco

    root = Path(os.environ["YOLO_COSINE_REAL_DATA"]) / "bccd"
    coco = read_coco(root / "annotations/instances_val.json", [root / "images"], keep_missing=False)
    for i, file in enumerate(coco.files):
        things = []
        for k in range(*coco.offsets[i : i + 2]):
            x, y, w, h = coco.boxes[k].tolist()
            things.append(thing(coco.names[coco.classes[k]], (x + one_based, y + one_based, x + w, y + h)))
        path = tmp_path / f"{Path(file).stem}.xml"
        path.write_text(annotation(*things, size=tuple(coco.sizes[i]), filename=file))
    categories = tuple(Category(k, name) for k, name in enumerate(coco.names))
    index = read_voc("bccd", root, [VocPart(root / "images", tmp_path)], categories, one_based=one_based)
    expected = coco.subset(np.argsort(coco.files))
    assert [Path(file).name for file in index.files] == list(expected.files)
    for column in ("offsets", "classes", "sizes", "boxes"):
        np.testing.assert_array_equal(getattr(index, column), getattr(expected, column))
    assert len(index) == 87 and len(index.boxes) == 1138
