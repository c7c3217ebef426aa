"""A run goes on with the data that it was begun with; other versions and devices are named."""

from __future__ import annotations

import json
import shutil

import pytest

from yolo_cosine import train
from yolo_cosine.data.dataset import open_dataset
from yolo_cosine.data.prints import differences, fingerprint
from yolo_cosine.engine import build, environment
from yolo_cosine.engine.environment import environment_notes


@pytest.fixture
def data(small_shapes, tmp_path):
    """A copy of the data set that a test may change."""
    shutil.copytree(small_shapes.parent, tmp_path / "data")
    return tmp_path / "data" / small_shapes.name


def change(data, do):
    path = data.parent / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    do(content)
    path.write_text(json.dumps(content))


def prints(data):
    return {split: fingerprint(index) for split, index in open_dataset(str(data)).splits.items()}


@pytest.mark.parametrize(
    ("part", "do"),
    [
        ("images", lambda c: c["images"].reverse()),
        ("images", lambda c: c["images"][0].update(id=99999) or [a.update(image_id=99999) for a in c["annotations"] if a["image_id"] == 1]),
        ("boxes", lambda c: c["annotations"].pop()),
        ("boxes", lambda c: c["annotations"][3]["bbox"].__setitem__(0, 1.5)),
        ("boxes", lambda c: c["annotations"][3].update(category_id=1 if c["annotations"][3]["category_id"] != 1 else 3)),
        ("classes", lambda c: c["categories"][0].update(name="disc")),
    ],
)  # fmt: skip
def test_a_fingerprint_tells_what_changed(data, part, do):
    before = prints(data)
    assert differences(before, prints(data)) == []
    change(data, do)
    if part == "classes":  # both splits must have the same
        shutil.copy(data.parent / "annotations/instances_train.json", data.parent / "annotations/instances_val.json")
        shutil.copytree(data.parent / "images/train", data.parent / "images/val", dirs_exist_ok=True)
    found = differences(before, prints(data))
    assert any(line.startswith(f"train: {part} were ") for line in found), found


def test_a_replaced_picture_is_noticed(data):
    before = prints(data)
    path = sorted((data.parent / "images/train").iterdir())[0]
    path.write_bytes(path.read_bytes() + b"\0")
    assert [line.split(" were ")[0] for line in differences(before, prints(data))] == ["train: files"]


def test_a_run_does_not_go_on_with_other_data(write_run, data, tmp_path, capsys):
    assert train.main(["--cfg", str(write_run(data=str(data)))]) == 0
    before = sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "runs").rglob("*"))
    change(data, lambda c: c["annotations"].pop())
    assert train.main(["--resume", str(tmp_path / "runs/run")]) == 2
    error = capsys.readouterr().err
    assert "is not the data that the run was begun with: train: boxes were" in error and "weights=" in error
    assert sorted((p, p.stat().st_mtime_ns) for p in (tmp_path / "runs").rglob("*")) == before


def test_data_may_lie_elsewhere(write_run, data, tmp_path):
    assert train.main(["--cfg", str(write_run(data=str(data)))]) == 0
    shutil.move(data.parent, tmp_path / "moved")
    assert train.main(["--resume", str(tmp_path / "runs/run"), f"data={tmp_path / 'moved' / data.name}"]) == 0


def test_another_version_is_named(write_run, tmp_path, monkeypatch, capsys):
    assert train.main(["--cfg", str(write_run())]) == 0
    changed = {"torch": "9.9", "processes": "4"}
    original = environment.describe_environment
    monkeypatch.setattr(build, "describe_environment", lambda *a: {**original(*a), **changed})
    assert train.main(["--resume", str(tmp_path / "runs/run")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "and is 9.9 now: the run goes on, but not bit for bit" in said
    assert "processes was 1 and is 4 now" in said and "every step has the same images" in said


def test_nothing_is_said_of_the_same():
    assert environment_notes({"torch": "1", "python": "3"}, {"torch": "1", "python": "3"}) == []
