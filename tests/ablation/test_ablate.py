"""`python -m yolo_cosine.ablate` from the outside: what it prints, writes and leaves alone."""

from __future__ import annotations

import csv
import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests.ablation.conftest import VARIANTS, write_spec
from yolo_cosine import ablate
from yolo_cosine.ablation.folder import saved_ablation
from yolo_cosine.files import IMAGE_INTERVALS

CPU = {**os.environ, "OMP_NUM_THREADS": "1"}


def rows(folder):
    """The table of a report without what a clock says."""
    with open(folder / "results.csv", encoding="utf-8", newline="") as file:
        return [{k: v for k, v in row.items() if "seconds" not in k} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def reported(ablated, tmp_path_factory):
    """A folder of a trained ablation, with its report."""
    folder = tmp_path_factory.mktemp("reported") / "tiny"
    shutil.copytree(ablated[0].folder, folder)
    assert ablate.main(["--report", str(folder)]) == 0
    return folder


def test_the_plan_trains_nothing(small_shapes, tmp_path, capsys):
    spec = write_spec(tmp_path, small_shapes)
    assert ablate.main(["--cfg", str(spec), "--plan"]) == 0
    told = capsys.readouterr().out
    for words in ("cosine", "late", "constant", "longer", "64", "102", "seeds"):  # steps to train, and by themselves
        assert words in told, words
    assert not (tmp_path / "runs").exists()


def test_a_report_has_all_its_parts(reported):
    assert {p.name for p in reported.glob("re*.*")} == {"report.html", "report.md", "results.csv"}
    table = rows(reported)
    assert [(r["variant"], r["seed"]) for r in table] == [
        (v, s) for v in ("cosine", "late", "constant", "longer") for s in "01"
    ]
    assert {r["state"] for r in table} == {"finished"}
    assert list((reported / "tensorboard").rglob("*tfevents*"))


def test_a_report_is_made_from_the_records_alone(reported):
    before = {name: (reported / name).read_text() for name in ("report.html", "report.md", "results.csv")}
    for name in before:
        (reported / name).unlink()
    assert ablate.main(["--report", str(reported)]) == 0
    assert {name: (reported / name).read_text() for name in before} == before


def test_a_report_may_look_at_another_metric(reported, capsys):
    assert ablate.main(["--report", str(reported), "metric=AR100"]) == 0
    assert "AR100" in capsys.readouterr().out
    assert saved_ablation(reported).metric == "metrics/mAP50-95"
    assert ablate.main(["--report", str(reported)]) == 0


def test_single_runs_are_compared(ablated, tmp_path, capsys):
    runs = [str(run.folder) for run in ablated[1].runs if run.variant in ("cosine", "constant")]
    assert ablate.main(["--compare", *runs, "baseline=cosine", "--out", str(tmp_path / "compared")]) == 0
    assert "constant" in capsys.readouterr().out
    assert {(r["variant"], r["seed"]) for r in rows(tmp_path / "compared")} == {
        (v, s) for v in ("cosine", "constant") for s in "01"
    }


@pytest.mark.parametrize("name", ["config.yaml", "ablation.yaml", "thesis.txt"])
def test_a_comparison_is_not_written_over_something_else(name, tmp_path, capsys):
    (tmp_path / "tensorboard/runs/a/b").mkdir(parents=True)
    (tmp_path / name).touch()
    assert ablate.main(["--compare", "a", "b", "--out", str(tmp_path)]) == 2
    assert "is there already and is no comparison's" in capsys.readouterr().err
    assert (tmp_path / "tensorboard/runs/a/b").is_dir()


def test_a_report_that_cannot_be_written_is_told(reported, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("yolo_cosine.ablation.command.write_report", full)
    assert ablate.main(["--report", str(reported)]) == 2
    assert "the report cannot be written: No space left on device; the runs are whole" in capsys.readouterr().err


def command(*arguments):
    return [sys.executable, "-m", "yolo_cosine.ablate", *arguments]


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_an_ablation_that_is_killed_ends_with_the_same_table(kind, small_shapes, tmp_path, reported):
    """Two runs are enough, one of which begins from the other."""
    variants = {name: VARIANTS[name] for name in ("late", "longer")}
    spec = write_spec(tmp_path, small_shapes, seeds=1, variants=variants)
    folder = tmp_path / "runs/tiny"
    process = subprocess.Popen(command("--cfg", str(spec), "threads=1"), env=CPU, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while not list(folder.glob("late/seed*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(kind)
    assert process.wait(60) == (-kind if kind == signal.SIGKILL else 128 + kind)
    assert ablate.main(["--cfg", str(spec), "threads=1"]) == 0
    assert rows(folder) == [row for row in rows(reported) if row["variant"] in variants and row["seed"] == "0"]


def test_ctrl_c_at_a_terminal_while_everything_is_being_imported(small_shapes, tmp_path):
    spec = write_spec(tmp_path, small_shapes)
    process = subprocess.Popen(
        command("--cfg", str(spec), "threads=1"), env=CPU, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    process.stdout.readline()  # the first run begins
    os.killpg(process.pid, signal.SIGINT)  # a terminal tells all processes
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in told
    assert told.endswith(f"The same command goes on:\n  python -m yolo_cosine.ablate --cfg {spec} threads=1\n")


def test_what_a_run_had_not_written_when_it_was_killed_is_made_later(ablated, reported, tmp_path):
    ablation, plan = ablated
    shutil.copytree(reported, tmp_path / "tiny")
    file = tmp_path / "tiny" / plan.runs[0].folder.relative_to(ablation.folder) / IMAGE_INTERVALS
    intervals = file.read_text()
    file.unlink()
    spec = ablation.folder.parent.parent / "tiny.yaml"
    assert ablate.main(["--cfg", str(spec), "threads=1", f"runs={tmp_path}"]) == 0
    assert file.read_text() == intervals and rows(tmp_path / "tiny") == rows(reported)


def test_more_seeds_are_added_to_what_is_there(small_shapes, tmp_path):
    spec = write_spec(tmp_path, small_shapes, seeds=1, variants={"cosine": {}, "linear": {"curve": "linear"}})
    assert ablate.main(["--cfg", str(spec), "threads=1"]) == 0
    folder = tmp_path / "runs/tiny"
    before = {p: p.read_bytes() for p in folder.glob("*/seed0/metrics.jsonl")}
    assert ablate.main(["--cfg", str(spec), "threads=1", "seeds=2"]) == 0
    assert {p: p.read_bytes() for p in before} == before
    assert len(rows(folder)) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cfg", "none.yaml"], "none.yaml"),
        (["--report", "nowhere"], "nowhere: is no folder of an ablation: it has no ablation.yaml"),
        (["--compare", "nowhere", "nothing"], "nowhere"),
        (["--compare", "nowhere", "base=3"], "base: there is no such key; the keys are baseline"),
    ],
)
def test_a_mistake_is_told_in_words(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ablate.main(arguments) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["--plan"], ["--cfg", "a", "--report", "b"], ["--out", "x", "--cfg", "a"]])
def test_a_command_line_that_asks_for_nothing_is_refused(arguments):
    with pytest.raises(SystemExit) as stop:
        ablate.main(arguments)
    assert stop.value.code == 2


def test_every_key_is_described(capsys):
    assert ablate.main(["--keys"]) == 0
    told = capsys.readouterr().out
    assert all(f"{key} = " in told for key in ("variants", "seeds", "baseline", "executor"))
