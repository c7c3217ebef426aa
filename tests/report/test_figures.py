from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from yolo_cosine import events
from yolo_cosine.errors import UserError
from yolo_cosine.report.figures import losses_figure, lr_figure, map_figure, write_figures

SPE = 20  # steps in an epoch
START = {
    "event": "start", "step": 0, "epoch": 0, "time": 0.0, "groups": ["weight", "norm", "bias"],
    "losses": ["box_loss", "cls_loss"], "steps_per_epoch": SPE,
}  # fmt: skip


def line(kind, step, **scalars):
    return {"event": kind, "step": step, "epoch": step // SPE, "time": float(step), **scalars}


def step_line(step, warmup=30, total=200, bias=0.1):
    rise = min(step / warmup, 1) if warmup else 1
    lr = 0.01 * rise * (1 - 0.9 * max(step - warmup, 0) / total)
    rates = {"lr/weight": lr, "lr/norm": lr, "lr/bias": lr if rise == 1 else bias + (0.01 - bias) * rise}
    losses = {"train/box_loss": 2 - step / total, "train/cls_loss": None} if step % 10 == 9 else {}
    return line("step", step, **rates, momentum=0.8 + 0.137 * rise, **losses)


def eval_line(step, level, classes=3):
    per_class = {f"{events.CLASS_AP}${k}_class": level * k / classes for k in range(classes)}
    metrics = {events.MAP: level, events.MAP50: level * 1.4, events.PRECISION: None, events.RECALL: level * 1.1}
    return line("eval", step, **metrics, **per_class, **{events.CLASS_AP + "no boxes": None}, best=True)


def steps(**settings):
    return [step_line(k, **settings) for k in range(200)]


def record(epochs, classes, evaluate=True):
    lines = [START]
    for step in range(epochs * SPE):
        lines.append(step_line(step))
        if (step + 1) % SPE == 0:
            lines.append(line("epoch", step, **{"epoch/box_loss": 1.5, "epoch/cls_loss": 1.0}))
            lines += [eval_line(step, 0.3 + 0.01 * step, classes)] if evaluate else []
    return lines


@pytest.mark.parametrize("epochs, classes, evaluate", [(1, 3, True), (4, 1, True), (4, 80, True), (3, 3, False)])
def test_files(tmp_path, epochs, classes, evaluate):
    text = "".join(json.dumps(r) + "\n" for r in record(epochs, classes, evaluate))
    (tmp_path / "metrics.jsonl").write_text(text + '{"event": "st')
    written = write_figures(tmp_path)
    expected = ["lr.png", "losses.png", "map.png"] if evaluate else ["lr.png", "losses.png"]
    assert [path.name for path in written] == expected
    assert {path.name for path in (tmp_path / "plots").iterdir()} == set(expected)
    for path in written:
        image = Image.open(path)
        assert image.width == 1200 and len(np.unique(np.asarray(image.convert("L")))) > 20


@pytest.mark.parametrize("lines", [[], [START]])
def test_a_run_that_did_nothing_has_no_figures(tmp_path, lines):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    assert write_figures(tmp_path) == [] and not (tmp_path / "plots").exists()


def test_no_record(tmp_path):
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        write_figures(tmp_path)


def drawn(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_the_rates_that_are_drawn_are_those_of_the_record():
    figure = lr_figure(START, steps(), "run")
    stretched, whole, momentum, _ = figure.axes
    for axes in (stretched, whole):
        lines = drawn(axes)
        assert set(lines) == {"weight, norm", "bias"}  # equal lines are one
        assert lines["bias"][:, 1] == pytest.approx([r["lr/bias"] for r in steps()])
    assert drawn(momentum)["_child0"][:, 1] == pytest.approx([r["momentum"] for r in steps()])


def test_warmup_and_decay_can_both_be_read_where_the_bias_begins_high():
    stretched, whole, *_ = lr_figure(START, steps(), "run").axes
    assert stretched.get_yscale() == "log" and 30 < stretched.get_xlim()[1] < 45
    assert whole.get_yscale() == "linear" and whole.get_ylim()[1] == pytest.approx(0.0108)
    assert any("bias, up to 0.1" in text.get_text() for text in whole.texts)


@pytest.mark.parametrize(
    "settings, panels, scale",
    [
        ({"warmup": 0}, 2, "linear"),  # nothing to stretch
        ({"bias": 0.01}, 4, "linear"),  # a bias that begins like the rest dwarfs nothing
        ({"warmup": 150}, 2, "log"),  # a warmup that long needs no stretching
    ],
)
def test_other_warmups(settings, panels, scale):
    figure = lr_figure(START, steps(**settings), "run")
    assert len(figure.axes) == panels and figure.axes[0].get_yscale() == scale


def test_the_line_has_a_gap_where_steps_were_skipped():
    lines = drawn(lr_figure(START, [r for r in steps() if not 100 <= r["step"] < 150], "run").axes[1])
    xy = lines["weight, norm"]
    gap = int(np.flatnonzero(np.isnan(xy).any(1))[0])
    assert xy[gap - 1, 0] == 99 and xy[gap + 1, 0] == 150


def test_losses():
    lines = record(4, 3)
    done = [r for r in lines if r["event"] == "epoch"]
    figure = losses_figure(START, [r for r in lines if r["event"] == "step"], done, "run")
    box, cls = figure.axes
    assert drawn(box)["mean over the logging interval"][0] == pytest.approx([9, 2 - 9 / 200])
    assert drawn(box)["mean over the epoch"][:, 0].tolist() == [19, 39, 59, 79]
    assert np.isnan(drawn(cls)["mean over the logging interval"][:, 1]).all()  # null in the record
    assert losses_figure(START, [line("step", 0, momentum=0.9)], [], "run") is None


def test_the_best_evaluation_is_marked_and_its_classes_are_shown():
    evaluations = [eval_line(19, 0.2), eval_line(39, 0.5), eval_line(59, 0.4)]
    metrics, bars = map_figure(START, evaluations, "run").axes
    assert drawn(metrics)["mAP50-95"].tolist() == [[1, 0.2], [2, 0.5], [3, 0.4]]
    assert "0.500 at epoch 2" in metrics.get_title()
    assert [patch.get_width() for patch in bars.patches] == pytest.approx([0, 0.5 / 3, 1 / 3])
    assert [label.get_text() for label in bars.get_yticklabels()] == [r"\$0_class", r"\$1_class", r"\$2_class"]


@pytest.mark.parametrize("classes, bars", [(1, 0), (20, 20), (21, 20), (80, 20)])
def test_classes_that_are_shown(classes, bars):
    axes = map_figure(START, [eval_line(19, 0.5, classes)], "run").axes
    widths = [patch.get_width() for patch in axes[1].patches] if len(axes) > 1 else []
    assert len(widths) == bars and widths == sorted(widths)
    if bars:
        assert widths[0] == 0 and math.isclose(widths[-1], 0.5 * (classes - 1) / classes)


def test_evaluations_without_a_number():
    lines = [{**eval_line(19, 0.5), events.MAP: None}]
    assert "best" not in map_figure(START, lines, "run").axes[0].get_title()


def test_lines_that_are_not_drawn_change_nothing(tmp_path):
    lines = record(4, 3)
    for name in ("plain", "more"):
        (tmp_path / name / "run").mkdir(parents=True)
        text = "".join(json.dumps(r) + "\n" for r in lines)
        (tmp_path / name / "run/metrics.jsonl").write_text(text)
        write_figures(tmp_path / name / "run")
        told = {
            5: line("incident", 5, text="a worker was begun anew"),
            31: line("rewind", 20, from_step=25, to_step=20, text="a loss was no number"),
            50: line("replan", 40, epochs=5, text="there is time for one more"),
            60: {**line("notice", 30, text="before the start", warning=True), "step": None, "epoch": None},
        }
        lines = [other for k, r in enumerate(lines) for other in ([told[k], r] if k in told else [r])]
    for figure in ("lr.png", "losses.png", "map.png"):
        plain, more = ((tmp_path / name / "run/plots" / figure).read_bytes() for name in ("plain", "more"))
        assert plain == more
