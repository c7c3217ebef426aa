from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ablation.fake_ablation import FACTS, FakeRun
from yolo_cosine import events
from yolo_cosine.ablation.compare import compare_runs
from yolo_cosine.ablation.verdict import decide
from yolo_cosine.errors import UserError


@pytest.fixture
def runs(tmp_path):
    """A function that writes a single run and returns its folder: `runs("a", seed=1, lr0=0.02)`."""

    def write(name, seed=0, /, *, facts=None, level="cosine", end="finished", to=None, labels=None, **changes):
        changes |= {"labels": labels} if labels else {}
        run = FakeRun(tmp_path / name, level, seed, ablation=None, changes=changes, facts={**FACTS, **(facts or {})})
        run.write(run.events(end=end, to=to))
        return run.run_dir

    return write


def variants(results):
    return {name: [run.seed for run in results.of(name) if run.state != "waiting"] for name in results.variants}


# --- which are one variant ----------------------------------------------------------------------------------------------


def test_runs_that_differ_in_the_seed_alone_are_one_variant(runs, tmp_path):
    paths = [runs(f"{c}{s}", s, curve=c, level=c) for s in (0, 1, 2) for c in ("cosine", "linear")]
    results = compare_runs(paths, folder=tmp_path / "out")
    assert variants(results) == {"curve=cosine": [0, 1, 2], "curve=linear": [0, 1, 2]}
    assert (results.baseline, results.metric, results.select, results.seeds) == (
        "curve=cosine",
        events.MAP,
        "last",
        (0, 1, 2),
    )
    assert results.changes == {"curve=cosine": {"curve": "cosine"}, "curve=linear": {"curve": "linear"}}
    assert [(run.variant, run.seed) for run in results.runs] == [(v, s) for v in results.variants for s in (0, 1, 2)]
    assert results.notes == () and not (tmp_path / "out").exists()
    assert all(run.variant == results.variants[k // 3] and run.chosen for k, run in enumerate(results.runs))
    (comparison,) = decide(results).comparisons
    assert comparison.seeds == (0, 1, 2) and comparison.paired.mean == pytest.approx(-0.05, abs=0.01)


def test_what_makes_no_difference_makes_no_variant(runs):
    paths = [
        runs("a", 0, workers=0, plots=True, name="a", runs="x", data="here/data.yaml", device="0", image_resamples=0),
        runs("b", 1, workers=8, plots=False, name="b", runs="y", data="there/data.yaml", device="1", image_resamples=9),
        runs("c", 0, lr0=0.02, log_every=1),
    ]
    assert variants(compare_runs(paths)) == {"lr0=0.01": [0, 1], "lr0=0.02": [0]}


@pytest.mark.parametrize("change", [{"weights": "yolo11n.pt"}, {"patience": 3}, {"epochs": 9}, {"imgsz": 320}])
def test_what_makes_one_does(runs, change):
    assert len(compare_runs([runs("a", 0), runs("b", 1, **change)]).variants) == 2


def test_a_key_that_an_older_version_did_not_know_has_its_default(runs):
    paths = [runs("a", 0), runs("b", 1), runs("c", 0, lr0=0.1)]
    config = json.loads(json.dumps(FakeRun(paths[1], seed=1, ablation=None).config))
    del config["clip_norm"], config["worker_timeout"]
    (paths[1] / "config.yaml").write_text(json.dumps(config))
    assert variants(compare_runs(paths)) == {"lr0=0.01": [0, 1], "lr0=0.1": [0]}


def test_other_training_data_is_another_variant(runs):
    facts = [{"train_digest": d, "data": "shapes", "val_digest": "v"} for d in ("aaa", "bbb")]
    results = compare_runs([runs("a", 0, facts=facts[0]), runs("b", 0, facts=facts[1])])
    assert results.variants == ("data=shapes (aaa)", "data=shapes (bbb)")
    assert any("different training data" in note for note in results.notes)


# --- their names --------------------------------------------------------------------------------------------------------


def test_labels_name_variants(runs):
    paths = [
        runs(f"{v}{s}", s, labels={"variant": v}, curve=c)
        for v, c in (("A", "linear"), ("B", "cosine"))
        for s in (0, 1)
    ]
    assert variants(compare_runs(paths)) == {"A": [0, 1], "B": [0, 1]}


def test_a_label_that_two_have_is_not_enough(runs):
    paths = [runs("a", labels={"variant": "A"}, lr0=0.01), runs("b", labels={"variant": "A"}, lr0=0.02)]
    assert compare_runs(paths).variants == ("A lr0=0.01", "A lr0=0.02")


def test_several_keys_are_said_together(runs):
    paths = [
        runs("a", lr0=0.01, curve="cosine"),
        runs("b", lr0=0.02, curve="cosine"),
        runs("c", lr0=0.02, curve="linear"),
    ]
    names = compare_runs(paths).variants
    assert names == ("curve=cosine lr0=0.01", "curve=cosine lr0=0.02", "curve=linear lr0=0.02")


def test_what_is_too_long_for_a_name_is_called_as_its_folder(runs):
    phases = [{"curve": "linear", "start": 0, "end": 1, "for": "3ep"}, {"curve": "constant", "value": 1, "for": "rest"}]
    results = compare_runs([runs("plain"), runs("composed", phases=phases)])
    assert results.variants == ("plain", "composed")
    assert results.changes["composed"]["phases"] == phases


def test_names_are_all_different(runs, tmp_path):
    long = [{"curve": "linear", "start": 0, "end": x, "for": "rest", "comment": "x" * 80} for x in (0.1, 0.2)]
    paths = [runs("one/run", phases=[long[0]]), runs("two/run", phases=[long[1]])]
    names = compare_runs(paths).variants
    assert len(set(names)) == 2 and all(str(path) in name for path, name in zip(paths, names, strict=True))


# --- pairs --------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_paired_is_named(runs):
    paths = [*(runs(f"a{s}", s) for s in (0, 1, 3)), *(runs(f"b{s}", s, lr0=0.02) for s in (1, 2))]
    results = compare_runs(paths)
    assert results.seeds == (0, 1, 2, 3)
    assert [run.state for run in results.of("lr0=0.02")] == ["waiting", "finished", "finished", "waiting"]
    (note,) = results.notes
    assert note.startswith("lr0=0.02 and lr0=0.01: ")
    assert all(words in note for words in ("seed 2 of lr0=0.02", "seed 0 of lr0=0.01", "seed 3 of lr0=0.01"))
    assert decide(results).comparisons[0].seeds == (1,)


def test_of_two_runs_of_one_seed_the_later_counts(runs):
    first, other = runs("first"), runs("other", lr0=0.02)
    second = runs("second", level="linear")
    (second / "config.yaml").write_text((first / "config.yaml").read_text())
    for paths in ([first, second, other], [second, first, other]):
        results = compare_runs(paths)
        (run, _) = results.runs
        assert run.run_dir == second and "trained last" in results.notes[0] and str(first) in results.notes[0]


def test_runs_that_are_not_at_their_end_are_taken_with_what_they_have(runs):
    results = compare_runs([runs("a"), runs("b", lr0=0.02, end=None, to=12)])
    run = results.of("lr0=0.02")[0]
    assert (run.state, run.chosen, len(run.evaluations)) == ("interrupted", None, 2)
    assert math.isnan(run.value(events.MAP)) and decide(results).comparisons[0].paired is None


def test_one_variant_alone_is_no_error(runs):
    results = compare_runs([runs("a", 0), runs("b", 1)])
    assert len(results.variants) == 1 and "nothing to compare" in results.notes[0]
    assert decide(results).comparisons == ()


def test_runs_of_an_ablation_can_be_compared_as_single_ones(tmp_path):
    from tests.ablation.fake_ablation import FakeSpec, write_ablation

    spec = write_ablation(tmp_path, FakeSpec(seeds=(0, 1)))
    paths = [tmp_path / v / f"seed{s}" for v in ("linear", "wsd") for s in spec.seeds]
    assert variants(compare_runs(paths)) == {"linear": [0, 1], "wsd": [0, 1]}


# --- what is asked for --------------------------------------------------------------------------------------------------


def test_the_baseline_is_a_variant_or_one_of_its_runs(runs):
    paths = [runs("a"), runs("b", lr0=0.02)]
    for given in ("lr0=0.02", "b", str(paths[1])):
        assert compare_runs(paths, baseline=given).baseline == "lr0=0.02"
    assert compare_runs(paths).baseline == "lr0=0.01"


def test_another_metric_and_the_best(runs):
    results = compare_runs(
        [runs("a"), runs("b", lr0=0.02)], metric="mAP-large", select="best", confidence=0.9, marked="include"
    )
    assert (results.metric, results.select, results.confidence, results.include_marked) == (
        "metrics/mAP-large",
        "best",
        0.9,
        True,
    )


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("baseline", "c", r"baseline: 'c' is no variant .* the variants are 'lr0=0.01', 'lr0=0.02'"),
        ("baseline", 7, r"baseline: '7' is no variant"),
        ("metric", "mAP", r"metric: 'mAP' is not known; take one of mAP50-95, mAP50"),
        ("metric", 50, r"metric: 50 is not known"),
        ("select", "first", r"select: 'first' is not known; write last or best"),
        ("marked", True, r"marked: True is not known; write leave out or include"),
        ("confidence", 95, r"confidence: 95 is not between 0.5 and 1"),
        ("confidence", "high", r"confidence: 'high' is not between"),
    ],
)
def test_what_is_asked_for_wrongly_is_an_error(runs, key, value, words):
    paths = [runs("a"), runs("b", lr0=0.02)]
    with pytest.raises(UserError, match=words):
        compare_runs(paths, **{key: value})


def test_mistakes_in_what_is_named(runs, tmp_path):
    run = runs("a")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    begun = runs("begun")
    (begun / "metrics.jsonl").write_text("")
    damaged = runs("damaged")
    (damaged / "metrics.jsonl").write_text("{}\n")
    shutil.copytree(run, tmp_path / "ablation/cosine/seed0")
    (tmp_path / "ablation/ablation.yaml").write_text("name: ablation\n")
    for paths, words in (
        ([run], "one run cannot be compared; name at least two"),
        ([], "one run cannot be compared"),
        ([run, tmp_path / "none"], r"none is not there; name the folders of runs"),
        ([run, tmp_path / "empty"], "empty is no folder of a run: it has no metrics.jsonl"),
        ([run, tmp_path / "file"], "file is no folder of a run"),
        ([run, tmp_path / "empty" / ".." / "a"], "is named twice; name each run once"),
        ([run, begun], "its record is empty: the run has not begun; leave it out"),
        ([run, damaged], "is no record of a run"),
        ([run, tmp_path / "ablation"], "is an ablation, not a run"),
    ):
        with pytest.raises(UserError, match=words):
            compare_runs([Path(p) for p in paths])


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"val_digest": "bbb"}, r"different validation data \(aaa and bbb\)"),
        ({"val_images": 12}, r"different number of validation images \(87 and 12\)"),
    ],
)
def test_runs_that_were_evaluated_on_other_data_cannot_be_compared(runs, facts, words):
    paths = [runs("a", facts={"val_digest": "aaa"}), runs("b", lr0=0.02, facts={"val_digest": "aaa", **facts})]
    with pytest.raises(UserError, match=words):
        compare_runs(paths)


def test_runs_with_other_classes_cannot_be_compared(runs, tmp_path):
    other = replace(FakeRun(tmp_path / "b", ablation=None), changes={"lr0": 0.02})
    stream = [
        replace(e, per_class={"circle": 0.5, "hexagon": 0.5}) if isinstance(e, events.Evaluated) else e
        for e in other.events()
    ]
    with pytest.raises(UserError, match=r"different classes \(hexagon, square, traffic light are of one alone\)"):
        compare_runs([runs("a"), other.write(stream).run_dir])


def test_an_older_record_without_digests_is_compared_by_what_it_tells(runs):
    results = compare_runs([runs("a", facts={"val_digest": "aaa"}), runs("b", lr0=0.02)])
    assert len(results.variants) == 2
