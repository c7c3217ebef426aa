"""The overview as TensorBoard's own readers and plugins see it."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.custom_scalar.custom_scalars_plugin import CustomScalarsPlugin
from tensorboard.plugins.hparams import api_pb2, backend_context, get_experiment, list_session_groups

from tests.ablation.fake_ablation import FakeRun, FakeSpec, write_ablation
from yolo_cosine import events
from yolo_cosine.ablation.collect import read_results
from yolo_cosine.ablation.places import run_folder
from yolo_cosine.ablation.tensorboard_overview import HIGHEST, LOWEST, write_overview
from yolo_cosine.sinks import appended, tensorboard

METRICS = ["mAP50-95", "mAP50", "mAP75", "precision", "recall"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(appended.os, "fsync", lambda file: None)
    monkeypatch.setattr(tensorboard, "draw_pr_curves", lambda *args: np.zeros((8, 8, 3), np.uint8))


class Board:
    """A TensorBoard that has the folder open."""

    def __init__(self, folder) -> None:
        self._folder = str(folder)
        self._multiplexer = EventMultiplexer(tensor_size_guidance={"scalars": 1000})
        self._provider = MultiplexerDataProvider(self._multiplexer, self._folder)
        self._context = base_plugin.TBContext(
            logdir=self._folder, data_provider=self._provider, plugin_name_to_instance={}
        )
        self.reload()

    def reload(self) -> Board:
        self._multiplexer.AddRunsFromDirectory(self._folder)
        self._multiplexer.Reload()
        return self

    @property
    def runs(self):
        return set(self._multiplexer.Runs())

    def curve(self, run, tag):
        found = self._multiplexer.Tensors(run, tag)
        return {e.step: float(e.tensor_proto.float_val[0]) for e in found}

    def tags(self, run):
        return set(self._multiplexer.GetAccumulator(run).Tags()["tensors"])

    def columns(self):
        context = backend_context.Context(self._context)
        request = api_pb2.GetExperimentRequest()
        found = get_experiment.Handler(RequestContext(), context, "", request).run()
        return [h.name for h in found.hparam_infos], {
            m.display_name or m.name.tag: m.name.tag for m in found.metric_infos
        }

    def rows(self):
        context = backend_context.Context(self._context)
        statuses = [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS]
        request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=100, allowed_statuses=statuses)
        found = list_session_groups.Handler(RequestContext(), context, "", request).run()
        return {
            group.name: (
                {k: v.string_value or v.number_value for k, v in group.hparams.items()},
                {m.name.tag: m.value for m in group.metric_values},
            )
            for group in found.session_groups
        }

    def layout(self):
        found = json.loads(CustomScalarsPlugin(self._context).layout_impl(RequestContext(), ""))
        return {
            category["title"]: {chart["title"]: chart for chart in category["chart"]} for category in found["category"]
        }


def overview(folder, spec):
    results = read_results(folder, spec)
    write_overview(results)
    return results


def test_every_run_is_a_row_with_what_differs_and_its_metrics(tmp_path):
    spec = write_ablation(tmp_path, tensorboard=True)
    results = overview(tmp_path, spec)
    board = Board(tmp_path)
    hparams, metrics = board.columns()
    assert hparams == sorted(["variant", "seed", "curve", "lrf", "warmup_curve"])
    assert list(metrics) == METRICS
    rows = board.rows()
    assert set(rows) == {f"{v}/seed{s}/tensorboard" for v in spec.variants for s in spec.seeds}
    for run in results.runs:
        row, values = rows[f"{run.variant}/seed{run.seed}/tensorboard"]
        assert (row["variant"], row["seed"], row["ablation"]) == (run.variant, run.seed, "schedules")
        assert row["curve"] == spec.variants[run.variant]["curve"] and row["lr0"] == 0.01
        assert values[events.MAP] == pytest.approx(run.value(events.MAP), abs=1e-6) and len(values) == 5


def test_the_best_evaluation_counts_where_it_is_asked_for(tmp_path):
    spec = write_ablation(tmp_path, FakeSpec(select="best", seeds=(0,)), tensorboard=True)
    results = overview(tmp_path, spec)
    board = Board(tmp_path)
    assert board.columns()[1]["mAP50-95"] == "best/mAP50-95"
    _, values = board.rows()["wsd/seed0/tensorboard"]
    (run,) = results.of("wsd")
    assert values["best/mAP50-95"] == pytest.approx(run.value(events.MAP), abs=1e-6) and len(values) == 5


def test_the_metric_that_counts_has_a_column(tmp_path):
    spec = write_ablation(tmp_path, FakeSpec(metric="mAP-large", seeds=(0,)), tensorboard=True)
    overview(tmp_path, spec)
    board = Board(tmp_path)
    assert list(board.columns()[1]) == ["mAP-large", *METRICS]
    assert all("metrics/mAP-large" in values for _, values in board.rows().values())


def test_a_run_that_lies_elsewhere_or_did_without_tensorboard_is_a_row_too(tmp_path):
    spec = write_ablation(tmp_path / "a", FakeSpec(seeds=(0, 1)))
    results = overview(tmp_path / "a", spec)
    rows = Board(tmp_path / "a").rows()
    assert set(rows) == {f"tensorboard/runs/{v}/seed{s}" for v in spec.variants for s in spec.seeds}
    row, values = rows["tensorboard/runs/linear/seed1"]
    assert (row["variant"], row["seed"], row["lrf"]) == ("linear", 1, 0.1)
    assert values[events.MAP] == pytest.approx(results.of("linear")[1].value(events.MAP), abs=1e-6)
    write_overview(replace(results, folder=tmp_path / "b"))
    assert set(Board(tmp_path / "b").rows()) == set(rows)
    # and once it tells of itself, it is not there twice
    shutil.rmtree(tmp_path / "a/linear/seed1")
    FakeRun(tmp_path / "a/linear/seed1", "linear", 1, changes=spec.variants["linear"]).write(tensorboard=True)
    overview(tmp_path / "a", spec)
    rows = set(Board(tmp_path / "a").rows())
    assert "linear/seed1/tensorboard" in rows and "tensorboard/runs/linear/seed1" not in rows and len(rows) == 6


def test_the_page_of_custom_scalars_begins_with_the_variants_and_finds_its_tags(tmp_path):
    overview(tmp_path, write_ablation(tmp_path, tensorboard=True))
    board = Board(tmp_path)
    layout = board.layout()
    assert list(layout) == ["variants, mean over the seeds", "variants, mean, lowest and highest of the seeds", "runs"]
    means, margins, runs = layout.values()
    assert list(means) == ["learning rate", "mAP50-95", "mAP50", "box loss", "cls loss", "dfl loss"]
    told = board.tags("tensorboard/mean/wsd")
    for chart in means.values():
        (pattern,) = chart["multiline"]["tag"]
        assert [tag for tag in told if tag == pattern.removesuffix("$")]
    for chart in margins.values():
        (series,) = chart["margin"]["series"]
        assert set(series.values()) <= told
    assert {"lr/weight", "metrics/mAP50", "epoch/box_loss"} <= board.tags("wsd/seed0/tensorboard")
    assert list(runs) == ["learning rate", "mAP50-95", "mAP50", "losses, mean over the epoch"]


def test_means_over_the_seeds_with_the_lowest_and_the_highest(tmp_path):
    results = overview(tmp_path, write_ablation(tmp_path))
    board = Board(tmp_path)
    curves = [board.curve("tensorboard/mean/linear", f"variants/mAP50-95{which}") for which in ("", LOWEST, HIGHEST)]
    runs = results.of("linear")
    for k, evaluation in enumerate(runs[0].evaluations):
        values = [run.evaluations[k].scalars[events.MAP] for run in runs]
        expected = [np.mean(values), min(values), max(values)]
        assert [curve[evaluation.step] for curve in curves] == pytest.approx(expected, abs=1e-6)
    losses = board.curve("tensorboard/mean/linear", "variants/cls_loss")
    assert losses[9] == pytest.approx(np.mean([run.losses["cls_loss"][1] for run in runs]), abs=1e-6)
    rates = board.curve("tensorboard/mean/linear", "variants/lr")
    fake = FakeRun(tmp_path, "linear")
    assert rates == pytest.approx({step: fake.lr(step) for step in range(30)}, abs=1e-7)


def test_what_was_not_measured_is_not_drawn(tmp_path):
    overview(tmp_path, write_ablation(tmp_path, FakeSpec(metric="mAP-small", seeds=(0,))))
    board = Board(tmp_path)
    assert not [v for _, values in board.rows().values() for v in values.values() if math.isnan(v)]
    assert events.MAP in board.rows()["tensorboard/runs/wsd/seed0"][1]


def test_a_mean_is_that_of_the_runs_that_came_to_their_end(tmp_path):
    spec = write_ablation(tmp_path)
    place = run_folder(tmp_path, "wsd", 2)
    shutil.rmtree(place)
    behind = FakeRun(place, "wsd", 2)
    behind.write(behind.events(to=12, end=None))
    results = overview(tmp_path, spec)
    curve = Board(tmp_path).curve("tensorboard/mean/wsd", "variants/mAP50-95")
    ended = results.of("wsd")[:2]
    assert curve[4] == pytest.approx(np.mean([run.evaluations[0].scalars[events.MAP] for run in ended]), abs=1e-6)
    assert max(curve) == 29


def test_an_open_tensorboard_shows_the_new_state(tmp_path):
    """Also one that reads while the overview is written again and again, and whose columns stay what they were."""
    spec = FakeSpec(seeds=(0, 1))
    overview(tmp_path, spec)  # nothing is there but the specification
    board = Board(tmp_path)
    columns = board.columns()
    assert columns[0] and board.rows() == {} and "box loss" not in board.layout()["variants, mean over the seeds"]
    for seed in spec.seeds:
        for variant, keys in spec.variants.items():
            run = FakeRun(run_folder(tmp_path, variant, seed), variant, seed, changes=keys)
            run.write(tensorboard=True)
            results = overview(tmp_path, spec)
        overview(tmp_path, spec)
        board.reload()
        assert len(board.rows()) == 3 * (seed + 1) and board.columns() == columns
        assert "box loss" in board.layout()["variants, mean over the seeds"]
        curve = board.curve("tensorboard/mean/cosine", "variants/mAP50-95")
        expected = [run.evaluations[-1].scalars[events.MAP] for run in results.of("cosine")[: seed + 1]]
        assert curve[29] == pytest.approx(np.mean(expected), abs=1e-6) and len(curve) == 6


def test_files_that_every_reader_has_left_are_removed_and_no_others(tmp_path):
    spec = write_ablation(tmp_path, FakeSpec(seeds=(0,)))
    overview(tmp_path, spec)
    overview(tmp_path, spec)
    folder = tmp_path / "tensorboard"
    sizes = [path.stat().st_size for path in sorted(folder.glob("*tfevents*"))]
    assert len(sizes) == 2 and sizes[0] == 0 < sizes[1]
    old = time.time() - 3600
    for path in folder.glob("*tfevents*"):
        os.utime(path, (old, old))
    overview(tmp_path, spec)
    assert [bool(path.stat().st_size) for path in sorted(folder.glob("*tfevents*"))] == [False, True]


def test_variants_that_are_no_more_are_forgotten(tmp_path):
    spec = write_ablation(tmp_path, FakeSpec(seeds=(0,)))
    overview(tmp_path, spec)
    fewer = replace(spec, variants={k: v for k, v in spec.variants.items() if k != "wsd"})
    overview(tmp_path, fewer)
    assert not [run for run in Board(tmp_path).runs if run.startswith("tensorboard/") and "wsd" in run]


def test_a_long_run_has_no_more_points_than_tensorboard_shows(tmp_path):
    spec = FakeSpec(seeds=(0,), variants={"cosine": {}})
    run = FakeRun(run_folder(tmp_path, "cosine", 0), epochs=4, steps_per_epoch=2000, eval_every=2000)
    run.write()
    overview(tmp_path, spec)
    rates = Board(tmp_path).curve("tensorboard/mean/cosine", "variants/lr")
    assert 500 <= len(rates) <= 1000 and {0, 7999} <= set(rates)
    assert all(rate == pytest.approx(run.lr(step), abs=1e-6) for step, rate in rates.items())


def test_a_single_run_keeps_its_own_columns_and_page(tmp_path):
    FakeRun(tmp_path / "single", ablation=None).write(tensorboard=True)
    board = Board(tmp_path)
    names, metrics = board.columns()
    assert {"lr0", "optimizer"} <= set(names) and "best/mAP50-95" in metrics.values()
    assert list(board.layout()) == ["training", "evaluation"]


def test_labels_are_columns_of_their_own(tmp_path):
    labels = {"labels": {"who": "A", "lr0": "low"}}
    FakeRun(tmp_path / "single", ablation=None, changes=labels).write(tensorboard=True)
    (row, _), *_ = Board(tmp_path).rows().values()
    assert (row["who"], row["label.lr0"], row["lr0"]) == ("A", "low", 0.01)
