"""Mistakes in COCO's JSON."""

from __future__ import annotations

import pytest


def first(kind, **changes):
    """A change of the first entry of a list; None takes a key away."""

    def change(content):
        content[kind][0] = {k: v for k, v in {**content[kind][0], **changes}.items() if v is not None}

    return change


def every(kind, **changes):
    return lambda content: [entry.update(changes) for entry in content[kind]] and None


def without(key):
    return lambda content: {k: v for k, v in content.items() if k != key}


def rename(content):
    for category in content["categories"]:
        category["name"] += "s"


def twice(kind, key):
    """The second entry has a value of the first."""
    return lambda content: content[kind][1].update({key: content[kind][0][key]})


FOUR = ["annotations[0] (id 1): bbox", "must be four finite numbers, [x, y, width, height]", "mend or remove the entry"]
BELOW = ["images[0] (id 1): file_name", "must lie below the folder of the images", "mend or remove the entry"]
COCO = [  # name, change (what it returns, if anything, takes the content's place), what is said
    ("list at the top", lambda c: [c], ["holds a list at the top", "a list is the form of detection results"]),
    ("images missing", without("images"), ["images: missing", "wants a list of objects here"]),
    ("annotations missing", without("annotations"), ["annotations: missing", "wants a list of objects"]),
    ("categories missing", without("categories"), ["categories: missing", "wants a list of objects"]),
    ("images as object", lambda c: {**c, "images": {}}, ["images: is a dict", "wants a list of objects"]),
    ("images as names", lambda c: {**c, "images": ["a.jpg"]}, ["images[0]: 'a.jpg' is no object", "write {...}"]),
    ("no images", lambda c: {**c, "images": [], "annotations": []}, ["images: is empty", "at least one entry"]),
    ("no categories", lambda c: {**c, "categories": []}, ["categories: is empty", "at least one entry"]),
    ("image id twice", twice("images", "id"), ["image id 1 stands twice, at 000000.jpg and 000001.jpg", "its own"]),
    ("category id twice", twice("categories", "id"), ["category id 1 stands twice", "its own id and name"]),
    ("category name twice", twice("categories", "name"), ["category name 'circle' stands twice", "its own id"]),
    ("box of three", first("annotations", bbox=[1, 2, 3]), [*FOUR, "[1, 2, 3]"]),
    ("box of words", first("annotations", bbox=["1", "2", "3", "4"]), [*FOUR, '["1", "2", "3", "4"]']),
    ("box with NaN", first("annotations", bbox=[1, 2, float("nan"), 3]), [*FOUR, "NaN"]),
    ("box with 1e999", first("annotations", bbox=[1, 2, float("inf"), 3]), [*FOUR, "Infinity"]),
    ("box as object", first("annotations", bbox={"x": 1}), [*FOUR, '{"x": 1}']),
    ("box with true", first("annotations", bbox=[True, 1, 2, 3]), FOUR),
    ("no box", first("annotations", bbox=None), [*FOUR, "missing"]),
    ("unknown category", first("annotations", category_id=99), ["category_id: 99: there is no such category", "add it"]),
    ("unknown image", first("annotations", image_id=9999), ["image_id: 9999: there is no such image", "add it or"]),
    ("category as word", first("annotations", category_id="1"), ['category_id: "1" must be a whole number']),
    ("no image id", first("annotations", image_id=None), ["image_id: missing", "must be a whole number", "mend"]),
    ("crowd of two", first("annotations", iscrowd=2), ["iscrowd: 2 must be 0, or 1", "mend or remove the entry"]),
    ("area of words", first("annotations", area="big"), ['area: "big" must be a number', "mend or remove the entry"]),
    ("absolute file", first("images", file_name="/etc/passwd"), [*BELOW, '"/etc/passwd"']),
    ("file outside", first("images", file_name="../x.jpg"), [*BELOW, '"../x.jpg"']),
    ("file outside, hidden", first("images", file_name="a/../../x.jpg"), [*BELOW, "without `..`"]),
    ("file of Windows", first("images", file_name="C:\\x.jpg"), BELOW),
    ("file with a null", first("images", file_name="a\0.jpg"), BELOW),
    ("file as number", first("images", file_name=3), ["file_name: 3 must be the name of a file"]),
    ("no file name", first("images", file_name=None), ["file_name: missing", "must be the name of a file"]),
    ("image id as word", first("images", id="a"), ['id: "a" must be a whole number', "mend or remove"]),
    ("image id too large", first("images", id=10**30), ["must be a whole number"]),
    ("width too large", first("images", width=10**12), ["width: 1000000000000 must be a whole number of pixels"]),
    ("width as word", first("images", width="64"), ['width: "64" must be a whole number', "the header of the file"]),
    ("category without name", first("categories", name=None), ["categories[0] (id 1): name: missing", "a name"]),
    ("category named by a space", first("categories", name=" "), ['name: " " must be a name']),
]  # fmt: skip


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("change", "parts"), [c[1:] for c in COCO], ids=[c[0] for c in COCO])
def test_wrong_entries(desk, split, change, parts):
    content = desk.annotations(split)
    changed = change(content)
    desk.annotate(content if changed is None else changed, split)
    desk.refuses_to_train(parts=[f"instances_{split}.json: ", *parts])


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda data: data[:-40], ["instances_train.json:1:", "is no JSON", "may be cut short", "write or download"]),
        (lambda data: b"", ["instances_train.json:1:1: is no JSON", "may be cut short"]),
        (lambda data: b"{}\n{}", ["instances_train.json:2:1: is no JSON: Extra data"]),
        (lambda data: b"\x1f\x8b\x08" + data, ["is no JSON", "write or download it again"]),
        (lambda data: b'{"a": "\xfc"}', ["is no JSON", "'utf-8' codec", "write or download it again"]),
        (lambda data: b"[" * 100_000, ["is no JSON", "recursion", "write or download it again"]),
        (lambda data: b'{"images": ' + b"9" * 5000 + b"}", ["is no JSON", "digits", "write or download it again"]),
    ],
    ids=["cut short", "empty", "lines of JSON", "compressed", "latin-1", "deep", "too many digits"],
)
def test_annotations_that_are_no_json(desk, change, parts):
    path = desk.folder / "data/annotations/instances_train.json"
    path.write_bytes(change(path.read_bytes()))
    desk.refuses_to_train(parts=parts)


def test_annotations_that_are_a_folder(desk):
    path = desk.folder / "data/annotations/instances_train.json"
    path.unlink()
    path.mkdir()
    desk.refuses_to_train(parts=["instances_train.json: is a folder", "one JSON file", "format: voc"])


NOTHING = "has no box to train on; annotate some images, or name another split"
NOTHING_FOUND = "has no box to evaluate by, so no mAP; name a split with objects as val"


@pytest.mark.parametrize(
    ("split", "change", "part"),
    [
        ("train", lambda c: {**c, "annotations": []}, NOTHING),
        ("train", every("annotations", iscrowd=1), NOTHING),
        ("train", every("annotations", bbox=[1, 1, 0, 0]), NOTHING),
        ("train", every("annotations", bbox=[9000, 9000, 5, 5]), NOTHING),
        ("val", lambda c: {**c, "annotations": []}, NOTHING_FOUND),
        ("val", every("annotations", iscrowd=1), NOTHING_FOUND),
        ("val", every("annotations", bbox=[9000, 9000, 5, 5]), NOTHING_FOUND),
    ],
    ids=["none", "crowds only", "without area", "outside", "val: none", "val: crowds only", "val: outside"],
)
def test_no_boxes_at_all(desk, split, change, part):
    content = desk.annotations(split)
    desk.annotate(change(content) or content, split)
    desk.refuses_to_train(parts=[f"instances_{split}.json: {part}"])


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (rename, ["id 1 is 'circles' in val and 'circle' in train"]),
        (lambda c: c["categories"].append({"id": 77, "name": "cat"}), ["'cat' (id 77) is only in val"]),
        (lambda c: {**c, "categories": [{"id": 77, "name": "circle"}], "annotations": []}, ["'circle' (id 77) is only in"]),
    ],
    ids=["renamed", "one more", "another id"],
)  # fmt: skip
def test_classes_of_train_and_val_differ(desk, change, parts):
    content = desk.annotations("val")
    desk.annotate(change(content) or content, "val")
    desk.refuses_to_train(parts=["categories are not those of train", *parts, "give both files the same ids and names"])
