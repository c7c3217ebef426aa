"""Mistakes in YOLO's text files, Pascal VOC's XML, and the YAML files that name them."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

# --- YOLO's text files -------------------------------------------------------------------------------------------------

YOLO = "path: yolo\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n"


@pytest.fixture
def yolo(desk):
    """A data set of six images in YOLO's layout."""
    for split in ("train", "val"):
        for k in range(6):
            picture = cv2.imencode(".jpg", np.full((64, 64, 3), 100, np.uint8))[1].tobytes()
            desk.write(f"yolo/images/{split}/{k}.jpg", picture)
            desk.write(f"yolo/labels/{split}/{k}.txt", "0 0.5 0.5 0.2 0.2\n")
    desk.write("yolo.yaml", YOLO)
    return desk


COLUMNS = "a box is `class cx cy w h`, a polygon a class and at least three pairs x y"


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("0", ["has 1 columns", COLUMNS]),
        ("0 0.5 0.5 0.2", ["has 4 columns", COLUMNS]),
        ("0 0.5 0.5 0.2 0.2 0.9", ["has 6 columns", COLUMNS]),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", ["has 8 columns", COLUMNS]),
        ("cat 0.5 0.5 0.2 0.2", ["holds what is no number", "write `class cx cy w h` with numbers"]),
        ("0,0.5,0.5,0.2,0.2", ["holds what is no number", "parted by spaces"]),
        ("0 0.5 0.5 0.2 0.2 # cat", ["holds what is no number"]),
        ("2 0.5 0.5 0.2 0.2", ["class 2 is none of the 2 classes, 0 to 1", "mend it, or `names` in the YAML"]),
        ("-1 0.5 0.5 0.2 0.2", ["class -1 is none of the 2 classes"]),
        ("0.5 0.5 0.5 0.2 0.2", ["class 0.5 is none of the 2 classes"]),
        ("0 nan 0.5 0.2 0.2", ["holds what is no finite number", "mend or remove the line"]),
        ("0 0.5 0.5 0.2 1e999", ["holds what is no finite number"]),
        ("0 320 240 64 64", ["not in fractions of the image", "divide x by its width and y by its height"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_labels(yolo, line, parts):
    yolo.write("yolo/labels/train/3.txt", f"0 0.5 0.5 0.2 0.2\n{line}\n")
    yolo.refuses_to_train("data=yolo.yaml", parts=["yolo/labels/train/3.txt:2: ", repr(line), *parts])


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda d: d.write("yolo/labels/train/3.txt", bytes(range(256))), ["3.txt: cannot be read", "as text"]),
        (lambda d: d.write("yolo/labels/train/3.txt", "0 0.5".encode("utf-16")), ["3.txt: cannot be read"]),
        (lambda d: shutil.rmtree(d.folder / "yolo/labels/train"), ["train: none of its 6 images has a label file",
            "labels/train/0.txt", "put the labels into a folder `labels`"]),
        (lambda d: [p.write_text("") for p in (d.folder / "yolo/labels/train").iterdir()], ["no box to train on"]),
        (lambda d: shutil.rmtree(d.folder / "yolo/images/train"), ["'images/train': there is no such folder"]),
        (lambda d: [p.unlink() for p in (d.folder / "yolo/images/val").iterdir()], ["val: ", "holds no images", ".jpg"]),
    ],
    ids=["binary", "utf-16", "no labels", "empty labels", "no folder", "no images"],
)  # fmt: skip
def test_wrong_yolo_files(yolo, change, parts):
    change(yolo)
    yolo.refuses_to_train("data=yolo.yaml", parts=parts)


def put(key, value):
    return YOLO.replace(next(line for line in YOLO.splitlines() if line.startswith(key)), f"{key}: {value}")


YAMLS = [  # name, text, what is said
    ("empty", "", ["is no data set YAML", "none of the keys train, val and test", "write at least train"]),
    ("list", "- a", ["holds a list, not a mapping"]),
    ("no val", YOLO.replace("val: images/val\n", ""), ["has no split 'val'", "it has train", "add `val:` to it"]),
    ("no names", YOLO.replace("names: [cat, dog]\n", ""), ["names: missing", "write `names: ...`"]),
    ("names empty", put("names", "[]"), ["names: is empty", "in the order of their numbers"]),
    ("name twice", put("names", "[cat, cat]"), ["names: 'cat' stands twice", "its own name"]),
    ("name null", put("names", "[cat, null]"), ["names: 1: None is no name", "in quotes"]),
    ("names from 1", put("names", "{1: cat, 2: dog}"), ["names: its keys are not 0 to 1", "number the classes from 0"]),
    ("names as word", put("names", "cat"), ["names: 'cat'", "valid list"]),
    ("nc", f"{YOLO}nc: 3\n", ["nc: 3 is not the number of names, 2", "mend one or remove nc"]),
    ("path nowhere", put("path", "nowhere"), ["path: 'nowhere': there is no such folder", "mend the path"]),
    ("path too long", put("path", "x" * 300), ["path: 'xxx", "there is no such folder", "mend the path"]),
    ("path of nobody", put("path", "~nobody_of_this_name/x"), ["path: '~nobody_of_this_name/x'", "no user", "whole path"]),
    ("path unset", put("path", "${NOT_SET_ANYWHERE}"), ["NOT_SET_ANYWHERE is not set", "${NOT_SET_ANYWHERE:-FOLDER}"]),
    ("path as number", put("path", "3"), ["path: 3", "valid string"]),
    ("train nowhere", put("train", "images/trian"), ["train: 'images/trian': there is no such folder or list", "mend"]),
    ("train too long", put("train", "x" * 300), ["train: 'xxx", "there is no such folder or list"]),
    ("train with a null", put("train", '"a\\0b"'), ["yolo.yaml:2:8", "null character", "take the \\0 out"]),
    ("train as number", put("train", "3"), ["train: 3", "valid string"]),
    ("download", "path: no\ntrain: a\nval: b\nnames: [a]\ndownload: rm -r .", ["get the data by hand", "never run"]),
    ("format", f"{YOLO}format: coco\n", ["format: 'coco' should be 'voc'", "for COCO and YOLO leave the key out"]),
    ("list of nothing", put("train", "none.txt"), ["train: none of its 1 images is there, such as nowhere.jpg"]),
    ("list of bytes", put("train", "bytes.txt"), ["bytes.txt: cannot be read", "write a path in each line"]),
    ("list too long", put("train", "long.txt"), ["train: none of its 1 images is there"]),
    ("json and folder", "train: {images: a, annotations: b.json}\nval: images\n", ["val: 'images'", "dictionary"]),
    ("json nowhere", "train: {images: yolo, annotations: b.json}\nval: {images: yolo, annotations: b.json}",
        ["b.json: there is no such annotation file"]),
    ("json misspelt", "train: {images: yolo, annotation: b.json}", ["train: annotation: there is no such key", "mean ann"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "parts"), [y[1:] for y in YAMLS], ids=[y[0] for y in YAMLS])
def test_wrong_yamls(yolo, text, parts):
    for name, content in (("none", b"nowhere.jpg\n"), ("bytes", bytes(range(256))), ("long", b"x" * 300 + b".jpg\n")):
        yolo.write(f"yolo/{name}.txt", content)
    yolo.write("yolo.yaml", text)
    yolo.refuses_to_train("data=yolo.yaml", parts=parts)


# --- Pascal VOC's XML ---------------------------------------------------------------------------------------------------

XML = (
    "<annotation><size><width>64</width><height>64</height></size><object><name>cat</name>"
    "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object></annotation>"
)
LAUGHS = "".join(f'<!ENTITY a{k} "{f"&a{k - 1};" * 10}">' for k in range(1, 9))
SPLIT = "{images: images/train, annotations: xml, list: list.txt}"


@pytest.fixture
def voc(yolo):
    """The same pictures in Pascal VOC's form."""
    for k in range(6):
        yolo.write(f"yolo/xml/{k}.xml", XML)
    yolo.write("yolo/list.txt", "0\n1\n2\n3\n4\n5\n")
    yolo.write("voc.yaml", f"format: voc\npath: yolo\nnames: [cat, dog]\ntrain: {SPLIT}\nval: {SPLIT}\n")
    return yolo


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (f"<!DOCTYPE a [<!ENTITY x 'y'>]>{XML}", ["has a DOCTYPE", "remove the line"]),
        (f"<!DOCTYPE a [<!ENTITY a0 'ha'>{LAUGHS}]><annotation>&a8;</annotation>", ["has a DOCTYPE"]),
        (f"<!DOCTYPE a SYSTEM 'file:///etc/passwd'>{XML}", ["has a DOCTYPE"]),
        (XML.replace("cat", "cta"), ["object 1: name: 'cta' is not in `names`", "did you mean 'cat'?"]),
        (XML.replace("<name>cat</name>", ""), ["object 1: name: '' is not in `names`", "the classes are cat, dog"]),
        (XML.replace("<xmax>30</xmax>", ""), ["object 1: bndbox.xmax: missing", "finite number of pixels", "mend"]),
        (XML.replace("30", "wide"), ["object 1: bndbox.xmax: 'wide'", "must be a finite number of pixels"]),
        (XML.replace("30", "nan"), ["object 1: bndbox.xmax: 'nan'", "must be a finite number of pixels"]),
        (XML.replace("bndbox", "box"), ["object 1: bndbox.xmin: missing"]),
        (XML[:-30], ["is no XML", "write or download it again"]),
        ("", ["is no XML", "no element found"]),
        ("<html>404</html>", ["is no annotation of VOC: its root is <html>", "get the right file"]),
    ],
    ids=["doctype", "billion laughs", "outer document", "class", "no class", "no corner", "word", "nan", "no box", "cut",
         "empty", "html"],
)  # fmt: skip
def test_wrong_xml(voc, text, parts):
    voc.write("yolo/xml/3.xml", text)
    voc.refuses_to_train("data=voc.yaml", parts=["xml/3.xml: ", *parts])


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda d: d.write("yolo/list.txt", "0\n77\n"), ["list.txt: names '77'", "77.xml", "remove the line"]),
        (lambda d: d.write("yolo/list.txt", "../../x\n"), ["list.txt: names '../../x'", "remove the line"]),
        (lambda d: d.write("yolo/list.txt", ""), ["list.txt: names no image", "write one name"]),
        (lambda d: (d.folder / "yolo/list.txt").unlink(), ["list.txt: cannot be read", "name a text file"]),
        (lambda d: shutil.rmtree(d.folder / "yolo/xml"), ["annotations: ", "there is no such folder", "name that of"]),
        (lambda d: shutil.rmtree(d.folder / "yolo/images"), ["none of its 6 images is there, such as", "check the folder"]),
    ],
    ids=["unknown name", "name outside", "empty list", "no list", "no annotations", "no images"],
)  # fmt: skip
def test_wrong_voc_files(voc, change, parts):
    change(voc)
    voc.refuses_to_train("data=voc.yaml", parts=parts)


def test_what_the_tables_spoil_is_right_before(voc):
    from yolo_cosine.data.dataset import open_dataset

    for name, images in (("data/shapes.yaml", 24), ("yolo.yaml", 6), ("voc.yaml", 6)):
        assert len(open_dataset(name).splits["train"]) == images
