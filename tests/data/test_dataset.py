from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from yolo_cosine.data.dataset import open_dataset
from yolo_cosine.errors import UserError

REAL = os.environ.get("YOLO_COSINE_REAL_DATA")
CATS = ({"id": 1, "name": "cat"}, {"id": 5, "name": "dog"})


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(path)


def coco(path: Path, file: str = "a.jpg", categories=CATS, category: int | None = None) -> None:
    """An annotation file with one image and one box, of the last category unless told."""
    image = {"id": 1, "file_name": file, "width": 40, "height": 30}
    box = {"id": 1, "image_id": 1, "category_id": category or categories[-1]["id"], "bbox": [1, 2, 3, 4]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": [image], "annotations": [box], "categories": list(categories)}))


def coco_folder(root: Path, **of_val) -> Path:
    for split in ("train", "val"):
        coco(root / f"annotations/instances_{split}.json", **(of_val if split == "val" else {}))
        picture(root / split / "a.jpg")
    return root


def yolo_folder(root: Path, folder: str = "images/{}") -> Path:
    for split in ("train", "val"):
        picture(root / folder.format(split) / "a.jpg")
        label = root / folder.format(split).replace("images", "labels") / "a.txt"
        label.parent.mkdir(parents=True)
        label.write_text("1 0.5 0.5 0.5 0.5")
    return root


def voc_folder(root: Path) -> Path:
    picture(root / "JPEGImages/a.jpg")
    (root / "Annotations").mkdir()
    (root / "Annotations/a.xml").write_text(
        "<annotation><object><name>dog</name>"
        "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    return root


def yaml(root: Path, text: str, name: str = "set.yaml") -> str:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)
    return str(root / name)


COCO = """
train: {images: train, annotations: annotations/instances_train.json}
val: {images: val, annotations: annotations/instances_val.json}
"""
YOLO = "train: images/train\nval: images/val\nnames: [cat, dog]\n"
VOC = """
format: voc
names: [cat, dog]
train: {images: JPEGImages, annotations: Annotations}
val: [{images: JPEGImages, annotations: Annotations}]
"""


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("json_name", "folder", "file"),
    [
        ("instances_train2017.json", "train2017", "a.jpg"),
        ("instances_train2017.json", "train", "a.jpg"),
        ("instances_train.json", "images/train", "a.jpg"),
        ("instances_train2017.json", "images/train2017", "a.jpg"),
        ("instances_train.json", "images", "a.jpg"),
        ("instances_train.json", ".", "some/where/a.jpg"),
    ],
)
def test_a_folder_in_cocos_layout(tmp_path, json_name, folder, file):
    coco(tmp_path / "set" / "annotations" / json_name, file)
    picture(tmp_path / "set" / folder / file)
    found = open_dataset(str(tmp_path / "set"), ("train",))
    assert found.name == "set" and found.names == ("cat", "dog") and found.notes == ()
    assert found.splits["train"].path(0).samefile(tmp_path / "set" / folder / file)


def test_images_that_are_nowhere(tmp_path):
    coco(tmp_path / "annotations/instances_train2017.json")
    with pytest.raises(
        UserError, match=r"looked in .*train2017, .*train, .*images/train2017, .*images/train, .*images,"
    ):
        open_dataset(str(tmp_path), ("train",))


def test_two_files_for_a_split(tmp_path):
    for year in (2014, 2017):
        coco(tmp_path / f"annotations/instances_train{year}.json")
    with pytest.raises(UserError, match=r"more than one file for train: instances_train2014.json, instances_train2017"):
        open_dataset(str(tmp_path))


def test_a_folder_of_another_layout(tmp_path):
    with pytest.raises(UserError, match=r"is no folder in COCO's layout: there is no .*write a data set YAML"):
        open_dataset(str(tmp_path))
    yaml(tmp_path, YOLO, "data.yaml")
    with pytest.raises(UserError, match=r"name .*data.yaml instead"):
        open_dataset(str(tmp_path))


# --- names ------------------------------------------------------------------------------------------------------------


def test_a_name_is_a_yaml_in_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yaml(coco_folder(tmp_path / "data" / "mine"), "no: use", "other.yaml")
    yaml(tmp_path / "data", "path: mine\n" + COCO, "mine.yaml")
    assert open_dataset("mine").name == "mine"
    with pytest.raises(
        UserError, match=r"'mien' is no file, no folder and no data set of this name; did you mean mine\?"
    ):
        open_dataset("mien")
    with pytest.raises(UserError, match=r"'zzz' is no file.*the names are .*mine.*shapes"):
        open_dataset("zzz")


@pytest.mark.parametrize("spec", ["./gone", "gone/set.yaml", "./gone.yml"])
def test_a_path_that_is_not_there(tmp_path, monkeypatch, spec):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no such file"):
        open_dataset(spec)


def test_a_file_that_is_no_yaml(tmp_path):
    coco(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"a.json: is no YAML file; name a data set YAML or a folder"):
        open_dataset(str(tmp_path / "a.json"))


def test_shapes(tmp_path, monkeypatch):
    shapes = pytest.importorskip("yolo_cosine.data.shapes")
    made = yaml(coco_folder(tmp_path / "shapes"), COCO, "shapes.yaml")
    monkeypatch.setattr(shapes, "ensure_shapes", lambda: Path(made))
    monkeypatch.chdir(tmp_path)  # where a folder of this name stands
    assert open_dataset("shapes").splits["train"].root == tmp_path / "shapes/train"


# --- the forms of a YAML ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text", "ids", "box"),
    [
        (coco_folder, COCO, (1, 5), [1, 2, 3, 4]),
        (yolo_folder, YOLO, (0, 1), [10, 7.5, 20, 15]),
        (voc_folder, VOC, (0, 1), [1, 1, 8, 8]),
    ],
)
def test_forms(tmp_path, make, text, ids, box):
    make(tmp_path)
    found = open_dataset(yaml(tmp_path, text))
    assert found.name == "set" and found.names == ("cat", "dog") and found.notes == ()
    assert tuple(c.id for c in found.categories) == ids and list(found.splits) == ["train", "val"]
    for index in found.splits.values():
        assert index.boxes.tolist() == [box] and index.classes.tolist() == [1] and index.path(0).is_file()
        assert index.categories == found.categories
    with pytest.raises(TypeError):
        found.splits["test"] = index


@pytest.mark.parametrize("names", ["{0: cat, 1: dog}", "{1: dog, 0: cat}", "{'0': cat, '1': dog}"])
def test_names_of_ultralytics_yamls(tmp_path, names):
    text = (
        f"train: images/train\nval: images/val\nnames: {names}\nnc: 2\nchannels: 3\ndownload: exit(1)\nflip_idx: [0]\n"
    )
    assert open_dataset(yaml(yolo_folder(tmp_path), text)).names == ("cat", "dog")


def test_names_that_look_like_numbers(tmp_path):
    text = "train: images/train\nval: images/val\nnames: [7, 8.5, off]\n"
    assert open_dataset(yaml(yolo_folder(tmp_path), text)).names == ("7", "8.5", "off")


def test_splits_of_ultralytics_yamls(tmp_path):
    yolo_folder(tmp_path, "{}/images")
    text = (
        "train: ../train/images\nvalidation: [val/images, train/images]\nnames: [cat, dog]\n"  # as Roboflow exports it
    )
    found = open_dataset(yaml(tmp_path, text))
    assert [len(index) for index in found.splits.values()] == [1, 2]
    assert found.splits["val"].files == ("train/images/a.jpg", "val/images/a.jpg")


@pytest.mark.parametrize(
    ("path", "variable"),
    [
        ("", None),
        ("path: deep/er", None),
        ("path: ${SOME_ROOT}/er", "deep"),
        ("path: ${SOME_ROOT:-deep}/er", None),
        ("path: ${SOME_ROOT:-deep}/er", ""),
        ("path: ${SOME_ROOT:-nowhere}/er", "{root}/deep"),
        ("path: here", None),  # below the current folder
    ],
)
def test_where_the_data_is(tmp_path, monkeypatch, path, variable):
    monkeypatch.delenv("SOME_ROOT", raising=False)
    if variable is not None:
        monkeypatch.setenv("SOME_ROOT", variable.format(root=tmp_path))
    where = {"": tmp_path, "path: here": tmp_path / "cwd/here"}.get(path, tmp_path / "deep/er")
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    coco_folder(where)
    assert open_dataset(yaml(tmp_path, f"{path}\n{COCO}")).splits["val"].path(0).samefile(where / "val/a.jpg")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no data set YAML: it has none of the keys train, val and test"),
        ("lr0: 0.1", "is no data set YAML"),
        (
            "path: ${UNSET_VARIABLE}" + COCO,
            r"path: \$\{UNSET_VARIABLE\}: the environment variable UNSET_VARIABLE is not set",
        ),
        (
            "path: gone" + COCO,
            "path: 'gone': there is no such folder; looked for .*gone and .*gone; put the data there",
        ),
        ("path: gone\nfetch: []" + COCO, "put the data there"),
        ("path: gone\nfetch: [{url: u}]" + COCO, r"dataset fetch .*set.yaml` downloads it"),
        ("path: gone\ndownload: rm\n" + YOLO, "what `download:` says is never run"),
        ("trian: {}\nval: {images: a, annotations: b}", r"trian: there is no such key; did you mean train\?"),
        ("train: {image: a, annotations: b}", r"train: image: there is no such key; did you mean images\?"),
        ("train: {images: a}", "set.yaml: train: annotations: missing; write `annotations: ...`"),
        ("train: {images: 3, annotations: b}", "train: images: 3 should be a valid string"),
        ("train: {images: a, annotations: b}\nval: images", "val: 'images' should be a valid dictionary"),
        ("train: {images: train, annotations: gone.json}", r"gone.json: there is no such annotation file"),
        (
            "train: {images: gone, annotations: annotations/instances_train.json}",
            r"none of its 1 images is there.*gone",
        ),
        ("train: images\n", "set.yaml: names: missing; write `names: ...`"),
        ("train: images/gone\nnames: [a]", "train: 'images/gone': there is no such folder or list; looked for .*gone"),
        ("train: images\nnames: []", "names: is empty"),
        ("train: images\nnames: [a, b, a]", "names: 'a' stands twice"),
        ("train: images\nnames: [a, [b]]", r"names: 1: \['b'\] is no name"),
        ("train: images\nnames: [a, true]", "names: 1: True is no name"),
        ("train: images\nnames: {1: a, 2: b}", "names: its keys are not 0 to 1, each once"),
        ("train: images\nnames: {0: a, x: b}", "names: its keys are not 0 to 1, each once"),
        ("train: images\nnames: [a, b]\nnc: 3", "nc: 3 is not the number of names, 2"),
        ("train: 3\nnames: [a, b]", "train: 3 should be a valid string"),
        ("format: coco\ntrain: images\nnames: [a]", "format: 'coco' should be 'voc'"),
        (VOC + "one_base: false", r"one_base: there is no such key; did you mean one_based\?"),
        ("format: voc\nnames: [a]\ntrain: [{images: a, annotation: b}]", r"annotation: there is no such key"),
    ],
)
def test_wrong_yamls(tmp_path, monkeypatch, text, message):
    monkeypatch.delenv("UNSET_VARIABLE", raising=False)
    coco_folder(tmp_path)
    with pytest.raises(UserError, match=message):
        open_dataset(yaml(tmp_path, text), ("train",))


def test_options_of_voc(tmp_path):
    voc_folder(tmp_path)
    (tmp_path / "list.txt").write_text("a\n")
    text = VOC.replace("{images", "{list: list.txt, images") + "one_based: false\n"
    assert open_dataset(yaml(tmp_path, text)).splits["val"].boxes.tolist() == [[2, 2, 7, 7]]


# --- splits -----------------------------------------------------------------------------------------------------------


def test_a_split_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="has no split 'test'; it has train, val; add `test:`"):
        open_dataset(yaml(coco_folder(tmp_path), COCO), ("test",))


def test_images_that_are_missing_stay_where_a_metric_is_taken(tmp_path):
    coco_folder(tmp_path)
    for split in ("train", "val"):
        data = json.loads((tmp_path / f"annotations/instances_{split}.json").read_text())
        data["images"].append({"id": 2, "file_name": "gone.jpg", "width": 40, "height": 30})
        (tmp_path / f"annotations/instances_{split}.json").write_text(json.dumps(data))
    found = open_dataset(str(tmp_path))
    assert [len(index) for index in found.splits.values()] == [1, 2]
    assert len(found.notes) == 2 and found.notes[0].endswith("left out") and "not found" in found.notes[1]


def test_a_split_with_a_part_of_the_categories(tmp_path):
    found = open_dataset(str(coco_folder(tmp_path, categories=CATS[1:])))
    assert found.splits["val"].names == ("cat", "dog") and found.splits["val"].classes.tolist() == [1]
    assert "lists 1 of the 2 categories of train, not 'cat'" in found.notes[0]
    assert open_dataset(str(tmp_path), ("val", "train")).names == ("cat", "dog")
    assert open_dataset(str(tmp_path), ("val",)).names == ("dog",)


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        (
            ({"id": 1, "name": "cat"}, {"id": 5, "name": "fox"}),
            "id 5 is 'fox' in val and 'dog' in train; give both files",
        ),
        (({"id": 1, "name": "cat"}, {"id": 4, "name": "dog"}), r"'dog' \(id 4\) is only in val"),
        ((*CATS, {"id": 9, "name": "fox"}), r"'fox' \(id 9\) is only in val"),
    ],
)
def test_splits_with_different_categories(tmp_path, categories, message):
    with pytest.raises(UserError, match=f"instances_val.json: its categories are not those of train: {message}"):
        open_dataset(str(coco_folder(tmp_path, categories=categories)))


@pytest.mark.skipif(not REAL, reason="YOLO_COSINE_REAL_DATA names no folder with bccd/ and tiny_coco/")
@pytest.mark.parametrize(
    ("name", "images", "boxes", "classes"),
    [("bccd", (205, 87), (2805, 1138), 3), ("tiny_coco", (50, 50), (470, 382), 80)],
)
def test_real_folders(name, images, boxes, classes):
    found = open_dataset(str(Path(REAL) / name))
    assert tuple(len(index) for index in found.splits.values()) == images
    assert tuple(len(index.boxes) for index in found.splits.values()) == boxes
    assert len(found.names) == classes and found.name == name and found.notes == ()
