from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path

import pytest

from yolo_cosine.ablation import overview, overview_text
from yolo_cosine.ablation.job import Done, Job
from yolo_cosine.ablation.overview import Overview
from yolo_cosine.ablation.overview_text import Cell, Snapshot
from yolo_cosine.ablation.plan import Plan, PlannedRun
from yolo_cosine.ablation.tail import end_value, last_record, steps_taken

MAP = "metrics/mAP50-95"


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """The time as `Overview` sees it, in a list of one."""
    now = [100.0]
    monkeypatch.setattr(overview.time, "monotonic", lambda: now[0])
    return now


def planned(folder, variants, seeds=(0,), steps=100, shared=0):
    """The first variant, and others that take `shared` steps over from it."""
    first = next(iter(variants))
    runs = [
        PlannedRun(
            name, seed, Path(folder) / f"v{k}" / f"seed{seed}", None, steps,
            () if name == first or not shared else (((first, seed), shared),),
        )
        for k, name in enumerate(variants)
        for seed in seeds
    ]  # fmt: skip
    return Plan(tuple(runs), dict.fromkeys(variants))


def write(run, *records, torn=""):
    """What a run's folder says: its labels, and lines of its record."""
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "config.yaml").write_text(json.dumps({"data": "shapes", "labels": {"variant": run.variant}}))
    lines = [json.dumps({"event": kind, "step": step, "epoch": 0, "time": 0.0, **rest}) for kind, step, rest in records]
    (run.folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines) + torn)


def start(run, step=0, variant=None):
    return "start", step, {"config": {"labels": {"variant": variant or run.variant}}}


def steps(first, last):
    return [("step", k, {"lr/weight": 0.01}) for k in range(first, last)]


def done(run, outcome, detail=""):
    return Done(Job(run.variant, run.seed, str(run.folder), {}, log=f"{run.folder}.log"), outcome, detail)


# --- the tail of a record ----------------------------------------------------------------------------------------------


def test_only_the_tail_is_read_and_what_is_torn_is_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert steps_taken(path) is None and math.isnan(end_value(path, MAP, False))
    path.write_text("")
    assert steps_taken(path) is None
    path.write_text('{"event": "step", "step": 3')
    assert steps_taken(path) is None
    lines = [json.dumps({"event": "step", "step": k, "pad": "x" * 200}) for k in range(2000)]
    path.write_text("\n".join(lines) + '\n{"event": "step", "step": 2000, "pa')
    assert steps_taken(path) == 2000
    path.write_text("\n".join(lines) + '\nnot json\n{"event": "step", "st\n\0\xff\n' + json.dumps([1]) + "\n")
    assert steps_taken(path) == 2000
    notices = json.dumps({"event": "notice", "text": "n" * 500}) + "\n"
    path.write_text("\n".join(lines) + "\n" + notices * 500)  # longer than what is read at first
    assert steps_taken(path) == 2000
    assert last_record(path, "eval") is None
    assert steps_taken(tmp_path) is None  # a folder


def test_reading_a_long_record_is_cheap(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    line = json.dumps({"event": "step", "step": 7, "pad": "x" * 200}) + "\n"
    path.write_text(line * 50_000)
    read = []

    class Counting:
        def __init__(self, *arguments):
            self._file = io.FileIO(path)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self._file.close()

        def seek(self, *arguments):
            return self._file.seek(*arguments)

        def read(self, size):
            read.append(size)
            return self._file.read(size)

    monkeypatch.setattr("yolo_cosine.ablation.tail.open", Counting, raising=False)
    assert steps_taken(path) == 8 and sum(read) <= 1 << 14


@pytest.mark.parametrize(("best", "expected"), [(False, 0.5), (True, 0.7)])
def test_the_value_at_the_end(tmp_path, best, expected):
    path = tmp_path / "metrics.jsonl"
    values = [0.3, 0.7, None, -1.0, 0.5]
    path.write_text("".join(json.dumps({"event": "eval", "step": k, MAP: v}) + "\n" for k, v in enumerate(values)))
    assert end_value(path, MAP, best) == expected
    assert math.isnan(end_value(path, "metrics/mAP-small", best))


# --- plain lines -------------------------------------------------------------------------------------------------------


def test_the_lines_of_an_ablation(tmp_path, clock):
    plan, out = planned(tmp_path, ["cosine", "wsd"], steps=100, shared=80), io.StringIO()
    a, b = plan.runs
    watcher = Overview(plan, MAP, 2, {}, out)
    watcher.began(a)
    write(a, start(a))
    clock[0] += 5
    watcher.look()
    write(a, start(a), *steps(0, 10))
    clock[0] += 5
    watcher.look()  # its first steps are seen
    write(a, start(a), *steps(0, 30))
    clock[0] += 20
    watcher.look()
    # 20 steps in 20 s; 70 more take 70 s, and the other begins 10 s after its fork at step 80
    assert (
        "25% of 120 steps; 0 of 2 runs done, 1 running, 1 waiting; 1:20 left; now cosine seed 0 30%" in out.getvalue()
    )
    write(a, start(a), *steps(0, 100), ("eval", 99, {MAP: 0.5731}))
    clock[0] += 70
    watcher.ended(a, done(a, "finished"))
    watcher.began(b)
    # as it is being made: the record of the run that it begins from, up to there
    write(b, start(a, variant="cosine"), *steps(0, 40))
    watcher.look()
    write(b, start(a, variant="cosine"), *steps(0, 80), start(b, 80), *steps(80, 90))
    clock[0] += 40
    watcher.look()
    write(b, start(a, variant="cosine"), *steps(0, 80), start(b, 80), *steps(80, 100), ("eval", 99, {MAP: 0.6}))
    clock[0] += 10
    watcher.ended(b, done(b, "finished"))
    watcher.close()
    lines = out.getvalue().splitlines()
    assert lines[0] == "begins: cosine, seed 0, 100 steps"
    assert lines[2] == "finished: cosine, seed 0: mAP50-95 0.573, 1:40; 1 of 2 runs done"
    assert lines[3] == "begins: wsd, seed 0, 100 steps, the first 80 taken over"
    assert lines[4] == "83% of 120 steps; 1 of 2 runs done, 1 running; 30s left; now wsd seed 0 0%"
    assert lines[5] == "best mAP50-95 so far: cosine 0.573 (one seed); best run: cosine, seed 0: 0.573"
    assert lines[6] == "91% of 120 steps; 1 of 2 runs done, 1 running; 10s left; now wsd seed 0 90%"
    assert lines[8] == "finished: wsd, seed 0: mAP50-95 0.600, 50s; 2 of 2 runs done"
    assert len(lines) == 9


def test_a_resumed_ablation_counts_its_own_speed(tmp_path, clock):
    plan, out = planned(tmp_path, ["a", "b", "c"]), io.StringIO()
    a, b, _ = plan.runs
    write(b, start(b), *steps(0, 60))
    watcher = Overview(plan, MAP, 1, {a.key: 0.5}, out)
    assert watcher._shown[0].done == 160 and watcher._shown[0].steps == 300
    assert math.isnan(watcher._shown[0].left)
    watcher.began(b)
    assert out.getvalue() == "begins: b, seed 0, goes on at step 60 of 100\n"
    clock[0] += 10
    watcher.look()  # nothing new yet
    write(b, start(b), *steps(0, 50), start(b, 50), *steps(50, 52))  # from its last checkpoint
    clock[0] += 1
    watcher.look()
    write(b, start(b), *steps(0, 50), start(b, 50), *steps(50, 62))
    clock[0] += 20
    watcher.look()
    # 2 s a step: 38 steps, then 11 s until the first of the other run and 100 steps
    assert watcher._shown[0].left == pytest.approx(76 + 11 + 200)
    assert watcher._shown[0].done == 162


def test_each_variant_has_its_own_speed(tmp_path, clock):
    plan = planned(tmp_path, ["small", "large"], seeds=(0, 1))
    runs = {run.key: run for run in plan.runs}
    watcher = Overview(plan, MAP, 2, {}, io.StringIO())
    for name in ("small", "large"):
        watcher.began(runs[name, 0])
        write(runs[name, 0], start(runs[name, 0]), *steps(0, 1))
    watcher.look()
    clock[0] += 10
    for name, n in (("small", 11), ("large", 3)):
        write(runs[name, 0], start(runs[name, 0]), *steps(0, n))
    watcher.look()
    # small: 1 s a step, large: 5 s. The large one first, where small ends at 89 s: 89 + 500 against 485 + 100
    assert watcher._shown[0].left == pytest.approx(589)


def test_runs_that_are_over_at_once_are_measured(tmp_path, clock):
    plan = planned(tmp_path, ["a", "b"])
    a, _ = plan.runs
    watcher = Overview(plan, MAP, 1, {}, io.StringIO())
    watcher.began(a)
    write(a, start(a), *steps(0, 100), ("eval", 99, {MAP: 0.5}))
    clock[0] += 50
    watcher.ended(a, done(a, "finished"))
    assert watcher._shown[0].left == pytest.approx(50)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_failed_run_is_named_with_its_log_the_moment_it_fails(tmp_path, clock, monkeypatch, terminal):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm-256color")
    plan, out = planned(tmp_path, ["a", "b"]), Terminal() if terminal else io.StringIO()
    a, _ = plan.runs
    watcher = Overview(plan, MAP, 1, {}, out)
    watcher.began(a)
    watcher.ended(a, done(a, "failed", "the loss is no number\nat step 3\x1b[2J"))
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert f"failed: a, seed 0, after 0s: the loss is no number\nat step 3?[2J; its log: {a.folder}.log" in text
    watcher.began(a)  # tried once more
    watcher.ended(a, done(a, "died", "its process is gone: killed by SIGKILL"))
    assert "died: a, seed 0, after 0s: its process is gone: killed by SIGKILL" in out.getvalue()
    assert watcher._shown[0].steps == 100  # what it would have trained does not count any more
    watcher.close()


def test_a_run_that_is_stopped(tmp_path, clock):
    plan, out = planned(tmp_path, ["a", "b"]), io.StringIO()
    a, _ = plan.runs
    watcher = Overview(plan, MAP, 1, {}, out)
    watcher.began(a)
    write(a, start(a), *steps(0, 10))
    watcher.ended(a, done(a, "interrupted", "SIGTERM"))
    assert out.getvalue().splitlines()[-1] == "interrupted: a, seed 0, 0s; 0 of 2 runs done"
    assert watcher._shown[0].cells["a"][0].text == "stopped"


def test_what_a_run_began_from_is_not_there(tmp_path, clock):
    plan = planned(tmp_path, ["a", "b"], shared=80)
    _, b = plan.runs
    watcher = Overview(plan, MAP, 1, {}, io.StringIO())
    assert watcher._shown[0].steps == 120
    watcher.began(b)
    write(b, start(b), *steps(0, 90))
    watcher.look()
    assert (watcher._shown[0].done, watcher._shown[0].steps) == (90, 200)


# --- the live overview --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_terminal_gets_a_live_overview_that_fits(tmp_path, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "xterm-256color")
    names = [f"lr0=0.0{k} warmup_epochs=3 curve=one-minus-sqrt\x1b]0;x\x07" for k in range(12)]
    plan, out = planned(tmp_path, names, seeds=tuple(range(10))), Terminal()
    finished = {run.key: 0.5 + 0.01 * run.seed for run in plan.runs[:30]}
    watcher = Overview(plan, MAP, 2, finished, out)
    watcher.began(plan.runs[30])
    write(plan.runs[30], start(plan.runs[30]), *steps(0, 43))
    watcher.look()
    watcher.close()
    raw = out.getvalue()
    assert "\x07" not in raw and "\x1b]" not in raw
    assert "\x1b[?25h" in raw  # the cursor is shown again at the end
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw)
    assert "43%" in plain and "30 of 120 runs done, 1 running, 89 waiting" in " ".join(plain.split())
    assert max(map(len, re.split(r"[\r\n]+", plain))) < width


def test_no_live_overview_where_there_is_no_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    plan, out = planned(tmp_path, ["a", "b"]), io.StringIO()
    Overview(plan, MAP, 1, {}, out).began(plan.runs[0])
    assert out.getvalue() == "begins: a, seed 0, 100 steps\n"
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    Overview(plan, MAP, 1, {}, out).began(plan.runs[0])
    assert out.getvalue() == "begins: a, seed 0, 100 steps\n"


def test_no_utf8(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    raw = io.BytesIO()

    class Ascii(io.TextIOWrapper):
        def isatty(self):
            return True

    plan = planned(tmp_path, ["Käfer", "Kéfer", "b"])
    stream = Ascii(raw, encoding="ascii")
    watcher = Overview(plan, MAP, 1, {}, stream)
    watcher.began(plan.runs[1])
    watcher.close()
    text = raw.getvalue().decode("ascii")
    assert "K?fer" in text and "K?fer (2)" in text and "---" in text


def snapshot(variants=3, seeds=3, name="variant {}", left=3723.0):
    states = ["finished", "running", "failed", "interrupted", "waiting"]
    cells = {
        name.format(k): {
            s: Cell(states[(k + s) % 5], 0.43, 0.5 + k / 100 if (k + s) % 5 == 0 else math.nan) for s in range(seeds)
        }
        for k in range(variants)
    }
    return Snapshot("mAP50-95", tuple(range(seeds)), cells, 1850, 4500, 2, left)


def text_of(lines):
    return ["".join(piece for piece, _ in line) for line in lines]


def test_the_screen():
    lines = text_of(overview_text.screen(snapshot(), 79, 24))
    assert lines == [
        "           seed 0  seed 1  seed 2    mean",
        "variant 0   0.500     43%  failed   0.500",
        "variant 1     43%  failed stopped       -",
        "variant 2  failed stopped   (43%)       -",
        "━━━━━━━━━━━━━━━━────────────────────────  41% of 4,500 steps  1:02:03 left",
        "1 of 9 runs done, 2 running, 3 failed, 2 stopped, 1 waiting; 2 at a time",
        "best mAP50-95 so far: variant 0 0.500 (one seed); best run: variant 0, seed 0:",
        "0.500",
    ]


@pytest.mark.parametrize(
    "name",
    ["v{}", "a rather long name of a variant that is number {}", "変種の名前はとても長いです {}", "{}" + "x" * 300],
)
@pytest.mark.parametrize("width", [20, 40, 59, 79, 199])
@pytest.mark.parametrize("height", [5, 24])
@pytest.mark.parametrize(("variants", "seeds"), [(2, 1), (3, 3), (12, 10), (40, 3), (2, 200)])
def test_every_screen_fits(name, width, height, variants, seeds):
    s = snapshot(variants, seeds, name)
    lines = overview_text.screen(s, width, height)
    if width >= 59:
        assert max(overview_text.cell_len(line) for line in text_of(lines)) <= width
    assert len(lines) <= max(height, 5)
    if variants == 12 and height == 24:
        assert len(lines) >= 12


def test_names_that_differ_at_their_ends_stay_different():
    names = [f"lr0=0.01 momentum=0.937 weight_decay=0.0005 warmup_epochs={k}" for k in (3, 5)]
    short = [overview_text.shortened(name, 20) for name in names]
    assert short[0] != short[1] and all(len(name) == 20 for name in short)


def test_of_many_variants_those_where_something_happens_are_shown():
    cells = {f"v{k}": {0: Cell("running" if k == 30 else "waiting")} for k in range(40)}
    s = Snapshot("mAP50-95", (0,), cells, 0, 100, 1, math.nan)
    lines = text_of(overview_text.screen(s, 79, 12))
    assert any("v30" in line for line in lines) and len(lines) <= 12
    assert any("and 32 more variants: runs 32 waiting" in line for line in lines)
    assert any("? left" in line for line in lines)


def test_the_best_is_that_of_the_means():
    cells = {
        "a": {0: Cell("finished", 1, 0.6), 1: Cell("finished", 1, 0.4)},
        "b": {0: Cell("finished", 1, 0.55), 1: Cell("running", 0.5)},
        "c": {0: Cell("finished", 1, math.nan), 1: Cell("failed")},
    }
    s = Snapshot("mAP50", (0, 1), cells, 0, 100, 1, 0.0)
    assert overview_text.best_words(s) == "best mAP50 so far: b 0.550 (one seed); best run: a, seed 0: 0.600"
    assert cells["c"][0].text == "done"


@pytest.mark.parametrize(("share", "text"), [(0, "0%"), (0.43, "43%"), (0.29, "29%"), (0.999, "99%"), (1, "100%")])
def test_percent(share, text):
    assert overview_text.percent(share) == text
