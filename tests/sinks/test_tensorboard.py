from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import cv2
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.pr_curve.pr_curves_plugin import PrCurvesPlugin
from tensorboard.util import tensor_util

from yolo_cosine import events
from yolo_cosine.sinks.drawing import draw_pr_curves, draw_sample
from yolo_cosine.sinks.jsonl import JsonlSink, read_records
from yolo_cosine.sinks.tensorboard import TensorBoardSink


def write(run, stream=None):
    sinks = TensorBoardSink(run.run_dir), JsonlSink(run.run_dir / "metrics.jsonl")
    for event in stream if stream is not None else run.events():
        for sink in sinks:
            sink.handle(event)
    for sink in sinks:
        sink.close()
    return load(run)


def load(run):
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    accumulator = EventAccumulator(str(run.run_dir / "tensorboard"), size_guidance=everything)
    accumulator.Reload()
    return accumulator


def same(shown, recorded):
    return math.isnan(shown) if recorded is None else shown == np.float32(recorded)


def with_nan_loss(stream):
    for event in stream:
        if isinstance(event, events.StepDone) and event.step == 3:
            event = replace(event, scalars={**event.scalars, "train/box_loss": math.nan})
        yield event


def test_scalars_are_those_of_the_record_step_by_step(fake_run):
    run = fake_run()
    logs = write(run, with_nan_loss(run.events()))
    recorded = defaultdict(dict)
    for line in read_records(run.run_dir / "metrics.jsonl"):
        if line["event"] in {"step", "epoch", "eval"}:
            for name, value in line.items():
                if name not in {"event", "step", "epoch", "time", "best", "seconds"}:
                    recorded[name][line["step"]] = value
    del recorded["AP50-95/traffic light"]  # there is no such thing in the data: no chart
    tags = {tag for tag in logs.Tags()["scalars"] if not tag.startswith("best/")}
    assert tags == set(recorded)
    for tag, expected in recorded.items():
        shown = {e.step: e.value for e in logs.Scalars(tag)}
        assert shown.keys() == expected.keys(), tag
        assert all(same(shown[step], expected[step]) for step in shown), tag


def test_scalars_can_be_seen_when_an_epoch_is_over(fake_run):
    run = fake_run()
    sink = TensorBoardSink(run.run_dir)
    for event in run.events():
        sink.handle(event)
        if isinstance(event, events.EpochDone):
            break
    assert [e.step for e in load(run).Scalars("lr/weight")] == [0, 1, 2, 3, 4]
    sink.close()


def test_a_resumed_run_has_every_step_once(fake_run):
    run = fake_run()
    write(run, [e for e in run.events() if getattr(e, "step", 0) < 8])
    logs = write(run, run.events(start_step=5))
    assert [e.step for e in logs.Scalars("lr/weight")] == list(range(20))


def test_pictures_are_drawn_at_the_best_evaluations_and_the_last_and_not_too_often(fake_run):
    run = fake_run(epochs=60, steps_per_epoch=2, eval_every=2, samples=2)
    best = [e.step for e in run.events() if isinstance(e, events.Evaluated) and e.best]
    logs = write(run)
    drawn = [e.step for e in logs.Images("val/image0")]
    assert drawn[0] == best[0] and best[-1] in drawn and drawn[-1] == 119
    assert set(drawn) <= {*best, 119} and 10 <= len(drawn) <= 22
    assert drawn == [e.step for e in logs.Images("val/pr_curves")] == [e.step for e in logs.Tensors("pr_curve/circle")]
    assert set(logs.Tags()["images"]) == {"val/image0", "val/image1", "val/pr_curves"}


def test_images_of_one_name_in_two_folders_are_both_there(fake_run):
    run = fake_run()
    event = replace(run.evaluated(4), samples=(run.sample(0), replace(run.sample(1), name="image0")))
    logs = write(run, [run.started(), event])
    assert set(logs.Tags()["images"]) == {"val/image0", "val/image0-2", "val/pr_curves"}


def test_the_plugin_shows_the_precision_over_recall(fake_run):
    run = fake_run(epochs=1)
    logs = write(run)
    event = run.evaluated(4)
    data = tensor_util.make_ndarray(logs.Tensors("pr_curve/square")[0].tensor_proto)
    shown = PrCurvesPlugin._make_pr_entry(None, 4, 0.0, data)  # what the plugin sends to the browser
    points = dict(zip(shown["recall"], shown["precision"], strict=True))
    reached = event.precision[:, 1] > 0
    assert sorted(points) == pytest.approx(event.recall[reached], abs=1e-6)
    assert [points[r] for r in sorted(points)] == pytest.approx(event.precision[reached, 1], abs=1e-6)
    # the counts agree with the curve
    counts = [np.array(shown[k]) for k in ("true_positives", "false_positives", "false_negatives")]
    middle = slice(30, 90)
    assert (counts[0] / (counts[0] + counts[1]))[middle] == pytest.approx(shown["precision"][middle], abs=0.01)
    assert (counts[0] / (counts[0] + counts[2]))[middle] == pytest.approx(shown["recall"][middle], abs=0.01)
    assert "pr_curve/traffic light" not in logs.Tags()["tensors"]


def test_hyperparameters_are_in_the_same_run_with_the_best_metrics(fake_run):
    run = fake_run()
    logs = write(run)
    assert [p.name for p in (run.run_dir / "tensorboard").iterdir() if p.is_dir()] == []

    def plugin(tag):
        content = logs.SummaryMetadata(f"_hparams_/{tag}").plugin_data.content
        return plugin_data_pb2.HParamsPluginData.FromString(content)

    values = plugin("session_start_info").session_start_info.hparams
    assert values["lr0"].number_value == 0.01 and values["optimizer"].string_value == "SGD"
    assert values["deterministic"].string_value == "true" and "weights" not in values
    metrics = {m.name.tag for m in plugin("experiment").experiment.metric_infos}
    best = max(e.scalars[events.MAP] for e in run.events() if isinstance(e, events.Evaluated))
    assert {"best/mAP50-95", "best/mAP50", "best/precision", "best/recall"} <= metrics <= set(logs.Tags()["scalars"])
    assert logs.Scalars("best/mAP50-95")[-1].value == np.float32(best)
    assert plugin("session_end_info").session_end_info.status == 1  # success


def test_configuration_facts_and_layout(fake_run):
    logs = write(fake_run())

    def text(tag):
        return tensor_util.make_ndarray(logs.Tensors(tag)[0].tensor_proto).item().decode()

    assert text("config/text_summary").startswith("```yaml\n") and "\nlr0: 0.01\n" in text("config/text_summary")
    assert "| parameters | 2,590,035 |" in text("facts/text_summary")
    assert "custom_scalars__config__" in logs.Tags()["tensors"]


def test_a_drawn_sample_shows_truth_and_detections(fake_run):
    run = fake_run()
    sample = run.sample(0)
    shown = draw_sample(sample, run.names)
    assert shown.dtype == np.uint8 and shown.shape == (360 + 26, 480, 3)  # 128x96 grown to 480, and the caption
    scale = 480 / 128

    def at(x, y):  # pixels of the sample; slices pick an edge
        grown = (
            slice(round(v.start * scale), round(v.stop * scale)) if isinstance(v, slice) else round(v * scale)
            for v in (y, x)
        )
        return shown[tuple(grown)]

    assert (at(120, slice(32, 78)) == 255).all()  # truth: solid white
    dashes = (at(slice(4, 58), 70) == 255).all(1)
    assert 0.2 < dashes.mean() < 0.8  # a crowd
    assert (at(slice(14, 48), 58) == (86, 180, 233)).all()  # a detection in the colour of its class
    assert not (at(slice(60, 127), 0.5) == (230, 159, 0)).all(1).any()  # with a score of 0.1 it is not drawn


@pytest.mark.parametrize("shape", [(1, 1), (7, 900), (3000, 40), (2000, 2000)])
def test_a_sample_of_any_size_can_be_drawn(fake_run, shape):
    boxes = np.array([[-50, -50, 1e6, 1e6], [np.nan, 0, 1, 1]], np.float32)
    sample = events.Sample(
        "odd", np.zeros((*shape, 3), np.uint8), boxes, np.array([0, 1]), np.array([True, False]), boxes,
        np.array([1, 0]), np.array([0.9, 0.8], np.float32),
    )  # fmt: skip
    shown = draw_sample(sample, ("a" * 80, "ü"))
    assert 480 <= max(shown.shape[0] - 26, shown.shape[1]) <= 1280


def test_a_sample_without_boxes_can_be_drawn(fake_run):
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    sample = events.Sample(
        "empty", np.zeros((64, 64, 3), np.uint8), *nothing, np.zeros(0, bool), *nothing, np.zeros(0, np.float32)
    )
    assert draw_sample(sample, ()).shape == (480 + 26, 480, 3)


@pytest.mark.parametrize("classes", [0, 1, 3, 80])
def test_pr_figure(classes):
    recall = np.linspace(0, 1, 101)
    precision = np.repeat(1 - recall[:, None] ** 2, classes, 1)
    image = draw_pr_curves(recall, precision, [f"$_{k}" for k in range(classes)])
    assert image.shape == (550, 800, 3)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    assert ((grey[60:480, 100:400] < 200).sum() > 300) == (classes > 0)  # a line, or an empty chart
