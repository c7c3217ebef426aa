"""The comparison of two endings sees what it is there for."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.faults.compare import Ending, differences, leftovers


def _edit_lines(name, edit):
    def tamper(run):
        path = run / name
        path.write_text("".join(edit(path.read_text().splitlines(keepends=True))))

    return tamper


def _without(event):
    return lambda lines: [line for line in lines if f'"event": "{event}", "step": 4' not in line]


def _repeated(text):
    return lambda lines: [copy for line in lines for copy in [line] * (1 + (text in line))]


def _replaced(text, other):
    return lambda lines: [line.replace(text, other, 1) for line in lines]


def _drop_newest(run):
    for path in run.glob("checkpoints/step-00000009.*"):
        path.unlink()


def _repeat_events(run):
    path = next(run.glob("tensorboard/events*"))
    shutil.copyfile(path, path.with_name(f"{path.name}.again"))


def _tear_events(run):
    path = next(run.glob("tensorboard/events*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _change_prediction(run):
    path = run / "predictions.json"
    rows = json.loads(path.read_text())
    rows[0]["score"] += 1e-9
    path.write_text(json.dumps(rows))


def _last_for_best(run):
    shutil.copyfile(run / "weights/last.pt", run / "weights/best.pt")


TAMPERED = [
    (_drop_newest, "checkpoint"),
    (_last_for_best, "weights/best"),
    (_edit_lines("metrics.jsonl", _without("step")), "step 4 is missing"),
    (_edit_lines("metrics.jsonl", _repeated('"event": "step", "step": 4')), "step 4 is there 2 times"),
    (_edit_lines("metrics.jsonl", _without("saved")), "in place of"),
    (_edit_lines("metrics.jsonl", _repeated('"event": "saved", "step": 4')), "twice the line"),
    (_edit_lines("metrics.jsonl", _repeated('"event": "notice"')), "notice .* 2 times"),
    (_edit_lines("metrics.jsonl", _repeated('"event": "end"')), "ended 2 times"),
    (_edit_lines("metrics.jsonl", _replaced('"momentum": 0.9', '"momentum": 0.8')), "in place of"),
    (_edit_lines("results.csv", lambda lines: lines[:-1]), "results"),
    (_repeat_events, "scalars are there more than once"),
    (_tear_events, "scalars are there not"),
    (_change_prediction, "predictions.json"),
]


@pytest.mark.parametrize(("tamper", "told"), TAMPERED, ids=[told for _, told in TAMPERED])
def test_a_difference_is_seen(lab, tmp_path, tamper, told):
    import re

    quiet, ending = lab.quiet()
    run = tmp_path / "run"
    shutil.copytree(quiet.run_dir, run)
    tamper(run)
    found = differences(Ending.read(run), ending)
    assert found and any(re.search(told, text) for text in found), found


def test_clocks_and_names_of_event_files_are_none(lab, tmp_path):
    quiet, ending = lab.quiet()
    run = tmp_path / "run"
    shutil.copytree(quiet.run_dir, run)
    path = next(run.glob("tensorboard/events*"))
    path.rename(path.with_name("events.out.tfevents.1.elsewhere.2.0"))
    _edit_lines("metrics.jsonl", lambda lines: [_later(line) for line in lines])(run)
    assert differences(Ending.read(run), ending) == [] and leftovers(run, quiet.run_dir) == []


def test_that_another_process_was_waited_for_is_none(lab, tmp_path):
    quiet, ending = lab.quiet()
    run = tmp_path / "run"
    shutil.copytree(quiet.run_dir, run)
    text = "a.json: another process is decoding its images into b.images; waiting for it"
    notice = json.dumps({"event": "notice", "step": 0, "epoch": 0, "time": 1.0, "text": text}) + "\n"
    _edit_lines("metrics.jsonl", lambda lines: [lines[0], notice, *lines[1:]])(run)
    waited = Ending.read(run)
    assert differences(waited, ending) == [] and differences(ending, waited) == []


def _later(line):
    record = json.loads(line)
    return json.dumps({key: value + 1 if key in ("time", "seconds") else value for key, value in record.items()}) + "\n"


def test_what_is_left_over_is_listed(lab, tmp_path):
    quiet, _ = lab.quiet()
    run = tmp_path / "run"
    shutil.copytree(quiet.run_dir, run)
    (run / "checkpoints/.step-00000004.pt.tmp").write_bytes(b"part")
    assert leftovers(run, quiet.run_dir) == ["checkpoints/.step-00000004.pt.tmp"]
