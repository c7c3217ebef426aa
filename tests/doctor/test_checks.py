"""Every defect is made once, on a set without any, and must be found, with its count and nothing beside it."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from yolo_cosine.doctor.report import examine
from yolo_cosine.doctor.snapshot import take_snapshot


def findings(data: str, imgsz: int = 128) -> dict[tuple[str, str], int]:
    report = examine(take_snapshot(data, None, imgsz))
    assert len({(f.kind, f.split) for f in report.findings}) == len(report.findings)
    return {(f.kind, f.split): f.count for f in report.findings}


def test_a_clean_set_has_no_findings(small_set):
    assert findings(small_set.write()) == {}


def test_the_embedded_set_has_nothing_but_notes(small_shapes):
    report = examine(take_snapshot(str(small_shapes), None, 320))
    assert {f.severity for f in report.findings} == {"note"}


# --- files ------------------------------------------------------------------------------------------------------------


def no_picture(s, split):
    s.file(split, 0).write_text("no picture")


def empty_file(s, split):
    s.file(split, 0).write_bytes(b"")


def missing(s, split):
    s.file(split, 0).unlink()
    s.file(split, 3).unlink()


def no_header_and_no_size(s, split):
    no_picture(s, split)
    del s.content[split]["images"][0]["width"]


def ends_early(s, split):
    """Cut, and closed with the mark of a JPEG's end: every decoder takes it, and paints the rest grey."""
    data = s.file(split, 1).read_bytes()
    s.file(split, 1).write_bytes(data[: len(data) // 2] + b"\xff\xd9")


def other_size(s, split):
    s.content[split]["images"][2]["width"] = s.WIDTH + 30


def turned(s, split):
    image = s.content[split]["images"][0]
    image["width"], image["height"] = s.HEIGHT, s.WIDTH
    rows = s.content[split]["annotations"]
    rows[:] = [r for r in rows if r["image_id"] or r["bbox"][0] + r["bbox"][2] <= s.HEIGHT]  # inside when turned, too
    s.save(s.file(split, 0), s.scene(50), orientation=6)


def turned_but_annotated_as_stored(s, split):
    s.save(s.file(split, 0), s.scene(50), orientation=8)


def upside_down(s, split):
    s.save(s.file(split, 0), s.scene(50), orientation=3)


def no_objects(s, split):
    s.remove_boxes(split, image=1)


def crowds_only(s, split):
    for row in s.content[split]["annotations"]:
        row["iscrowd"] = 1


def two_entries_of_a_file(s, split):
    s.content[split]["images"].append({**s.content[split]["images"][0], "id": 77})
    s.add_box(split, 77, [5, 5, 40, 20])


def one_annotation_id(s, split):
    for row in s.content[split]["annotations"][:3]:
        row["id"] = 5


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (no_picture, {"unreadable-image": 1}),
        (empty_file, {"unreadable-image": 1}),
        (missing, {"missing-file": 2}),
        (no_header_and_no_size, {"unreadable-header": 1}),
        (ends_early, {"truncated-image": 1}),
        (other_size, {"wrong-size": 1}),
        (turned, {"exif-turned": 1}),
        (turned_but_annotated_as_stored, {"exif-ignored": 1}),
        (upside_down, {"exif-unclear": 1}),
        (no_objects, {"empty-image": 1}),
        (two_entries_of_a_file, {"repeated-file": 1}),
        (one_annotation_id, {"repeated-annotation-id": 3}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_faults_of_files(small_set, split, spoil, expected):
    spoil(small_set, split)
    # with an image less, train may have fewer than ten boxes of a class, which is noted too
    found = {key: n for key, n in findings(small_set.write()).items() if key[0] != "rare-category"}
    assert found == {(kind, split): n for kind, n in expected.items()}


def test_a_split_of_crowds_has_nothing_to_train_on(small_set):
    crowds_only(small_set, "train")
    found = findings(small_set.write())
    assert found == {("no-boxes", "train"): 1, ("crowd", "train"): 24, ("untrained-category", "train"): 2}


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_a_file_that_was_cut_short_is_found_whether_opencv_decodes_it_or_not(small_set, keep):
    data = small_set.file("train", 0).read_bytes()
    small_set.file("train", 0).write_bytes(data[: int(len(data) * keep)])
    (finding,) = examine(take_snapshot(small_set.write(), None, 128)).findings
    assert finding.kind in ("unreadable-image", "truncated-image") and finding.severity == "error"
    assert "truncated" in finding.examples[0].text


def test_a_grey_border_is_no_missing_data(small_set):
    grey = np.full((small_set.HEIGHT, small_set.WIDTH, 3), 128, dtype=np.uint8)
    grey[30:60] = small_set.scene(60)[30:60]
    small_set.save(small_set.file("train", 0), grey)
    assert findings(small_set.write()) == {}


# --- boxes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("bbox", "kind"),
    [
        ([100, 50, 60, 20], "box-over-edge"),
        ([-12, 50, 60, 20], "box-over-edge"),
        ([0, 50, 137, 20], "box-larger-than-image"),
        ([128, 50, 10, 10], "box-outside-image"),
        ([-300, -300, 10, 10], "box-outside-image"),
        ([20, 50, 0, 10], "box-without-area"),
        ([20, 50, 10, -3], "box-without-area"),
        ([20, 50, 7, 6], "small-box"),
        ([4, 60, 120, 5], "thin-box"),
        ([20, 50, 8, 6], None),
        ([4, 60, 120, 6.1], None),
        ([20, 50, 108.5, 10], None),  # half a pixel over the edge: rounding
    ],
)
def test_faults_of_boxes(small_set, split, bbox, kind):
    small_set.add_box(split, 2, bbox)
    assert findings(small_set.write()) == ({(kind, split): 1} if kind else {})


@pytest.mark.parametrize(
    ("move", "category", "crowd", "expected"),
    [
        (0, 1, 0, {"duplicate-box": 1}),
        (0.01, 1, 0, {"duplicate-box": 1}),
        (0, 2, 0, {"conflicting-box": 1}),
        (3, 1, 0, {}),
        (0, 1, 1, {"crowd": 1}),
    ],
)
def test_boxes_at_one_place(small_set, move, category, crowd, expected):
    x, y, w, h = small_set.content["val"]["annotations"][0]["bbox"]
    small_set.add_box("val", 0, [x + move, y, w, h], category, crowd)
    assert findings(small_set.write()) == {(kind, "val"): n for kind, n in expected.items()}


def test_small_depends_on_the_size_that_is_trained_at(small_set):
    small_set.add_box("train", 0, [20, 50, 10, 10])
    data = small_set.write()
    assert findings(data, 128) == {} and findings(data, 96) == {("small-box", "train"): 1}


# --- copies -----------------------------------------------------------------------------------------------------------


def copy_of_train0(s, split, name="copy.jpg"):
    s.add_image(split, name, s.scene(90))
    target = s.file(split, -1)
    shutil.copy(s.file("train", 0), target)
    return target


def the_same_bytes(s, split):
    copy_of_train0(s, split)


def saved_anew_without_loss(s, split):
    target = copy_of_train0(s, split, "copy.png")
    s.save(target, cv2.cvtColor(cv2.imread(str(s.file("train", 0))), cv2.COLOR_BGR2RGB))


def with_other_exif(s, split):
    s.save(copy_of_train0(s, split), s.scene(0), orientation=6)


def saved_anew_with_loss(s, split):
    s.save(copy_of_train0(s, split), s.scene(0), quality=30)


def brighter_and_smaller(s, split):
    small = cv2.resize(s.scene(0), (s.WIDTH // 2, s.HEIGHT // 2), interpolation=cv2.INTER_AREA)
    s.save(copy_of_train0(s, split), cv2.convertScaleAbs(small, alpha=0.8, beta=30))
    s.content[split]["images"][-1].update(width=s.WIDTH // 2, height=s.HEIGHT // 2)
    s.content[split]["annotations"] = s.content[split]["annotations"][:-6]
    s.add_box(split, 4, [5, 5, 30, 30])


@pytest.mark.parametrize(
    ("spoil", "within", "between"),
    [
        (the_same_bytes, "duplicate-image", "leak"),
        (saved_anew_without_loss, "duplicate-image", "leak"),
        (with_other_exif, "duplicate-image", "leak"),
        (saved_anew_with_loss, "look-alike", "look-alike-leak"),
        (brighter_and_smaller, "look-alike", "look-alike-leak"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_copies(small_set, spoil, within, between, split):
    spoil(small_set, split)
    found = findings(small_set.write())
    found.pop(("exif-ignored", split), None)
    assert found == ({(within, "train"): 1} if split == "train" else {(between, "train+val"): 1})


def test_copies_say_what_they_are_copies_of_and_what_differs(small_set):
    copy_of_train0(small_set, "val")
    small_set.add_box("val", 4, [30, 50, 30, 30])
    (finding,) = examine(take_snapshot(small_set.write(), None, 128)).findings
    (example,) = finding.examples
    assert (example.place, example.twin, example.text) == ("copy.jpg", "train0.jpg", "the same bytes, other boxes")
    assert finding.severity == "error" and "metrics on val are better" in finding.training


def test_a_name_in_two_splits_is_only_a_note_where_the_pictures_differ(small_set):
    small_set.content["val"]["images"][1]["file_name"] = "train2.jpg"
    small_set.save(small_set.root / "val/train2.jpg", small_set.scene(70))
    assert findings(small_set.write()) == {("same-name", "train+val"): 1}


def test_plain_pictures_do_not_look_alike(small_set):
    for i, grey in enumerate((90, 91, 200)):
        small_set.save(
            small_set.file("train", i), np.full((small_set.HEIGHT, small_set.WIDTH, 3), grey, dtype=np.uint8)
        )
    assert findings(small_set.write()) == {}


# --- classes ----------------------------------------------------------------------------------------------------------


def add_category(s, identity: int, splits=("train", "val")):
    for split in splits:
        s.content[split]["categories"].append({"id": identity, "name": "owl"})


def unused(s):
    add_category(s, 3)


def sparse(s):
    add_category(s, 9)
    for split in ("train", "val"):
        for k in range(10):
            s.add_box(split, k % 4, [4 + 12 * k, 60, 10, 20], category=9)


def only_in_val(s):
    s.remove_boxes("train", category=2)


def not_in_val(s):
    s.remove_boxes("val", category=2)


def not_listed_in_val(s):
    not_in_val(s)
    del s.content["val"]["categories"][1]


def few(s):
    rows = s.content["train"]["annotations"]
    rows[:] = [r for r in rows if r["category_id"] == 1 or r["image_id"] == 0]


def very_few(s):
    few(s)
    for k in range(300):
        s.add_box("train", k % 4, [2 + k / 3, 60 + k % 7, 12, 20])


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (unused, {("unused-category", "all"): 1}),
        (sparse, {("sparse-ids", "all"): 1}),
        (only_in_val, {("untrained-category", "train"): 1}),
        (not_in_val, {("unmeasured-category", "val"): 1}),
        (not_listed_in_val, {("unmeasured-category", "val"): 1, ("unlisted-category", "val"): 1}),
        (few, {("rare-category", "train"): 1}),
        (very_few, {("rare-category", "train"): 1, ("uneven-classes", "train"): 1}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_faults_of_classes(small_set, spoil, expected):
    spoil(small_set)
    assert findings(small_set.write()) == expected


# --- other forms of data set ------------------------------------------------------------------------------------------


def test_yolo_labels(tmp_path, small_set):
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for i in range(2):
            small_set.save(tmp_path / f"images/{split}/{split}{i}.jpg", small_set.scene(10 * (split == "val") + i))
            (tmp_path / f"labels/{split}/{split}{i}.txt").write_text("0 0.5 0.5 0.3 0.3\n")
    (tmp_path / "labels/train/train1.txt").write_text("0 0.9 0.5 0.4 0.4\n0 0.4 0.4 0.2 0.2\n0 0.4 0.4 0.2 0.2\n")
    (tmp_path / "images/train/scan.heic").write_text("of a kind that is not read")
    (tmp_path / "list.txt").write_text("images/val/val0.jpg\nimages/val/val1.jpg\nimages/val/val0.jpg\n")
    (tmp_path / "set.yaml").write_text("train: images/train\nval: list.txt\nnames: [cat]\n")
    assert findings(str(tmp_path / "set.yaml")) == {
        ("label-over-edge", "train"): 1,
        ("box-over-edge", "train"): 1,
        ("duplicate-box", "train"): 1,
        ("unread-format", "train"): 1,
        ("repeated-listing", "val"): 1,
        ("rare-category", "train"): 1,
    }


def test_voc_and_one_folder_for_two_splits(tmp_path, small_set):
    for folder in ("JPEGImages", "Annotations"):
        (tmp_path / folder).mkdir()
    small_set.save(tmp_path / "JPEGImages/a.jpg", small_set.scene(1))
    objects = "".join(
        f"<object><name>cat</name><difficult>{k}</difficult><bndbox><xmin>{9 + k}</xmin><ymin>9</ymin>"
        "<xmax>60</xmax><ymax>60</ymax></bndbox></object>"
        for k in (0, 1)
    )
    size = "<size><width>64</width><height>64</height></size>"
    (tmp_path / "Annotations/a.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    part = "{images: JPEGImages, annotations: Annotations}"
    (tmp_path / "set.yaml").write_text(f"format: voc\nnames: [cat]\ntrain: {part}\nval: {part}\n")
    assert findings(str(tmp_path / "set.yaml")) == {
        **{(kind, split): 1 for kind in ("difficult", "crowd", "wrong-size") for split in ("train", "val")},
        ("rare-category", "train"): 1,
        ("leak", "train+val"): 1,
    }


# --- real photographs -------------------------------------------------------------------------------------------------


def test_bccd(real_data):
    """A box without area in train and in val; one scene in both, photographed twice. Nothing else looks alike."""
    assert findings("data/bccd.yaml", 640) == {
        ("box-without-area", "train"): 1,
        ("box-without-area", "val"): 1,
        ("look-alike-leak", "train+val"): 1,
    }


def test_tiny_coco(real_data):
    found = findings("data/tiny_coco.yaml", 640)
    assert {key: n for key, n in found.items() if key[0] in ("crowd", "empty-image", "sparse-ids")} == {
        ("crowd", "train"): 5, ("crowd", "val"): 5, ("empty-image", "train"): 1, ("empty-image", "val"): 2,
        ("sparse-ids", "all"): 8,
    }  # fmt: skip
    assert not {kind for kind, _ in found} & {"look-alike", "look-alike-leak", "leak", "duplicate-image", "wrong-size"}
