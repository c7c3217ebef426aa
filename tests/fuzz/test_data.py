"""Annotation files and data set YAMLs that are anything."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.conftest import ANYTHING, FUZZ, TEXT, outcome, spoiled_bytes, spoiled_tree
from yolo_cosine.data.coco import read_coco
from yolo_cosine.data.dataset import open_dataset
from yolo_cosine.data.index import Index, trainable_boxes
from yolo_cosine.data.voc import read_xml
from yolo_cosine.data.yolo import read_labels


def usable(index: Index | None) -> None:
    """What everything after the readers relies on."""
    if index is None:
        return
    boxes, images = len(index.boxes), len(index)
    assert (
        images and index.image_ids.shape == (images,) and index.sizes.shape == (images, 2) and (index.sizes >= 0).all()
    )
    assert index.offsets[0] == 0 and index.offsets[-1] == boxes and (np.diff(index.offsets) >= 0).all()
    assert index.boxes.shape == (boxes, 4) and np.isfinite(index.boxes).all() and np.isfinite(index.areas).all()
    assert index.classes.shape == index.crowd.shape == (boxes,)
    assert ((index.classes >= 0) & (index.classes < len(index.categories))).all()
    found = trainable_boxes(index)
    assert ((found.xyxy >= 0) & (found.xyxy <= 1)).all()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A folder with two images of 40 x 30 in `images`, in a deep place, so that `..` leads nowhere in particular."""
    folder = tmp_path_factory.mktemp("fuzz") / "a/b/c/d/e/set"
    (folder / "images").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (40, 30)).save(folder / "images" / name)
    return folder


# --- COCO's JSON ------------------------------------------------------------------------------------------------------

COCO = {
    "info": {},
    "images": [
        {"id": 7, "file_name": "b.jpg", "width": 40, "height": 30},
        {"id": 3, "file_name": "a.jpg", "width": 40, "height": 30},
    ],
    "annotations": [
        {"id": 1, "image_id": 3, "category_id": 90, "bbox": [1, 2, 3, 4.5], "area": 9.5, "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 0, "segmentation": [[1, 2, 11, 2, 11, 8]]},
        {
            "id": 3,
            "image_id": 3,
            "category_id": 0,
            "bbox": [0, 0, 40, 30],
            "iscrowd": 1,
            "segmentation": {"size": [30, 40]},
        },
    ],
    "categories": [{"id": 90, "name": "cat"}, {"id": 0, "name": "dog"}],
}
coco_files = spoiled_tree(COCO).map(json.dumps).flatmap(spoiled_bytes) | spoiled_bytes(json.dumps(COCO))


@settings(FUZZ, max_examples=400)
@given(content=coco_files, keep_missing=st.booleans())
@example(json.dumps(COCO).replace("a.jpg", "\\ud800/a.jpg").encode(), True)  # JSON can say it, a file system cannot
@example(json.dumps(COCO).replace("cat", "\\ud800").encode(), True)
def test_coco(root, content, keep_missing):
    path = root / "fuzz.json"
    path.write_bytes(content)
    usable(outcome(lambda: read_coco(path, [root / "images"], keep_missing=keep_missing), "fuzz.json"))


# --- YOLO's labels ----------------------------------------------------------------------------------------------------

columns = st.sampled_from(
    ["0", "1", "2", "0.5", "1.0", "-0.5", "1e-3", "9.99", "1e400", "nan", "-inf", "0x1", "1_0", "١", "\0"]
)
lines = st.lists(columns | TEXT, max_size=9).map(" ".join)
labels = st.lists(lines | st.just("0 0.5 0.5 0.2 0.2"), max_size=4).map("\n".join).flatmap(spoiled_bytes)


@settings(FUZZ, max_examples=400)
@given(content=labels, keypoints=st.sampled_from([0, 2, 6]))
def test_yolo_labels(root, content, keypoints):
    path = root / "fuzz.txt"
    path.write_bytes(content)
    boxes = outcome(lambda: read_labels(str(path), ("cat", "dog"), keypoints), "fuzz.txt", lines=1)
    for box in boxes or ():
        assert box.klass in (0, 1) and all(map(math.isfinite, box.xywh)) and box.line >= 1


# --- Pascal VOC's XML -------------------------------------------------------------------------------------------------

XML = """<?xml version="1.0" encoding="utf-8"?>
<annotation><filename>a.jpg</filename><size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>cat</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>10.5</xmax><ymax>20</ymax></bndbox></object>
<object><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>10</xmax><ymax>20</ymax></bndbox><name>dog</name></object></annotation>"""
PIECES = ["40", "cat", "1", "10.5", "xmin", "bndbox", "object", "name", "width", "utf-8", "1.0", "<size>", "</object>"]


@st.composite
def xml_files(draw):
    """The file with up to three pieces of it exchanged for anything."""
    text = XML
    for piece in draw(st.lists(st.sampled_from(PIECES), max_size=3)):
        text = text.replace(piece, draw(TEXT | st.sampled_from(PIECES)), draw(st.sampled_from([1, 2, -1])))
    return draw(spoiled_bytes(text))


@settings(FUZZ, max_examples=400)
@given(content=xml_files())
def test_voc_xml(root, content):
    path = root / "fuzz.xml"
    path.write_bytes(content)
    found = outcome(lambda: read_xml(path, ("cat", "dog")), "fuzz.xml", lines=2)
    for thing in found.objects if found else ():
        assert thing.name in ("cat", "dog") and all(map(math.isfinite, thing.xywh))


# --- data set YAMLs ---------------------------------------------------------------------------------------------------

FORMS = (
    {"path": ".", "train": {"images": "images", "annotations": "coco.json"}, "fetch": []},
    {"train": "images", "val": ["images"], "names": {0: "cat", 1: "dog"}, "nc": 2, "kpt_shape": [17, 3]},
    {"train": "images", "names": ["dog", "cat"], "coco": {"train": {"images": "images", "annotations": "coco.json"}}},
    {
        "format": "voc",
        "names": ["cat", "dog"],
        "one_based": False,
        "train": [
            {"images": "images", "annotations": "xml", "list": "list.txt"},
            {"images": "images", "annotations": "xml"},
        ],
    },
)


def dumped(content: object) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


yamls = st.sampled_from(FORMS).flatmap(lambda form: spoiled_tree(form, ANYTHING)).map(dumped).flatmap(spoiled_bytes)


@pytest.fixture(scope="module")
def data_yaml(root) -> Path:
    """Where a data set YAML may stand: beside annotations in each of the three forms."""
    (root / "coco.json").write_text(json.dumps(COCO))
    (root / "list.txt").write_text("a\n")
    (root / "xml").mkdir()
    (root / "xml/a.xml").write_text(XML)
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    return root / "fuzz.yaml"


@settings(FUZZ, max_examples=400)
@given(content=yamls)
@example(b'train: {images: "\\uD800", annotations: "\\uD800"}\n')
@example(b'train: images\nnames: ["\\U80000000"]\n')
@example(b'train: images\nnames: ["\\U00110000"]\n')
@example(b"train: images\nnames: [!!bool dog]\n")
@example(b"train: coco.json\nnames: [dog, cat]\n")  # a list whose line is too long for a file name
@example(b"train: images\nnames: [dog, cat]\nval: " + b"x" * 300)
@example(b"path: " + b"x" * 300 + b"\ntrain: images\nnames: [dog, cat]\n")
def test_data_yamls(data_yaml, content):
    assume(b"/" not in content)
    data_yaml.write_bytes(content)
    found = outcome(lambda: open_dataset(str(data_yaml), None), str(data_yaml.parent))
    for index in found.splits.values() if found else ():
        usable(index)
