from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_cosine.data.dataset import open_dataset
from yolo_cosine.data.exact import held_by_voc, held_by_yolo
from yolo_cosine.data.index import Category, Index, build_index
from yolo_cosine.errors import UserError

IDS = {"a": 70, "b": 8, "c": 2**63 - 1}
YAML = """
train: images
names: [cat, dog]
coco:
  train: {images: images, annotations: exact.json}
"""


def box(image: str, *bbox: float, category: int = 9, **more) -> dict:
    return {"image_id": IDS[image], "category_id": category, "bbox": bbox, "area": 5, **more}


@pytest.fixture
def yolo(tmp_path) -> Path:
    """Three images of 40 x 20, labels, and the JSON that has more than they: ids, areas, a crowd."""
    boxes = [
        box("a", 4, 4, 8, 8),
        box("a", 1, 1, 3, 3, iscrowd=1),
        box("a", 0, 0, 40, 20, category=4),
        box("b", 2, 2, 4, 4),
    ]
    images = [{"id": k, "file_name": f"{name}.png", "width": 40, "height": 20} for name, k in IDS.items()]
    categories = [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (tmp_path / "exact.json").write_text(json.dumps(content))
    for name, text in (("a", "1 0.2 0.4 0.2 0.4\n0 0.5 0.5 1 1\n"), ("b", "1 0.1 0.2 0.1 0.2\n"), ("c", "")):
        put(tmp_path, name, text)
    (tmp_path / "set.yaml").write_text(YAML)
    return tmp_path


def put(root: Path, name: str, text: str) -> None:
    for folder in ("images", "labels"):
        (root / folder).mkdir(exist_ok=True)
    Image.new("RGB", (40, 20)).save(root / f"images/{name}.png")
    (root / f"labels/{name}.txt").write_text(text)


def read(root: Path) -> Index:
    return open_dataset(str(root / "set.yaml"), ("train",)).splits["train"]


def by_name(index: Index) -> dict[str, tuple[int, list, list, list]]:
    """Id, boxes, areas and crowds of each image."""
    spans = [slice(*index.offsets[i : i + 2]) for i in range(len(index))]
    columns = (index.boxes, index.areas, index.crowd)
    return {
        Path(file).stem: (int(index.image_ids[i]), *(column[spans[i]].tolist() for column in columns))
        for i, file in enumerate(index.files)
    }


EXACT = {
    "a": (70, [[4, 4, 8, 8], [1, 1, 3, 3], [0, 0, 40, 20]], [5, 5, 5], [False, True, False]),
    "b": (8, [[2, 2, 4, 4]], [5], [False]),
    "c": (2**63 - 1, [], [], []),
}


def test_labels_as_the_json_has_them_are_those_of_the_json(yolo):
    index = read(yolo)
    assert by_name(index) == EXACT and list(by_name(index)) == list(IDS) and index.notes == ()
    assert [c.id for c in index.categories] == [4, 9] and index.classes.tolist() == [1, 1, 0, 1]
    assert index.source == f"{yolo}/set.yaml: train"


def test_labels_that_differ_in_a_millionth_of_the_last_digit_are_the_same(yolo):
    put(yolo, "b", "1 0.09999999999999999 0.2 0.1 0.20000000000000001\n")
    assert by_name(read(yolo)) == EXACT


@pytest.mark.parametrize(
    ("text", "boxes"),
    [
        ("1 0.1 0.2 0.1 0.2001\n", [[2, 1.999, 4, 4.002]]),
        ("0 0.1 0.2 0.1 0.2\n", [[2, 2, 4, 4]]),
        ("", []),
        ("1 0.1 0.2 0.1 0.2\n1 0.5 0.5 1 1\n", [[2, 2, 4, 4], [0, 0, 40, 20]]),
    ],
)
def test_labels_that_were_mended_count(yolo, text, boxes):
    put(yolo, "b", text)
    index = read(yolo)
    found = by_name(index)
    assert found.keys() == EXACT.keys() and (found["a"], found["c"]) == (EXACT["a"], EXACT["c"])
    np.testing.assert_allclose(np.reshape(found["b"][1], (-1, 4)), np.reshape(boxes, (-1, 4)), atol=1e-12)
    assert found["b"][0] == 8 and found["b"][2] == pytest.approx([w * h for *_, w, h in boxes])
    assert "the labels of 1 image(s) are not those that" in index.notes[-1] and "the 0 new image(s)" in index.notes[-1]
    assert index.path(list(found).index("a")).is_file() and index.path(list(found).index("b")).is_file()


def test_images_that_come_and_go(yolo):
    put(yolo, "new", "0 0.5 0.5 0.5 0.5\n")
    (yolo / "images/b.png").unlink()
    index = read(yolo)
    found = by_name(index)
    assert found.pop("new") == (1, [[10, 5, 20, 10]], [200], [False])
    assert found == {name: rows for name, rows in EXACT.items() if name != "b"}
    assert "1 of 3 images are missing" in index.notes[0] and "the 1 new image(s)" in index.notes[-1]


@pytest.mark.parametrize(("labels", "names"), [(True, ["a", "b", "c"]), (False, ["a", "c"])])
def test_an_evaluation_image_that_is_missing_stays_while_its_labels_do(yolo, labels, names):
    (yolo / "set.yaml").write_text(YAML.replace("train", "val"))
    (yolo / "images/b.png").unlink()
    if not labels:
        (yolo / "labels/b.txt").unlink()
    assert list(by_name(open_dataset(str(yolo / "set.yaml"), ("val",)).splits["val"])) == names


def test_other_sizes_are_those_of_the_json(yolo):
    Image.new("RGB", (80, 40)).save(yolo / "images/a.png")
    assert by_name(read(yolo)) == EXACT and read(yolo).sizes.tolist() == [[40, 20]] * 3


def test_without_the_json_the_labels_speak(yolo):
    (yolo / "exact.json").unlink()
    index = read(yolo)
    assert (
        index.image_ids.tolist() == [1, 2, 3] and len(index.boxes) == 3 and [c.id for c in index.categories] == [0, 1]
    )
    assert "exact.json: is not there: ids, crowds and areas are those that the label files tell" in index.notes[0]


def test_other_classes(yolo):
    (yolo / "set.yaml").write_text(YAML.replace("cat", "tiger"))
    index = read(yolo)
    assert index.names == ("tiger", "dog") and len(index.boxes) == 3
    assert "its classes are not the names in the YAML" in index.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("coco: {train: exact.json}", r"coco: train: 'exact.json' is no mapping; write {images: FOLDER"),
        ("coco: {train: {image: images, annotations: exact.json}}", r"coco: train: image: .*did you mean images\?"),
        ("coco: exact.json", "coco: 'exact.json' should be a valid dictionary"),
        ("coco: {train: {images: images, annotations: set.yaml}}", "set.yaml:2:1: is no JSON"),
        ("coco: {train: {images: gone, annotations: exact.json}}", "none of its 3 images is there"),
    ],
)
def test_mistakes(yolo, text, message):
    (yolo / "set.yaml").write_text(YAML[: YAML.index("coco:")] + text)
    with pytest.raises(UserError, match=message):
        read(yolo)


def test_a_split_without_a_json(yolo):
    (yolo / "set.yaml").write_text(YAML.replace("coco:\n  train", "coco:\n  val"))
    assert read(yolo).image_ids.tolist() == [1, 2, 3]


def test_voc(yolo):
    def thing(name, xmin, ymin, xmax, ymax, difficult=0):
        return (
            f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
            f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
        )

    shutil.rmtree(yolo / "labels")
    (yolo / "xml").mkdir()
    things = {"a": thing("dog", 5, 5, 12, 12) + thing("dog", 2, 2, 4, 4, 1) + thing("cat", 1, 1, 40, 20), "c": ""}
    for name, text in (things | {"b": thing("dog", 3, 3, 6, 6)}).items():
        (yolo / f"xml/{name}.xml").write_text(f"<annotation>{text}</annotation>")
    (yolo / "set.yaml").write_text(
        "format: voc" + YAML.replace("train: images\n", "train: {images: images, annotations: xml}\n")
    )
    assert by_name(read(yolo)) == EXACT
    (yolo / "xml/a.xml").write_text(f"<annotation>{things['a'].replace('<difficult>1', '<difficult>0')}</annotation>")
    (yolo / "xml/b.xml").unlink()
    found = by_name(read(yolo))
    assert found["a"] == (70, EXACT["a"][1], [64, 9, 800], [False, False, False]) and list(found) == ["c", "a"]


@pytest.mark.parametrize(
    ("row", "yolo", "voc"),
    [
        ((1, 1, 5, 5), (1, 1, 5, 5), True),
        ((-2, -3, 10, 10), (-2, -3, 10, 10), True),  # over the edge, which labels can say
        ((-6, 1, 10, 5), (0, 1, 4, 5), True),  # its centre is outside
        ((-1, 1, 45, 5), (0, 1, 40, 5), True),  # it is larger than the image
        ((50, 1, 5, 5), None, True),
        ((1, 1, 0, 5), None, False),
        ((1, 1, 5, -5), None, False),
        ((0, 0, 40, 20), (0, 0, 40, 20), True),
    ],
)
def test_what_label_files_hold(row, yolo, voc):
    categories = (Category(1, "a"),)
    rows = [(1, 0, row, 1.0, False), (1, 0, row, 1.0, True)]
    index = build_index("set", Path("."), [(1, "a.png", 40, 20)], rows, categories)
    (there, crowd), boxes = held_by_yolo(index)
    assert there == (yolo is not None) and not crowd and (not there or tuple(boxes[0]) == yolo)
    assert held_by_voc(index)[0].tolist() == [voc, voc]
