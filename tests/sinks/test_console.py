from __future__ import annotations

import io
import math
import os
import re
from dataclasses import replace

import pytest

from yolo_cosine import events
from yolo_cosine.sinks import console, console_text
from yolo_cosine.sinks.console import ConsoleSink


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def columns(monkeypatch):
    def use(width):
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setenv("TERM", "xterm-256color")

    use(80)
    return use


def said(stream, sink_stream=None):
    out = sink_stream or io.StringIO()
    sink = ConsoleSink(out)
    for event in stream:
        sink.handle(event)
    sink.close()
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("classes", [1, 3, 20, 21, 80])
@pytest.mark.parametrize("eval_every", [0, 5, 7])
def test_plain_output_is_lines_that_fit(fake_run, columns, width, classes, eval_every):
    columns(width)
    run = fake_run(names=tuple(f"class number {k}" for k in range(classes)), eval_every=eval_every)
    text = said(run.events())
    assert not re.search(r"[^\n\x20-\x7e]", text)
    paths = [line for line in text.splitlines() if str(run.run_dir) in line]  # are never broken
    assert len(paths) == (4 if eval_every else 3)
    assert max(len(line) for line in text.splitlines() if line not in paths) < width


def test_what_is_said(fake_run, columns):
    text = said(fake_run().events())
    for part in (
        "yolo11n.yaml, 2,590,035 parameters, from scratch",
        "1,000 training and 200 validation images, 3 classes (circle, square, traffic light)",
        "4 epochs of 5 steps, batch 16, SGD",
        "cpu, bf16",
        "--host localhost",
        "finished after epoch 4 in 1:02:03",
    ):
        assert part in " ".join(text.split())
    assert text.count("mAP50-95 mAP50") == 1  # the heading, once
    lines = [line for line in text.splitlines() if re.match(r" +\d/4 ", line)]
    assert [line.split()[0] for line in lines] == ["1/4", "2/4", "3/4", "4/4"]
    first = fake_run().evaluated(4)
    assert f"{first.scalars[events.MAP]:.3f}" in lines[0] and "16s" in lines[0] and "312" in lines[0]
    assert [line.endswith("*") for line in lines] == [
        e.best for e in fake_run().events() if isinstance(e, events.Evaluated)
    ]
    assert re.search(r"traffic light +-", text) and re.search(r"circle +0\.\d{3}", text)
    assert text.index("best weights") < text.index("last weights")


def test_an_evaluation_inside_an_epoch_has_a_line_of_its_own(fake_run, columns):
    lines = said(fake_run(eval_every=8).events()).splitlines()
    assert [line.split()[0] for line in lines if re.match(r" +\d(/4|\.\d) ", line)] == [
        "1/4", "1.6", "2/4", "3/4", "3.2", "4/4",
    ]  # fmt: skip


def test_numbers_that_are_none_and_facts_that_are_missing(fake_run, columns):
    run = fake_run(facts=False)
    stream = []
    for event in run.events():
        if isinstance(event, events.EpochDone) and event.epoch == 0:
            event = replace(event, scalars={"epoch/box_loss": math.nan, "epoch/cls_loss": math.inf})
        if isinstance(event, events.Evaluated):
            event = replace(event, scalars={events.MAP: math.nan, events.RECALL: -1.0})
        if isinstance(event, events.StepDone):
            event = replace(event, scalars={})
        if isinstance(event, events.RunEnded):
            event = replace(event, best={events.MAP: math.nan}, best_epoch=None, best_per_class={"a": math.nan})
        stream.append(event)
    text = said(stream)
    line = next(line for line in text.splitlines() if line.startswith("    1/4"))
    assert line.split()[1:] == ["nan", "inf", "nan", "-", "-", "-", "-", "-", "13s", "-", "*"]


@pytest.mark.parametrize("reason", ["interrupted", "failed"])
def test_a_run_that_broke_off_says_where(fake_run, columns, reason):
    end = events.RunEnded(7, 1, reason, 12.0, {}, None)
    assert f"{reason} in epoch 2, after step 7, in 12s" in said([fake_run().started(), end])


def test_notices(columns):
    stream = [events.Notice("two boxes were clipped", warning=True), events.Notice("starting\x1b[2J")]
    assert said(stream) == "warning: two boxes were clipped\nstarting?[2J\n"


def test_a_stream_that_cannot_write_every_letter(columns):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    sink = ConsoleSink(stream)
    sink.handle(events.Notice("Käfer"))
    sink.close()
    assert raw.getvalue().decode() == f"K?fer{os.linesep}"


def test_long_epochs_have_a_line_every_thirty_seconds(fake_run, columns, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    run, out = fake_run(epochs=1, steps_per_epoch=100, eval_every=0), io.StringIO()
    sink = ConsoleSink(out)
    for event in run.events():
        now[0] += 1.0 if isinstance(event, events.StepDone) else 0.0
        sink.handle(event)
    lines = [line for line in out.getvalue().splitlines() if line.startswith("epoch 1/1, step")]
    assert [line.split(", ")[1] for line in lines] == ["step 30 of 100", "step 60 of 100", "step 90 of 100"]
    assert "16 img/s" in lines[0] and lines[0].endswith("1:10 left") and "box " in lines[0]


def test_short_epochs_have_none(fake_run, columns):
    assert ", step" not in said(fake_run().events())


@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_gets_a_live_line_that_fits(fake_run, columns, width):
    columns(width)
    raw = said(fake_run().events(), Terminal())
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw)
    assert "━" in plain or "─" in plain
    assert "\x1b[?25h" in raw  # the cursor is shown again at the end
    assert max(len(line) for line in re.split(r"[\r\n]+", plain) if "run" not in line) < width


def reading(*done, total=900):
    return [events.Reading("train.json", k, total, "memory") for k in done]


def test_a_terminal_sees_how_far_the_reading_of_images_is(fake_run, columns, monkeypatch):
    columns(70)
    asked = []
    monkeypatch.setattr(ConsoleSink, "_start_live", lambda sink: asked.append("start"))
    monkeypatch.setattr(ConsoleSink, "_stop_live", lambda sink: asked.append("stop"))
    sink = ConsoleSink(Terminal())
    assert str(sink._status()) == ""
    for event in reading(1, 300):
        sink.handle(event)
    line = str(sink._status())
    assert re.fullmatch(r"reading images ━+─+  33%  300 of 900 images", line) and len(line) < 70
    sink.handle(*reading(900))
    assert asked == ["start", "stop"] and str(sink._status()) == ""
    monkeypatch.undo()
    columns(70)
    raw = said([*reading(1, 500, 900), *reading(2, 7, total=7), *fake_run().events()], Terminal())
    assert "reading images" in raw and raw.count("\x1b[?25l") == raw.count("\x1b[?25h") == 3


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
@pytest.mark.parametrize(
    ("done", "seconds", "left"), [(0, 9, ""), (450, 0.5, ""), (300, 60, "2:00 left"), (900, 60, "0s left")]
)
def test_reading_bar(width, done, seconds, left):
    (at,) = reading(done)
    bar = console_text.reading_bar(at, seconds, width)
    assert len(bar) <= width and bar.startswith("reading images ")
    if width >= 60:
        assert bar.endswith(f"{done:,} of 900 images{'  ' + left if left else ''}")


def test_elsewhere_it_is_a_line_every_ten_seconds(columns, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    sink = ConsoleSink(out)
    for event in reading(*range(1, 26), 900, *range(1, 6)):
        sink.handle(event)
        now[0] += 1.0
    assert out.getvalue().splitlines() == [f"train.json: {k} of 900 images read into memory" for k in (11, 21)]


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
@pytest.mark.parametrize("done", [0, 37, 100])
def test_progress_bar(width, done):
    losses = {"train/box_loss": 1.2345, "train/cls_loss": math.nan, "train/dfl_loss": 123.4}
    at = console_text.Progress("3/40", done, 100, losses, 0.00931, 312.4, 3723.0)
    bar = console_text.progress_bar(at, width)
    assert len(bar) <= width and bar.startswith("3/40 ") and f"{done}%" in bar
    if width >= 80:
        assert "box 1.234 cls nan dfl 123.4" in bar and "1:02:03 left" in bar
    if width >= 120:
        assert "lr 0.00931" in bar and "312 img/s" in bar
    if width >= 80:
        assert ("━" in bar, "─" in bar) == (done > 0, done < 100)


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0s"), (59.4, "59s"), (59.6, "1:00"), (187, "3:07"), (3723, "1:02:03"), (90000, "25:00:00"), (math.nan, "?")],
)
def test_clock(seconds, text):
    assert console_text.clock(seconds) == text


@pytest.mark.parametrize(
    "value, text",
    [(0.0, "0.000"), (1.2345, "1.234"), (9.9996, "10.00"), (12.345, "12.35"), (99.996, "100.0"), (1234.5, "1234"),
     (1e7, "1e+07"), (math.inf, "inf"), (math.nan, "-"), (None, "-")],
)  # fmt: skip
def test_number_has_at_most_five_characters(value, text):
    assert console_text.number(value) == text and len(text) <= 5


def test_speed_and_time_do_not_count_evaluations_and_skipped_epochs(fake_run, columns, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    run = fake_run(epochs=10, steps_per_epoch=10)
    out = io.StringIO()
    sink = ConsoleSink(out)
    sink.handle(run.started())
    for step in (0, 1, 2, 90, 91):  # early stopping has led over to the last epoch
        now[0] += 10.0
        sink.handle(events.StepDone(step, step // 10, {}, 16, True))
    sink.handle(events.EvaluationStarted(91, 9, 100))
    now[0] += 60.0
    sink.handle(run.evaluated(91))
    now[0] += 10.0
    sink.handle(events.StepDone(92, 9, {}, 16, True))
    # 6 steps in 60 seconds of training; at the run's own pace, evaluations included, 7 more take 140
    assert out.getvalue().splitlines()[-1] == "epoch 10/10, step 3 of 10, lr -, 1.6 img/s, 2:20 left"


def test_incidents_are_warnings_and_are_said_once(columns):
    stream = [
        events.Notice("the disk is full", warning=True, step=3),
        events.Incident("disk", "the disk is full", 3),
        events.Incident("worker", "a worker was begun anew", 4),
        events.Incident("worker", "a worker was begun anew", 4),
        events.Notice("the disk is full", warning=True, step=5),
    ]
    expected = ["the disk is full", "a worker was begun anew", "the disk is full"]
    assert said(stream).splitlines() == [f"warning: {text}" for text in expected]


def test_a_checkpoint_before_an_evaluation_does_not_part_it_from_its_epoch(fake_run, columns):
    run, stream = fake_run(), []
    for event in run.events():
        stream.append(event)
        if isinstance(event, events.EpochDone):
            stream += [events.Saving(event.step), events.Saved(event.step, run.run_dir / "weights/last.pt", False)]
    table = [line for line in said(stream).splitlines() if re.match(r" +\d/4 ", line)]
    assert table == [line for line in said(run.events()).splitlines() if re.match(r" +\d/4 ", line)]


def test_a_run_that_goes_back_and_gets_another_length(fake_run, columns, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    run, out = fake_run(epochs=2, steps_per_epoch=20), io.StringIO()
    sink = ConsoleSink(out)

    def take(*steps):
        for step in steps:
            now[0] += 10.0
            sink.handle(events.StepDone(step, step // 20, {}, 16, True))
        return out.getvalue().splitlines()[-1]

    sink.handle(run.started())
    # 3 of 40 steps in 30 seconds, and 37 more
    assert take(0, 1, 2).endswith("step 3 of 20, lr -, 1.6 img/s, 6:10 left")
    take(3, 4)
    sink.handle(events.Rewound(4, 2, "a loss was no number"))
    assert out.getvalue().splitlines()[-1] == "back to step 2: a loss was no number"
    # what was taken twice took its time: 8 steps in 80 seconds, and 35 more
    assert take(2, 3, 4).endswith("step 5 of 20, lr -, 1.6 img/s, 5:50 left")
    sink.handle(events.Replanned(4, 0, 1, "one epoch is what the time allows"))
    assert out.getvalue().splitlines()[-1] == "one epoch is what the time allows"
    assert take(5, 6, 7) == "epoch 1/1, step 8 of 20, lr -, 1.6 img/s, 2:00 left"
    sink.handle(events.EpochDone(19, 0, {}, 60.0))
    sink.handle(events.RunEnded(19, 0, "finished", 60.0, {}, None))
    assert re.search(r"\n +1/1 ", out.getvalue())
