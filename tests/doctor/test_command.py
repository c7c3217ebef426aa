from __future__ import annotations

import hashlib
import json

import pytest

from yolo_cosine import cli, dataset
from yolo_cosine.doctor import command


def digests(folder):
    return {p: hashlib.sha256(p.read_bytes()).digest() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("spoil", "code", "last"),
    [
        (lambda s: None, 0, "no errors, no warnings, no notes"),
        (lambda s: s.add_box("train", 0, [20, 50, 0, 10]), 0, "no errors, 1 warning, no notes"),
        (lambda s: s.remove_boxes("val", image=0), 0, "no errors, no warnings, 1 note"),
        (lambda s: s.file("val", 0).write_text("no picture"), 1, "1 error, no warnings, no notes"),
    ],
)
def test_exit_codes_tell_errors_from_the_rest(small_set, capsys, spoil, code, last):
    spoil(small_set)
    assert cli.main(["dataset", "check", small_set.write(), "--imgsz", "128"]) == code
    out, err = capsys.readouterr()
    assert out.endswith(f"{last}\n") and err == ""


def test_reports_are_written_and_the_data_set_is_only_read(small_set, tmp_path, capsys):
    small_set.add_box("train", 0, [20, 50, 0, 10])
    data = small_set.write()
    before = digests(small_set.root)
    files = tmp_path / "a.json", tmp_path / "a.html"
    for _ in range(2):  # a report may be written over
        assert dataset.main(["check", data, "--json", str(files[0]), "--html", str(files[1])]) == 0
        written = [path.read_bytes() for path in files]
    assert json.loads(written[0])["imgsz"] == 640 and written[1].startswith(b"<!doctype html>")
    assert digests(small_set.root) == before
    assert f"report: {files[0]}" in capsys.readouterr().out


def test_one_split(small_set, capsys):
    small_set.file("train", 0).write_text("no picture")
    data = small_set.write()
    assert dataset.main(["check", data, "--split", "val", "--imgsz", "128"]) == 0
    assert "train" not in capsys.readouterr().out.replace("trained", "")
    assert dataset.main(["check", data, "--split", "val", "--split", "train", "--split", "val"]) == 1


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nowhere.yaml"], ["nowhere.yaml", "no such file"]),
        (["{data}", "--split", "test"], ["has no split 'test'"]),
        (["{data}", "--imgsz", "8"], ["--imgsz: 8", "write 32 or more"]),
        (["{data}", "--html", "nowhere/a.html"], ["nowhere/a.html", "make it"]),
        (["{data}", "--json", "{data}"], ["is a folder"]),
        (["{data}", "--json", "{data}/annotations/instances_val.json"], ["is a file of the data set", "only read"]),
        (["{data}", "--html", "{data}/train/../train/train1.jpg"], ["is a file of the data set"]),
    ],
)
def test_mistakes(small_set, capsys, arguments, parts):
    data = small_set.write()
    before = digests(small_set.root)
    assert dataset.main(["check", *(a.format(data=data) for a in arguments)]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and all(part in err for part in parts) and not out
    assert digests(small_set.root) == before


def test_a_data_set_that_cannot_be_opened(small_set, capsys):
    data = small_set.write()
    (small_set.root / "annotations/instances_val.json").write_text('{"images": [')
    assert dataset.main(["check", data]) == 2
    err = capsys.readouterr().err
    assert "instances_val.json:1:" in err and "is no JSON" in err and "Traceback" not in err


def test_what_exit_codes_mean_is_in_the_help(capsys):
    with pytest.raises(SystemExit):
        dataset.main(["check", "--help"])
    assert "Exit code: 0" in capsys.readouterr().out


def test_long_work_tells_how_far_it_is(small_set, capsys, monkeypatch):
    monkeypatch.setattr(command, "_TELL_EVERY", 0.0)
    assert dataset.main(["check", small_set.write(), "--imgsz", "128"]) == 0
    assert capsys.readouterr().err.splitlines() == [f"{k} of 8 images read" for k in range(1, 9)]
