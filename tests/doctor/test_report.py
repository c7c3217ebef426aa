from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from yolo_cosine.doctor.finding import Example, Finding
from yolo_cosine.doctor.html import to_html
from yolo_cosine.doctor.report import EDGES, Report, examine, size_names, to_json
from yolo_cosine.doctor.snapshot import take_snapshot
from yolo_cosine.doctor.text import to_text

NASTY = """<script>alert("1")</script> & $title's \x1b[31m"""


def strict(text: str) -> dict:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def nasty(small_set) -> str:
    """A set whose names are made to break out of a page, with something to show of each."""
    for split in ("train", "val"):
        small_set.content[split]["categories"][0]["name"] = NASTY
        image = small_set.content[split]["images"][0]
        old = small_set.file(split, 0)
        image["file_name"] = f"""{split}"'<img src=x onerror=alert(1)>$imgsz.jpg"""
        old.rename(small_set.file(split, 0))
        small_set.add_box(split, 0, [20, 50, 300, 10])
    return small_set.write()


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def spoiled(small_set):
    """A report with findings of all severities, and its snapshot."""
    small_set.add_box("val", 0, [20, 50, 0, 10])
    small_set.add_box("val", 1, [0, 60, 90, 20], crowd=1)
    small_set.file("train", 0).write_text("no picture")
    snapshot = take_snapshot(small_set.write(), None, 128)
    return examine(snapshot), snapshot


def test_the_figures(spoiled):
    report, _ = spoiled
    train, val = report.splits
    assert (train.images, train.boxes, train.crowds, train.empty, train.unreadable) == (4, 24, 0, 0, 1)
    assert (val.images, val.boxes, val.crowds, val.empty, val.unreadable) == (4, 25, 1, 0, 0)
    assert [c.name for c in report.classes] == ["cat", "dog"]
    assert report.classes[0].boxes == {"train": 12, "val": 12} and report.classes[0].images == {"train": 4, "val": 4}
    assert report.tally() == {"error": 1, "warning": 1, "note": 1}
    assert [f.severity for f in report.findings] == ["error", "warning", "note"]


def test_box_sizes_are_counted_by_octave_and_strides_are_edges(spoiled):
    report, _ = spoiled
    assert len(size_names()) == len(report.splits[0].sizes) == len(EDGES) + 1
    counted = dict(zip(size_names(), report.splits[0].sizes, strict=True))
    assert counted == {name: 24 if name == "16 to 32" else 0 for name in size_names()}  # 18 x 30: 23 px
    assert set(report.strides) <= set(EDGES)


def test_json_holds_the_whole_report(spoiled):
    report, _ = spoiled
    content = strict(to_json(report))
    assert content["tally"] == report.tally() and [s["name"] for s in content["splits"]] == ["train", "val"]
    found = {f["kind"]: f for f in content["findings"]}
    assert found["box-without-area"]["examples"][0]["boxes"] == [[20.0, 50.0, 0.0, 10.0]]
    assert found["unreadable-image"]["count"] == 1 and found["unreadable-image"]["examples"][0]["place"] == "train0.jpg"
    assert all(f["training"] and f["remedy"] and f["count"] == len(f["examples"]) for f in content["findings"])


def test_json_has_all_cases_where_the_text_has_the_first_few(small_set):
    for k in range(7):
        small_set.add_box("val", 0, [20 + k, 50, 0, 10])
    report = examine(take_snapshot(small_set.write(), None, 128))
    assert len(strict(to_json(report))["findings"][0]["examples"]) == 7
    text = to_text(report)
    assert text.count("val0.jpg [") == 3 and "and 4 more" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_has_no_number_that_is_none(value):
    example = Example("a.jpg", boxes=((0.0, value, 1.0, 1.0),))
    report = Report("set", 640, (8,), (), (), (Finding("k", "note", "all", "w", (example,), "t", "r"),))
    assert strict(to_json(report))["findings"][0]["examples"][0]["boxes"] == [[0.0, None, 1.0, 1.0]]


def test_names_that_are_no_unicode_stay_json():
    finding = Finding("k", "note", "all", "w", (Example("a\udcff.jpg"),), "t", "r")
    text = to_json(Report("set", 640, (8,), (), (), (finding,)))
    assert strict(text.encode("utf-8").decode())["findings"][0]["examples"][0]["place"] == "a\udcff.jpg"


def test_the_terminal_gets_no_control_characters(small_set):
    text = to_text(examine(take_snapshot(nasty(small_set), None, 128)))
    assert "alert" in text and not [c for c in text if c != "\n" and not c.isprintable()]


def test_names_cannot_break_out_of_the_page(small_set):
    snapshot = take_snapshot(nasty(small_set), None, 128)
    text = to_html(examine(snapshot), snapshot)
    page = Page(text)
    assert NASTY in page.text and "train\"'<img src=x onerror=alert(1)>$imgsz.jpg" in page.text
    assert not {"script", "img", "iframe", "object", "link", "base", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_the_page_needs_nothing_from_outside(spoiled):
    report, snapshot = spoiled
    text = to_html(report, snapshot)
    page = Page(text)
    addresses = [value for name, value in page.attributes if name in ("href", "src", "xlink:href", "action", "srcset")]
    assert addresses and all(value.startswith(("data:image/jpeg;base64,", "#f")) for value in addresses)
    assert "url(" not in text and "@import" not in text and "http://" not in text and "https://" not in text
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none'") and "prefers-color-scheme: dark" in text
    for finding in report.findings:
        assert finding.training in page.text and finding.remedy in page.text and finding.kind in page.text


@pytest.mark.parametrize(
    ("bbox", "view", "mark"),
    [
        ([20, 50, 30, 0], "0 0 128 96", '<circle cx="20" cy="50"'),
        ([-20, 50, 50, 20], "-20 0 148 96", '<rect x="-20" y="50" width="50" height="20"'),
        ([900, 50, 50, 20], "0 0 192 96", '<rect x="900"'),  # half the image is as far as the view goes
    ],
)
def test_the_boxes_concerned_are_drawn(small_set, bbox, view, mark):
    small_set.add_box("val", 0, bbox)
    snapshot = take_snapshot(small_set.write(), None, 128)
    text = to_html(examine(snapshot), snapshot)
    assert f'viewBox="{view}"' in text and mark in text and text.count("<rect") + text.count("<circle") == 1


def test_boxes_are_drawn_where_training_places_them(small_set):
    """Half as wide in the annotations as it is: a box at x = 20 lies at 40 of the picture's 128 pixels."""
    small_set.content["val"]["images"][0]["width"] = 64
    small_set.remove_boxes("val", image=0)
    small_set.add_box("val", 0, [20, 50, 10, 20])
    snapshot = take_snapshot(small_set.write(), None, 128)
    text = to_html(examine(snapshot), snapshot)
    assert 'viewBox="0 0 128 96"' in text and '<rect x="40" y="50" width="20" height="20"' in text


def test_the_page_stays_small(small_set):
    for k in range(60):
        small_set.add_box("val", k % 4, [20 + k / 2, 50, 0, 10])
    snapshot = take_snapshot(small_set.write(), None, 128)
    text = to_html(examine(snapshot), snapshot)
    assert text.count("<svg") == 6 and "and 40 more" in text and len(text) < 100_000


def test_a_page_without_findings(spoiled):
    report, snapshot = spoiled
    assert "Nothing was found" in to_html(replace(report, findings=()), snapshot)
