from __future__ import annotations

import json
import math
import shutil
import time
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ablation.fake_ablation import FACTS, LOSSES, FakeRun, FakeSpec, write_ablation
from yolo_cosine import events
from yolo_cosine.ablation.collect import read_results
from yolo_cosine.ablation.places import run_folder, safe_name
from yolo_cosine.ablation.records import read_run
from yolo_cosine.ablation.thin import thinned


@pytest.fixture
def run(tmp_path) -> FakeRun:
    return FakeRun(tmp_path / "cosine" / "seed0")


def read(run, select="last"):
    return read_run(run.run_dir, run.variant, run.seed, select)


def told(run, *extra, at=None, end="finished"):
    """The run's events, with more before the first step from `at` on."""
    stream = list(run.events(end=end))
    place = next(k for k, e in enumerate(stream) if isinstance(e, events.StepDone) and e.step >= (at or 0))
    return [*stream[:place], *extra, *stream[place:]]


LONG = ("x" * 300, "字" * 99)


# --- places -----------------------------------------------------------------------------------------------------------


def test_the_folder_of_a_run_is_its_variant_and_seed():
    assert run_folder(Path("a"), "cosine", 3) == Path("a/cosine/seed3")
    assert run_folder(Path("a"), "cosine", 11) == Path("a/cosine/seed11")


@pytest.mark.parametrize("name", ["cosine", "lr0=0.02", "one-cycle_v2", "große_Rate", "50%"])
def test_most_names_of_variants_are_names_of_folders(name):
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name", ["a/b", "..", "", "tensorboard", "TensorBoard", "a b", "a\\b", "-x", "x.", "nul", *LONG, "a:b", "\n"]
)
def test_other_names_are_made_safe_and_stay_apart(name, tmp_path):
    safe = safe_name(name)
    (tmp_path / safe).mkdir()
    assert safe != name and Path(safe).name == safe and len(safe) < 120


@given(st.lists(st.text(max_size=8), unique=True, min_size=2, max_size=6))
def test_no_two_variants_share_a_folder(names):
    assert len({safe_name(name) for name in names}) == len(names)


# --- thinned curves ---------------------------------------------------------------------------------------------------


def error(x, y, kept):
    return np.abs(np.interp(x, x[kept], y[kept]) - y).max()


def test_a_smooth_curve_needs_few_points():
    x = np.arange(100_000.0)
    y = 0.01 * (1 + np.cos(np.pi * x / 1e5))
    kept = thinned(x, y)
    assert len(kept) < 500 and error(x, y, kept) <= 1e-5 * np.ptp(y)


def test_jumps_and_the_ends_of_constant_stretches_are_exact():
    x = np.arange(5000.0)
    y = np.where(x < 100, x / 100, np.floor(x / 500) % 3)
    kept = thinned(x, y)
    assert error(x, y, kept) < 1e-12
    edges = np.flatnonzero(np.diff(y[100:]) != 0) + 100
    assert {*edges, *(edges + 1), 0, 4999} <= set(kept) and len(kept) < 40


def test_the_sides_of_a_gap_are_kept():
    x = np.array([*range(10), *range(50, 60)], float)
    assert set(thinned(x, np.zeros(20))) == {0, 9, 10, 19}


@given(
    st.lists(st.integers(0, 5), min_size=0, max_size=200).map(lambda v: np.array(v, float)),
    st.integers(2, 30),
)
def test_no_more_points_than_asked_for_and_both_ends(y, most):
    x = np.arange(float(len(y)))
    kept = thinned(x, y, most)
    assert len(kept) <= most and (np.diff(kept) > 0).all()
    assert not len(y) or {0, len(y) - 1} <= set(kept)
    if len(kept) < most and len(y):
        assert error(x, y, kept) <= 1e-5 * np.ptp(y) + 1e-12


# --- states -----------------------------------------------------------------------------------------------------------


def test_a_finished_run(run):
    result = read(run.write())
    assert (result.variant, result.seed, result.state, result.detail) == ("cosine", 0, "finished", "")
    assert (result.steps, result.steps_done, result.steps_per_epoch, result.forked_at) == (30, 30, 5, 0)
    assert [e.step for e in result.evaluations] == [4, 9, 14, 19, 24, 29]
    assert result.chosen == result.evaluations[-1] and result.chosen.epoch == 5
    assert result.incidents == () and result.images == {}
    assert result.config["labels"]["variant"] == "cosine" and result.facts == FACTS
    assert result.seconds == pytest.approx(12 * 6)
    assert list(result.losses) == list(LOSSES) and result.loss_steps.tolist() == [4, 9, 14, 19, 24, 29]
    assert result.losses["cls_loss"][2] == run.losses(14)["cls_loss"]
    x = np.arange(30)
    assert np.interp(x, result.lr_steps, result.lr) == pytest.approx([run.lr(k) for k in x], abs=1e-6)


def test_what_was_not_measured_is_nan(run):
    result = read(run.write())
    assert math.isnan(result.value("metrics/mAP-small")) and math.isnan(result.value("AP50-95/traffic light"))
    assert result.value("AP50-95/circle") == pytest.approx(result.value(events.MAP) + 0.1)
    assert set(result.chosen.scalars) == {*events.COCO_METRICS, events.PRECISION, events.RECALL}


def test_the_best_is_the_one_that_was_saved_as_best(run):
    stream = list(run.events())
    places = [k for k, e in enumerate(stream) if isinstance(e, events.Evaluated)]
    for k in places:  # the third is the best
        best = k in places[:3]
        value = stream[k].scalars[events.MAP] - (0 if best else 0.4)
        stream[k] = replace(stream[k], scalars={**stream[k].scalars, events.MAP: value}, best=best)
    run.write(stream)
    assert read(run, "best").chosen.step == 14 and read(run, "last").chosen.step == 29


@pytest.mark.parametrize("reason", ["finished", "stopped early", "failed", "interrupted"])
def test_the_last_end_decides(run, reason):
    stream = [*run.events(end=None, to=15), events.RunEnded(14, 2, reason, 9.0, {}, None, detail="ValueError: no")]
    result = read(run.write(stream))
    assert (result.state, result.detail) == (reason, "ValueError: no")
    assert (result.chosen is not None) == (reason in {"finished", "stopped early"})


def test_a_run_without_an_end_is_interrupted(run):
    result = read(run.write(run.events(end=None, to=12)))
    assert (result.state, result.steps_done, result.steps, result.chosen) == ("interrupted", 12, 30, None)
    assert len(result.evaluations) == 2


def test_an_end_that_a_resume_follows_does_not_count(run):
    run.write(run.events(end="interrupted", to=12))
    run.write([run.started(12)])
    assert read(run).state == "interrupted" and read(run).detail == ""
    run.write(run.events(first=12))
    result = read(run)
    assert result.state == "finished" and result.steps_done == 30 and result.forked_at == 0


def test_a_folder_without_a_record_waits(tmp_path, run):
    assert read_run(tmp_path / "none", "cosine", 0, "last").state == "waiting"
    run.run_dir.mkdir(parents=True)
    (run.run_dir / "metrics.jsonl").write_text("")
    assert read(run).state == "waiting"
    (run.run_dir / "metrics.jsonl").write_text('{"event": "start", "step": 0, "ep')  # torn
    assert read(run).state == "waiting"


def test_a_record_that_cannot_be_read_makes_a_failed_run(run):
    run.write()
    with open(run.run_dir / "metrics.jsonl", "a") as file:
        file.write("nonsense\n{}\n")
    result = read(run)
    assert result.state == "failed" and "metrics.jsonl" in result.detail and "no record of a run" in result.detail


def test_the_last_evaluation_counts_only_after_the_last_step(run):
    stream = [e for e in run.events() if not (isinstance(e, events.Evaluated) and e.step == 29)]
    result = read(run.write(stream))
    assert result.state == "finished" and result.chosen is None and "no evaluation" in result.detail


def test_a_run_that_jumps_to_its_end_took_fewer_steps(run):
    stream = [e for e in run.events(end="stopped early") if not 10 <= (getattr(e, "step", 0)) < 25]
    result = read(run.write(stream))
    assert (result.state, result.steps_done, result.steps) == ("stopped early", 15, 30)
    assert result.chosen.step == 29 and {9, 25} <= set(result.lr_steps)
    assert result.incidents == ()  # its state says so


def test_without_a_group_of_weights_the_first_is_drawn(run):
    muon = replace(run, groups=("muon", "bias"))
    assert len(read(muon.write()).lr)


# --- forks ------------------------------------------------------------------------------------------------------------


def fork(trunk: FakeRun, run: FakeRun, at: int) -> FakeRun:
    run.run_dir.mkdir(parents=True)
    shutil.copyfile(trunk.run_dir / "metrics.jsonl", run.run_dir / "metrics.jsonl")
    return run.write(run.events(first=at))


@pytest.mark.parametrize(("at", "seconds"), [(15, 36), (10, 48), (12, 48 - 2 / 5 * 10)])
def test_a_fork_counts_its_own_costs_only(tmp_path, run, at, seconds):
    trunk = run.write(run.events(to=20, end="interrupted"))
    forked = fork(trunk, FakeRun(tmp_path / "wsd" / "seed0", "wsd"), at)
    result = read(forked)
    assert (result.forked_at, result.state, result.steps_done) == (at, "finished", 30)
    assert result.seconds == pytest.approx(seconds)
    assert [e.step for e in result.evaluations] == [4, 9, 14, 19, 24, 29]
    # also after a resume
    forked.write(forked.events(first=22))
    assert read(forked).forked_at == at
    # and the trunk is a run like any other
    assert read(trunk.write(trunk.events(first=20))).forked_at == 0


def test_another_seed_is_another_run(tmp_path, run):
    other = fork(run.write(run.events(to=12)), FakeRun(tmp_path / "cosine" / "seed1", seed=1), 10)
    assert read(other).forked_at == 10


def test_a_single_run_that_branched_is_told_by_its_name(tmp_path, run):
    trunk = replace(run, ablation=None).write(run.events(to=20))
    assert read(fork(trunk, FakeRun(tmp_path / "branch", ablation=None), 10)).forked_at == 10


# --- incidents --------------------------------------------------------------------------------------------------------


def test_what_touched_the_numbers_is_told_in_short_words(run):
    stream = told(
        run,
        events.Incident("nonfinite", "step 7 (epoch 2): the loss is no finite number ... Images: a, b", 7),
        events.Incident("nonfinite", "step 7 ...", 7),
        events.Incident("memory", "step 9: out of memory in the evaluation: 4 image(s) at a time from here on", 7),
        events.Notice("threads was 2 and is 4 now: the run goes on, but not bit for bit (sums ...)", True),
        events.Replanned(7, 1, 6, "time: 1h: ..."),
        events.Incident("disk", "cannot be saved", 7),
        events.Incident("sink", "tensorboard is switched off", 7),
        events.Incident("worker", "a thread was replaced", 7),
        events.Notice("1 box without area", True),
        at=7,
    )
    said = read(run.write(stream)).incidents
    assert said[0].startswith("step 7: 2 updates were left out")
    assert [s.partition(":")[0] for s in said] == ["step 7", "step 7", "threads was 2 and is 4 now", "step 7"]
    assert "memory ran out in an evaluation" in said[1] and "time budget" in said[3] and "6 epochs" in said[3]
    assert all(len(s) <= 160 for s in said)


def test_a_run_that_went_back_says_so(run):
    stream = [*run.events(to=8, end=None), events.Incident("nonfinite", "...", 7), events.Rewound(8, 5, "...")]
    result = read(run.write([*stream, *list(run.events(first=5))[1:]]))
    assert result.state == "finished" and result.steps_done == 30 and result.forked_at == 0
    assert result.incidents[0].startswith("step 7: an update was left out")
    assert result.incidents[1].startswith("step 8: it went back to step 5, for losses")


# --- what else lies in the folder ---------------------------------------------------------------------------------------


def test_the_intervals_of_the_images_are_those_of_the_evaluation_that_counts(run):
    run.write()
    part = {"step": 29, "intervals": {events.MAP: [0.5, 0.7]}}
    whole = {"images": 87, "resamples": 1000, "confidence": 0.95, "last": part, "best": {**part, "step": 4}}
    (run.run_dir / "image_intervals.json").write_text(json.dumps(whole))
    found = read(run).images
    assert list(found) == [events.MAP] and (found[events.MAP].low, found[events.MAP].high) == (0.5, 0.7)
    assert (found[events.MAP].images, found[events.MAP].resamples, found[events.MAP].confidence) == (87, 1000, 0.95)
    assert read(run, "best").images == {}  # of another evaluation
    (run.run_dir / "image_intervals.json").write_text("{}")
    assert read(run).images == {}


def test_without_its_file_the_configuration_is_that_of_the_record(run):
    run.write()
    (run.run_dir / "config.yaml").unlink()
    assert read(run).config["epochs"] == 6


def test_a_hundred_thousand_steps_are_read_in_seconds(run):
    long = replace(run, epochs=100, steps_per_epoch=1000, eval_every=1000)
    long.write(iter([long.started()]))
    scalars = {f"lr/{group}": 0.01 for group in run.groups} | {"momentum": 0.9, "accumulate": 4}
    with open(long.run_dir / "metrics.jsonl", "a") as file:
        for step in range(100_000):
            about = {"event": "step", "step": step, "epoch": step // 1000, "time": 1.7e9, **scalars}
            file.write(json.dumps({**about, "lr/weight": long.lr(step)}) + "\n")
    since = time.perf_counter()
    result = read(long)
    assert time.perf_counter() - since < 10 and result.steps_done == 100_000 and len(result.lr) <= 2000


# --- all of them --------------------------------------------------------------------------------------------------------


def test_an_ablation_has_every_run_by_variant_and_seed(tmp_path):
    spec = write_ablation(tmp_path)
    shutil.rmtree(run_folder(tmp_path, "linear", 1))
    (tmp_path / "ablation.yaml").write_text("name: schedules\n")
    results = read_results(tmp_path, spec)
    assert [(r.variant, r.seed) for r in results.runs] == [(v, s) for v in spec.variants for s in spec.seeds]
    assert [r.state for r in results.of("linear")] == ["finished", "waiting", "finished"]
    assert (results.metric, results.select, results.baseline) == (events.MAP, "last", "cosine")
    assert results.changes["linear"] == {"curve": "linear", "lrf": 0.1} and not results.include_marked
    assert results.source == "name: schedules\n" and results.notes == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"facts": {**FACTS, "hardware": "x86_64 CPU, 64 cores"}}, ["different hardware", "64 cores (linear seed 1)"]),
        ({"facts": {**FACTS, "val_images": 80}}, ["different numbers of validation images", "87 (8 runs)"]),
        ({"changes": {"curve": "linear", "lrf": 0.1, "batch": 8}}, ["linear differ in more than the seed: batch: 16, 8"]),
        ({"changes": {"curve": "linear", "lrf": 0.1, "workers": 8, "plots": False}}, []),
    ],
)  # fmt: skip
def test_what_differs_besides_is_noted(tmp_path, change, words):
    spec = write_ablation(tmp_path)
    place = run_folder(tmp_path, "linear", 1)
    shutil.rmtree(place)
    replace(FakeRun(place, "linear", 1, changes=spec.variants["linear"]), **change).write()
    notes = read_results(tmp_path, spec).notes
    assert len(notes) == bool(words) and all(w in notes[0] for w in words)


def test_a_variant_that_differs_in_two_things_is_noted(tmp_path):
    variants = {"cosine": {}, "both": {"curve": "linear", "lrf": 0.1, "mosaic": 0.5}, "one": {"mosaic": 0.5}}
    spec = write_ablation(tmp_path, FakeSpec(variants=variants, seeds=(0,)))
    (note,) = read_results(tmp_path, spec).notes
    assert note.startswith("both differs from cosine in more than one thing")
    assert "mosaic" in note and "the schedule (curve, lrf)" in note


def test_every_order_of_kinds_of_lines_is_read(run):
    """Whatever a record ends with, it is read, and in one of the states."""
    kinds = [
        events.Notice("text"), events.Incident("kind", "text", 4), events.Saved(4, run.run_dir / "weights/last.pt", False),
        events.RunEnded(4, 0, "finished", 1.0, {}, None),
    ]  # fmt: skip
    for some in chain.from_iterable(combinations(kinds, n) for n in range(5)):
        shutil.rmtree(run.run_dir, ignore_errors=True)
        result = read(run.write([*run.events(to=5, end=None), *some]))
        ended = any(isinstance(e, events.RunEnded) for e in some)
        assert result.state == ("finished" if ended else "interrupted")
