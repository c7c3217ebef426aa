from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_cosine.data.coco import read_coco
from yolo_cosine.data.index import Index, trainable_boxes
from yolo_cosine.errors import UserError

REAL = os.environ.get("YOLO_COSINE_REAL_DATA")
real_data = pytest.mark.skipif(not REAL, reason="YOLO_COSINE_REAL_DATA names no folder with bccd/ and tiny_coco/")


def content(**changes) -> dict:
    """Two images of 40 x 30, three boxes (one a crowd), categories with ids 0 and 90, listed in the other order."""
    return {
        "images": [
            {"id": 7, "file_name": "b.jpg", "width": 40, "height": 30},
            {"id": 3, "file_name": "a.jpg", "width": 40, "height": 30},
        ],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 9.5, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 0, "bbox": [5, 6, 7, 8]},
            {"id": 3, "image_id": 3, "category_id": 0, "bbox": [0, 0, 40, 30], "area": 600, "iscrowd": 1},
        ],
        "categories": [{"id": 90, "name": "cat"}, {"id": 0, "name": "dog"}],
        **changes,
    }


def annotation(**changes) -> dict:
    return {"id": 11, "image_id": 3, "category_id": 90, "bbox": [1, 2, 3, 4], **changes}


def write(root: Path, data, pictures=("a.jpg", "b.jpg")) -> Path:
    for name in pictures:
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30)).save(root / "images" / name)
    path = root / "instances.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def read(root: Path, data, pictures=("a.jpg", "b.jpg"), keep_missing: bool = False) -> Index:
    return read_coco(write(root, data, pictures), [root / "images"], keep_missing=keep_missing)


def test_columns(tmp_path):
    index = read(tmp_path, content())
    assert index.files == ("b.jpg", "a.jpg") and index.image_ids.tolist() == [7, 3] and index.notes == ()
    assert [(c.id, c.name) for c in index.categories] == [(0, "dog"), (90, "cat")]
    assert index.offsets.tolist() == [0, 1, 3]
    assert index.boxes.tolist() == [[5, 6, 7, 8], [1, 2, 3, 4], [0, 0, 40, 30]]
    assert index.classes.tolist() == [0, 1, 0] and index.crowd.tolist() == [False, False, True]
    assert index.areas.tolist() == [56, 9.5, 600]  # the one without an area: of its box
    assert index.sizes.tolist() == [[40, 30]] * 2


def test_no_annotations_and_empty_images(tmp_path):
    index = read(tmp_path, content(annotations=[]))
    assert len(index) == 2 and index.boxes.shape == (0, 4) and index.offsets.tolist() == [0, 0, 0]


def test_a_mask_gives_the_missing_box_and_no_more(tmp_path):
    polygon = {"segmentation": [[1, 2, 11, 2, 11, 8], [20.5, 3, 21, 9]]}
    rows = [
        annotation(**polygon, bbox=None, area=33),
        annotation(id=12, segmentation={"counts": "x", "size": [30, 40]}),
    ]
    index = read(tmp_path, content(annotations=rows))
    assert index.boxes.tolist() == [[1, 2, 20, 7], [1, 2, 3, 4]] and index.areas.tolist() == [33, 12]


def test_boxes_without_area_or_outside_stay(tmp_path):
    boxes = [[1, 1, 0, 5], [500, 500, 10, 10], [5, 5, -3, 4]]
    index = read(tmp_path, content(annotations=[annotation(id=k, bbox=box) for k, box in enumerate(boxes)]))
    assert index.boxes.tolist() == boxes
    assert len(trainable_boxes(index).xyxy) == 0


def test_a_missing_size_is_read_from_the_header(tmp_path):
    images = [{"id": 7, "file_name": "b.jpg"}, {"id": 3, "file_name": "a.jpg", "width": 0, "height": None}]
    assert read(tmp_path, content(images=images)).sizes.tolist() == [[40, 30]] * 2


@pytest.mark.parametrize(("keep_missing", "files"), [(False, ("a.jpg",)), (True, ("b.jpg", "a.jpg"))])
def test_missing_files(tmp_path, keep_missing, files):
    index = read(tmp_path, content(), pictures=("a.jpg",), keep_missing=keep_missing)
    assert index.files == files
    assert "1 of 2 images are missing (b.jpg" in index.notes[0] and str(tmp_path / "images") in index.notes[0]
    assert index.boxes[-1].tolist() == [0, 0, 40, 30] and len(index.boxes) == len(files) + 1


def test_an_unreadable_header_where_the_size_is_needed(tmp_path):
    path = write(tmp_path, content(images=[{"id": 7, "file_name": "b.jpg"}, {"id": 3, "file_name": "a.jpg"}]))
    (tmp_path / "images/b.jpg").write_bytes(b"no picture")
    index = read_coco(path, [tmp_path / "images"], keep_missing=False)
    assert index.files == ("a.jpg",) and "header that cannot be read (b.jpg" in index.notes[0]
    (tmp_path / "images/a.jpg").write_bytes(b"")
    with pytest.raises(UserError, match="nothing is left of the split"):
        read_coco(path, [tmp_path / "images"], keep_missing=True)


def test_the_folder_that_has_the_images_is_used(tmp_path):
    path = write(tmp_path, content())
    folders = [tmp_path / name for name in ("nowhere", ".", "images")]
    assert read_coco(path, folders, keep_missing=False).root == tmp_path / "images"
    with pytest.raises(
        UserError, match=r"none of its 2 images is there, such as b.jpg; looked in .*nowhere, .*images: F"
    ):
        read_coco(path, folders[:2], keep_missing=False)


def test_files_in_folders_also_as_windows_writes_them(tmp_path):
    images = [{"id": 7, "file_name": "x\\b.jpg"}, {"id": 3, "file_name": "y/a.jpg"}]
    index = read(tmp_path, content(images=images), pictures=("x/b.jpg", "y/a.jpg"))
    assert index.files == ("x/b.jpg", "y/a.jpg") and index.path(0).is_file()


def test_what_is_only_noted(tmp_path):
    images = [{"id": k, "file_name": "a.jpg", "width": 40, "height": 30} for k in (3, 7)]
    notes = read(tmp_path, content(images=images, annotations=[annotation(), annotation()])).notes
    assert "1 annotation id(s) stand twice, such as 11" in notes[0]
    assert "1 file(s) stand twice under other ids, such as a.jpg" in notes[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(content())[:-40], r"instances.json:1:\d+: is no JSON: .*cut short"),
        ("", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[1, 2]", "holds a list at the top"),
        ('{"images": []}', "categories: missing; COCO's format wants a list"),
        (json.dumps(content(images={})), "images: is a dict"),
        (json.dumps(content(images=[])), "images: is empty"),
        (json.dumps(content(annotations=[annotation(), 3])), r"annotations\[1\]: 3 is no object"),
        (json.dumps(content(annotations=None)), "annotations: is a NoneType"),
    ],
)
def test_files_that_are_not_cocos(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, text)


NAN, INF = float("nan"), float("inf")
NO_BOX = r"annotations\[0\] \(id 11\): bbox: .*must be four finite numbers"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bbox": [1, 2, "3", 4]}, NO_BOX),
        ({"bbox": [1, 2, 3]}, NO_BOX),
        ({"bbox": "1 2 3 4"}, NO_BOX),
        ({"bbox": [1, 2, NAN, 4]}, NO_BOX),
        ({"bbox": [1, INF, 3, 4]}, NO_BOX),
        ({"bbox": [1, 10**400, 3, 4]}, NO_BOX),
        ({"bbox": [True, 2, 3, 4]}, NO_BOX),
        ({"bbox": None}, NO_BOX),
        ({"bbox": None, "segmentation": [[1, 2, 3]]}, NO_BOX),
        ({"bbox": None, "segmentation": {"counts": [1, 2], "size": [30, 40]}}, NO_BOX),
        ({"area": NAN}, r"\(id 11\): area: NaN must be a number"),
        ({"area": "big"}, r'\(id 11\): area: "big" must be a number'),
        ({"iscrowd": 2}, r"\(id 11\): iscrowd: 2 must be 0, or 1"),
        ({"iscrowd": []}, r"\(id 11\): iscrowd: \[\] must be 0, or 1"),
        ({"image_id": 8}, r"\(id 11\): image_id: 8: there is no such image"),
        ({"image_id": "3"}, r'\(id 11\): image_id: "3" must be a whole number'),
        ({"image_id": 10**30}, r"\(id 11\): image_id: 10+ must be a whole number"),
        ({"category_id": 1}, r"\(id 11\): category_id: 1: there is no such category"),
        ({"category_id": None}, r"\(id 11\): category_id: null must be a whole number"),
    ],
)
def test_a_wrong_annotation(tmp_path, changes, message):
    with pytest.raises(UserError, match=f"instances.json: .*{message}"):
        read(tmp_path, content(annotations=[annotation(**changes)]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_name": "/etc/passwd"}, "must lie below the folder"),
        ({"file_name": "../a.jpg"}, "must lie below the folder"),
        ({"file_name": "x/../../a.jpg"}, "must lie below the folder"),
        ({"file_name": "..\\a.jpg"}, "must lie below the folder"),
        ({"file_name": "C:\\a.jpg"}, "must lie below the folder"),
        ({"file_name": ""}, "must lie below the folder"),
        ({"file_name": 7}, "file_name: 7 must be the name of a file"),
        ({"id": 3.5}, "id: 3.5 must be a whole number"),
        ({"id": 3}, "the image id 3 stands twice, at b.jpg and a.jpg"),
        ({"width": "40"}, 'width: "40" must be a whole number of pixels'),
        ({"height": -1}, "height: -1 must be a whole number of pixels"),
    ],
)
def test_a_wrong_image(tmp_path, changes, message):
    data = content()
    data["images"][0] |= changes
    with pytest.raises(UserError, match=f"instances.json: .*{message}"):
        read(tmp_path, data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": 90}, r"category id 90 stands twice, at categories\[0\] \(id 90\) and categories\[1\]"),
        ({"name": "cat"}, "category name 'cat' stands twice"),
        ({"name": " "}, r"categories\[1\] \(id 0\): name: .* must be a name"),
        ({"name": 4}, "name: 4 must be a name"),
        ({"id": "0"}, 'id: "0" must be a whole number'),
    ],
)
def test_a_wrong_category(tmp_path, changes, message):
    data = content()
    data["categories"][1] |= changes
    with pytest.raises(UserError, match=message):
        read(tmp_path, data)


def test_missing_keys_are_named(tmp_path):
    data = content()
    del data["annotations"][1]["image_id"]
    with pytest.raises(UserError, match=r"annotations\[1\] \(id 2\): image_id: missing; must be a whole number"):
        read(tmp_path, data)


def test_a_missing_annotation_file_and_a_folder(tmp_path):
    write(tmp_path, content())
    with pytest.raises(UserError, match=r"other.json: there is no such annotation file; its folder has instances.json"):
        read_coco(tmp_path / "other.json", [tmp_path], keep_missing=True)
    with pytest.raises(UserError, match="is a folder"):
        read_coco(tmp_path, [tmp_path], keep_missing=True)


@real_data
@pytest.mark.parametrize(("split", "images", "boxes"), [("train", 205, 2805), ("val", 87, 1138), ("test", 72, 945)])
def test_bccd(split, images, boxes):
    root = Path(REAL) / "bccd"
    index = read_coco(root / f"annotations/instances_{split}.json", [root / "images"], keep_missing=False)
    assert (len(index), len(index.boxes), index.notes) == (images, boxes, ())
    assert index.names == ("Platelets", "RBC", "WBC")
    trained = trainable_boxes(index)
    empty = int((index.boxes[:, 2:] == 0).any(1).sum())
    assert empty == (split != "test") and len(trained.xyxy) == boxes - empty
    assert sum("1 box(es) without area" in note for note in trained.notes) == empty


@real_data
@pytest.mark.parametrize(("split", "boxes"), [("train", 470), ("val", 382)])
def test_tiny_coco_equals_pycocotools(split, boxes, capsys):
    from pycocotools.coco import COCO

    root = Path(REAL) / "tiny_coco"
    file = root / f"annotations/instances_{split}2017.json"
    index = read_coco(file, [root / f"{split}2017"], keep_missing=False)
    assert (len(index), len(index.boxes), index.crowd.sum(), len(index.categories)) == (50, boxes, 5, 80)
    assert index.categories[-1].id == 90  # 80 categories with gaps in their ids
    coco = COCO(str(file))
    ids = np.array([category.id for category in index.categories])
    for i, image_id in enumerate(index.image_ids.tolist()):
        expected = [coco.anns[k] for k in coco.getAnnIds(image_id)]
        mine = slice(*index.offsets[i : i + 2])
        assert index.files[i] == coco.imgs[image_id]["file_name"]
        assert index.boxes[mine].tolist() == [a["bbox"] for a in expected]
        assert ids[index.classes[mine]].tolist() == [a["category_id"] for a in expected]
        assert index.areas[mine].tolist() == [a["area"] for a in expected]
        assert index.crowd[mine].tolist() == [bool(a["iscrowd"]) for a in expected]
