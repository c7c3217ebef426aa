from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from yolo_cosine.convert import convert as convert_module
from yolo_cosine.convert.convert import convert
from yolo_cosine.data.dataset import Dataset, open_dataset
from yolo_cosine.data.exact import held_by_yolo
from yolo_cosine.dataset import main
from yolo_cosine.errors import UserError

REAL = os.environ.get("YOLO_COSINE_REAL_DATA")
real_data = pytest.mark.skipif(not REAL, reason="YOLO_COSINE_REAL_DATA names no folder with bccd/ and tiny_coco/")
FORMS = ("coco", "yolo", "voc")
COLUMNS = ("image_ids", "sizes", "offsets", "boxes", "classes", "crowd", "areas")
CATEGORIES = ({"id": 90, "name": "a/b: '<&"}, {"id": 3, "name": "1e3"}, {"id": 17, "name": "../no"})


def write_coco(root: Path, splits: dict[str, tuple[list[dict], list[dict]]], categories=CATEGORIES) -> str:
    """A data set in COCO's form, one folder of images for each split; images that have `gone` have no file.

    Each image is a picture of its own, so that none can be taken for another.
    """
    text = ""
    for split, (images, boxes) in splits.items():
        for number, image in enumerate(images):
            if not image.pop("gone", False):
                path = root / split / image["file_name"]
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.full((image["height"], image["width"], 3), number, dtype=np.uint8)
                Image.fromarray(pixels).save(path, format="PNG")
        content = {"images": images, "annotations": boxes, "categories": list(categories)}
        (root / f"{split}.json").write_text(json.dumps(content))
        text += f"{split}: {{images: {split}, annotations: {split}.json}}\n"
    (root / "set.yaml").write_text(text)
    return str(root / "set.yaml")


def image(id: int, file_name: str, width: int = 40, height: int = 30, **more) -> dict:
    return {"id": id, "file_name": file_name, "width": width, "height": height, **more}


def annotation(image_id: int, box: tuple[float, ...], category_id: int = 90, **more) -> dict:
    return {"image_id": image_id, "category_id": category_id, "bbox": list(box), **more}


@pytest.fixture
def coco(tmp_path) -> str:
    """A set with everything that is hard: sparse ids, a crowd, areas of masks, an empty image, names in two folders and of
    one stem, boxes over the edge, larger than the image and without area, and an evaluation image that is not there."""
    (tmp_path / "source").mkdir()
    train = [image(77, "s/x.png"), image(5, "t/x.png"), image(900, "t/x.jpg"), image(6, "empty image.png")]
    boxes = [
        annotation(5, (0.1, 1 / 3, 10.37, 20.51), 90, area=3.25),
        annotation(77, (0, 0, 40, 30), 17),
        annotation(5, (1, 2, 30, 20), 3, iscrowd=1, area=1 / 7),
        annotation(5, (-3, -2.5, 10, 10), 3),
        annotation(5, (-3, 2, 50, 3), 17),
        annotation(900, (5, 5, 0, 4), 3),
        annotation(900, (39.999, 29.999, 1e-3, 1e-3), 3),
    ]
    val = [image(1, "s/x.png", 64, 48), image(2, "gone.png", gone=True)]
    splits = {
        "train": (train, boxes),
        "val": (val, [annotation(2, (1, 2, 3, 4), 3), annotation(1, (9, 9, 9, 9.5), 17)]),
    }
    return write_coco(tmp_path / "source", splits)


def all_of(yaml) -> Dataset:
    return open_dataset(str(yaml), None)


def assert_equal(one: Dataset, other: Dataset) -> None:
    """Bit by bit, and the same pictures."""
    assert one.categories == other.categories and list(one.splits) == list(other.splits)
    for split, index in one.splits.items():
        for column in COLUMNS:
            np.testing.assert_array_equal(getattr(index, column), getattr(other.splits[split], column), err_msg=column)
        for i in range(len(index)):
            paths = index.path(i), other.splits[split].path(i)
            assert [path.exists() for path in paths] in ([True, True], [False, False])
            assert not paths[0].exists() or paths[0].read_bytes() == paths[1].read_bytes()


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["coco yolo coco", "coco voc coco", "voc yolo voc", "yolo voc yolo coco", "yolo yolo"])
def test_a_round_trip_gives_back_every_bit(coco, tmp_path, way):
    before, source = tree(tmp_path / "source"), coco
    for k, to in enumerate(way.split()):
        coco = convert(str(coco), to, tmp_path / f"{k}").yaml
        assert_equal(all_of(source), all_of(coco))
    assert tree(tmp_path / "source") == before


@real_data
@pytest.mark.parametrize("name", ["bccd", "tiny_coco"])
def test_real_sets_there_and_back(tmp_path, name):
    source = convert(str(Path(REAL) / name), "coco", tmp_path / "coco").yaml
    assert_equal(open_dataset(str(Path(REAL) / name), None), all_of(source))
    files = [index.files for index in all_of(source).splits.values()]
    for middle in ("yolo", "voc"):
        there = convert(str(source), middle, tmp_path / middle).yaml
        assert_equal(all_of(source), all_of(there))
        back = all_of(convert(str(there), "coco", tmp_path / f"{middle}-coco").yaml)
        assert_equal(all_of(source), back)
        assert [index.files for index in back.splits.values()] == files


letters = st.characters(blacklist_categories=["Cs"], blacklist_characters="/\\\0")
stems = st.sampled_from(["a", "A", " b", ".c", "d.e", "images", "x\n"]) | st.text(letters, min_size=1, max_size=6)
names = st.builds(
    lambda folder, stem, suffix: f"{folder}{stem}{suffix}",
    st.sampled_from(["", "f/", "g/h/", "F/"]),
    stems.filter(lambda s: s not in (".", "..") and s[1:2] != ":"),
    st.sampled_from([".jpg", ".png", ".JPG", ".gif", ""]),
).filter(lambda name: name.rpartition("/")[2] not in (".", ".."))
edges = st.sampled_from([0.0, 0.5, 1.0, 1.5, 9.0, 10.0, 10.5, 1 / 3, -1.0, -0.1, 1e-9, 20.0, 1e6, -1e6])
numbers = edges | st.floats(-30, 30) | st.floats(0, 10)
printable = st.characters(blacklist_categories=["C", "Z"])
class_names = st.text(printable, min_size=1, max_size=8)


@st.composite
def sets(draw):
    """Splits in COCO's form and categories, as `write_coco` takes them."""
    ids = draw(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9), min_size=1, max_size=4, unique=True))
    words = draw(st.lists(class_names | st.just("1e3"), min_size=len(ids), max_size=len(ids), unique=True))
    splits = {}
    for split in ("train", "val"):
        files = draw(st.lists(names, min_size=1, max_size=4, unique_by=str.casefold))
        keys = draw(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9), min_size=4, max_size=4, unique=True))
        sizes = [draw(st.tuples(st.integers(1, 12), st.integers(1, 12))) for _ in files]
        images = [image(k, f, *size) for k, f, size in zip(keys, files, sizes, strict=False)]
        if split == "val" and len(images) > 1:
            images[-1]["gone"] = draw(st.booleans())
        rows = st.builds(
            annotation,
            st.sampled_from([i["id"] for i in images]),
            st.tuples(numbers, numbers, numbers, numbers),
            st.sampled_from(ids),
            iscrowd=st.integers(0, 1),
            area=st.none() | st.floats(0, 1e9),
        )
        splits[split] = (images, draw(st.lists(rows, max_size=6)))
    return splits, [{"id": k, "name": word} for k, word in zip(ids, words, strict=True)]


@settings(max_examples=40, deadline=None)
@given(sets(), st.permutations(FORMS))
def test_any_set_survives_any_way(drawn, way):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "source").mkdir()
        source = yaml = write_coco(root / "source", *drawn)
        for to in way:
            yaml = convert(str(yaml), to, root / to).yaml
            assert_equal(all_of(source), all_of(yaml))


# --- the labels by themselves -----------------------------------------------------------------------------------------


def without_json(yaml: Path) -> Dataset:
    shutil.rmtree(yaml.parent / "coco")
    return all_of(yaml)


@real_data
@pytest.mark.parametrize("form", ["yolo", "voc"])
def test_labels_alone_have_the_boxes_to_a_millionth_of_a_pixel(tmp_path, form):
    source = open_dataset(str(Path(REAL) / "tiny_coco"), None)
    found = without_json(convert(str(Path(REAL) / "tiny_coco"), form, tmp_path / "out").yaml)
    assert len(found.notes) == 2 + 2 * (form == "voc") and "ids, crowds and areas" in found.notes[0] + found.notes[1]
    for split, index in source.splits.items():
        alone, held = found.splits[split], held_by_yolo(index)[0] if form == "yolo" else np.ones(len(index.boxes), bool)
        order = [[Path(f).name for f in alone.files].index(file) for file in index.files]
        alone = alone.subset(np.array(order))
        np.testing.assert_allclose(alone.boxes, index.boxes[held], rtol=0, atol=1e-9)
        np.testing.assert_array_equal(alone.classes, index.classes[held])
        np.testing.assert_array_equal(alone.crowd, index.crowd[held])
        np.testing.assert_array_equal(alone.sizes, index.sizes)


def test_what_the_labels_of_a_hard_set_hold(coco, tmp_path):
    root = convert(coco, "yolo", tmp_path / "yolo").yaml.parent
    lines = (root / "labels/train/t/x.txt").read_text().splitlines()
    rows = [[float(column) for column in line.split()] for line in lines]
    # no crowd; the box over the edge as it is; the one that is larger than the image clipped
    np.testing.assert_allclose(
        rows, [[2, 5.285 / 40, (1 / 3 + 10.255) / 30, 10.37 / 40, 20.51 / 30], [0, 0.05, 2.5 / 30, 0.25, 1 / 3], [1, 0.5, 3.5 / 30, 1, 0.1]]
    )  # fmt: skip
    assert (root / "labels/train/empty image.txt").read_text() == ""
    assert len((root / "labels/train/t/x-2.txt").read_text().splitlines()) == 1

    root = convert(coco, "voc", tmp_path / "voc").yaml.parent
    assert (root / "ImageSets/Main/train.txt").read_text() == "train/s/x\ntrain/t/x\ntrain/t/x-2\ntrain/empty image\n"
    text = (root / "Annotations/train/s/x.xml").read_text()
    assert "<xmin>1</xmin>" in text and "<xmax>40</xmax>" in text and "<name>../no</name>" in text
    assert (root / "Annotations/train/t/x.xml").read_text().count("<difficult>1</difficult>") == 1


def test_ultralytics_reads_the_labels_of_every_image(coco, tmp_path):
    from ultralytics.data.utils import check_det_dataset, img2label_paths, verify_image_label

    yaml = convert(coco, "yolo", tmp_path / "out").yaml
    said = check_det_dataset(str(yaml))
    assert said["names"] == {0: "1e3", 1: "../no", 2: "a/b: '<&"} and said["train"] == str(yaml.parent / "images/train")
    index = all_of(yaml).splits["train"]
    held, boxes = held_by_yolo(index)
    for i in range(len(index)):
        mine = np.flatnonzero(held & (index.image_of_box == i))
        (path,) = img2label_paths([str(index.path(i))])
        *_, found, empty, corrupt, message = result = verify_image_label(
            (str(index.path(i)), path, "", False, 3, 0, 0, False)
        )
        assert (found, empty, corrupt, message) == (1, int(not len(mine)), 0, "")
        size = np.tile(index.sizes[i], 2)
        centred = np.concatenate((boxes[mine, :2] + boxes[mine, 2:] / 2, boxes[mine, 2:]), 1) / size
        np.testing.assert_allclose(result[1], np.column_stack((index.classes[mine], centred)), atol=1e-6)


def test_pycocotools_loads_the_json(coco, tmp_path):
    from pycocotools.coco import COCO

    root = convert(coco, "coco", tmp_path / "out").yaml.parent
    theirs, source = COCO(str(root / "annotations/instances_train.json")), all_of(coco).splits["train"]
    assert theirs.getImgIds() == source.image_ids.tolist() and sorted(theirs.getCatIds()) == [3, 17, 90]
    assert [a["bbox"] for a in theirs.loadAnns(theirs.getAnnIds(imgIds=[5]))] == source.boxes[1:5].tolist()
    assert [a["iscrowd"] for a in theirs.loadAnns(theirs.getAnnIds(imgIds=[5]))] == [0, 1, 0, 0]


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("images", "linked"), [("link", True), ("copy", False)])
def test_images_are_linked_or_copied(coco, tmp_path, images, linked):
    found = all_of(convert(coco, "coco", tmp_path / "out", images).yaml)
    for old, new in zip(all_of(coco).splits.values(), found.splits.values(), strict=True):
        assert new.path(0).samefile(old.path(0)) is linked and new.path(0).read_bytes() == old.path(0).read_bytes()


def test_where_nothing_can_be_linked_images_are_copied(coco, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert_equal(all_of(coco), all_of(convert(coco, "yolo", tmp_path / "out").yaml))


def test_a_link_to_an_image_is_followed(coco, tmp_path):
    picture = tmp_path / "source/train/s/x.png"
    picture.rename(tmp_path / "elsewhere.png")
    picture.symlink_to("../../../elsewhere.png")
    path = all_of(convert(coco, "coco", tmp_path / "out").yaml).splits["train"].path(0)
    assert not path.is_symlink() and path.samefile(tmp_path / "elsewhere.png")


def test_annotations_alone(coco, tmp_path):
    out = tmp_path / "out"
    convert(coco, "yolo", out, "none")
    assert not [path for path in out.rglob("*.png")] and (out / "labels/train/s/x.txt").exists()
    for split in ("train", "val"):
        shutil.copytree(tmp_path / "source" / split, out / "images" / split, dirs_exist_ok=True)
    (out / "images/train/t/x.jpg").rename(out / "images/train/t/x-2.jpg")
    assert_equal(all_of(coco), all_of(out / "data.yaml"))


def test_names_that_lead_elsewhere_stay_inside(tmp_path):
    """A list of YOLO's form may name files anywhere, and class names are any text."""
    (tmp_path / "deep/source").mkdir(parents=True)
    places = [
        tmp_path / "a.png",
        tmp_path / "deep/b.png",
        tmp_path / "deep/source/C:x.png",
        tmp_path / "deep/source/c:X.png",
    ]
    for path in places:
        Image.new("RGB", (8, 8)).save(path)
        path.with_suffix(".txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "deep/source/list.txt").write_text("".join(f"{path}\n" for path in places))
    (tmp_path / "deep/source/set.yaml").write_text(
        "train: list.txt\nnames: ['/abs', '../../up', 'a\\b', '" + "x" * 300 + "']\n"
    )
    for to in FORMS:
        before = tree(tmp_path)
        found = all_of(convert(str(tmp_path / "deep/source/set.yaml"), to, tmp_path / f"deep/{to}").yaml)
        assert_equal(all_of(tmp_path / "deep/source/set.yaml"), found)
        assert {name: file for name, file in tree(tmp_path).items() if not name.startswith(f"deep/{to}/")} == before


@pytest.mark.parametrize("name", [" blank", "blank ", "a\x01b", "a\rb"])
def test_a_class_name_that_xml_cannot_hold(tmp_path, name):
    (tmp_path / "s").mkdir()
    data = write_coco(tmp_path / "s", {"train": ([image(1, "a.png")], [])}, [{"id": 1, "name": name}])
    with pytest.raises(UserError, match=r"XML cannot hold the name .*; rename the class, or convert to coco or yolo"):
        convert(data, "voc", tmp_path / "voc")
    assert os.listdir(tmp_path) == ["s"]
    for to in ("coco", "yolo"):
        assert all_of(convert(data, to, tmp_path / to).yaml).names == (name,)


# --- all or nothing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda out: out.write_text("x"), lambda out: (out / "x").mkdir(parents=True)])
def test_a_folder_with_something_in_it_is_left_alone(coco, tmp_path, make):
    make(tmp_path / "out")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"--out: .*out: is there already and nothing is overwritten; name a new"):
        convert(coco, "coco", tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_is_filled(coco, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    assert convert(coco, "coco", tmp_path / "link").yaml == tmp_path / "out/data.yaml"


@pytest.mark.parametrize("to", FORMS)
@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_full_disk_leaves_nothing(coco, tmp_path, monkeypatch, to, after):
    written = 0
    real = convert_module.create

    def create(file, text):
        nonlocal written
        written += 1
        if written > after:
            raise OSError(28, "No space left on device")
        real(file, text)

    monkeypatch.setattr(convert_module, "create", create)
    monkeypatch.setattr("yolo_cosine.convert.formats.create", create)
    before = sorted(tmp_path.rglob("*"))
    if to == "coco" and after == 3:  # two JSON files and the YAML
        convert(coco, to, tmp_path / "new/deep/out")
        return
    with pytest.raises(UserError, match=r"--out: .*cannot be written: .*No space left.*; free the space"):
        convert(coco, to, tmp_path / "new/deep/out")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupt_leaves_nothing(coco, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(convert_module, "write_coco", interrupt)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        convert(coco, "coco", tmp_path / "new/out")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("out", ["source/set.yaml/out", "x" * 300, "a\0b", "/proc/nothing/here"])
def test_a_folder_that_cannot_be(coco, tmp_path, out):
    with pytest.raises(UserError, match=r"--out: .*cannot be written"):
        convert(coco, "coco", tmp_path / out)
    assert os.listdir(tmp_path) == ["source"]


def test_another_process_that_writes_there_meanwhile(coco, tmp_path, monkeypatch):
    real = convert_module._yaml

    def meanwhile(*arguments):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/theirs").write_text("")
        return real(*arguments)

    monkeypatch.setattr(convert_module, "_yaml", meanwhile)
    with pytest.raises(UserError, match="is there already"):
        convert(coco, "coco", tmp_path / "out")
    assert os.listdir(tmp_path / "out") == ["theirs"]


def test_what_would_be_lost_is_found_before_it_is_in_place(coco, tmp_path, monkeypatch):
    real = convert_module.write_coco

    def rounding(file, index, names):
        real(file, index, names)
        file.write_text(file.read_text().replace("20.51", "20.5"))

    monkeypatch.setattr(convert_module, "write_coco", rounding)
    with pytest.raises(
        UserError, match=r"cannot be converted to coco without loss, nothing was written: .*: boxes: not the same"
    ):
        convert(coco, "coco", tmp_path / "out")
    assert os.listdir(tmp_path) == ["source"]


def test_numbers_that_no_reader_takes_back(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s/a.xml").write_text(
        "<annotation><object><name>c</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>1e200</xmax><ymax>9</ymax></bndbox>"
        "</object></annotation>"
    )
    Image.new("RGB", (8, 8)).save(tmp_path / "s/a.png")
    (tmp_path / "s/set.yaml").write_text("format: voc\nnames: [c]\ntrain: {images: ., annotations: .}\n")
    with pytest.raises(
        UserError, match=r"without loss, nothing was written: .*out/annotations/instances_train.json: .*1e\+200"
    ):
        convert(str(tmp_path / "s/set.yaml"), "coco", tmp_path / "out")


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_says_what_became_of_what(coco, tmp_path, capsys):
    assert main(["convert", coco, "--to", "yolo", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    for part in [
        "train: 4 images, 7 boxes",
        "train: 1 image(s) have another name",
        "'t/x.jpg' is 't/x-2.jpg'",
        "only coco/instances_train.json has 1 crowd(s), 1 box(es) without area in the image, 1 box(es) larger than the image",
        "1 of 2 images are missing (gone.png",
        "masks, key points, annotation ids and keys that training does not use are not carried over",
        f"{tmp_path}/out/data.yaml: complete; train on it with data=",
    ]:
        assert part in said, part


def test_a_file_name_that_no_encoding_has_can_be_said(tmp_path, capsys):
    for folder in ("s/images", "s/labels"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "s/labels/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "s/images/a.png")
    try:
        (tmp_path / os.fsdecode(b"s/images/b\xff.png")).write_bytes(b"no picture")
    except OSError:
        pytest.skip("the file system takes no such name")
    (tmp_path / "s/set.yaml").write_text("train: images\nnames: [c]\n")
    assert main(["convert", str(tmp_path / "s/set.yaml"), "--to", "voc", "--out", str(tmp_path / "out")]) == 0
    assert r"header that cannot be read (images/b\udcff.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nowhere.yaml"], "there is no such file"), (["shaeps"], "did you mean shapes?")],
)
def test_a_mistake_is_a_message_and_nothing_is_written(tmp_path, capsys, arguments, message):
    assert main(["convert", *arguments, "--to", "voc", "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err and not os.listdir(tmp_path)
