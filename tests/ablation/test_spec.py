"""The specification of an ablation: what it resolves to, and every mistake in words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from yolo_cosine.ablation.folder import saved_ablation, take_folder
from yolo_cosine.ablation.plan import make_plan
from yolo_cosine.ablation.spec import load_ablation
from yolo_cosine.errors import UserError

CONFIGS = Path(__file__).parents[2] / "configs"
TWO = {"a": {"curve": "cosine"}, "b": {"curve": "linear"}}


def write(folder, content, name="two.yaml"):
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def load(folder, *overrides, **content):
    return load_ablation(write(folder, {"variants": TWO, **content}), overrides)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("ablations/*.yaml")), ids=lambda p: p.name)
def test_every_shipped_ablation_loads(path):
    ablation = load_ablation(path)
    plan = make_plan(ablation, {config.data: 800 for config in ablation.configs.values()})
    assert len(ablation.variants) >= 2 and plan.steps_to_train < plan.steps
    if path.stem == "schedulers":
        assert len(ablation.seeds) >= 3 and len(ablation.variants) >= 5


def test_a_variant_is_the_base_with_its_keys(tmp_path):
    write(tmp_path, {"epochs": 7, "lr0": 0.02, "nonfinite": {"skips": 1}, "seed": 4, "name": "mine"}, "base.yaml")
    variants = {**TWO, "c": {"nonfinite": {"rewinds": 0}, "curve": "cosine"}}
    ablation = load(tmp_path, base="base.yaml", set={"lr0": 0.03}, variants=variants)
    configs = ablation.configs
    assert [c.epochs for c in configs.values()] == [7] * 3 and [c.lr0 for c in configs.values()] == [0.03] * 3
    assert (configs["a"].curve, configs["b"].curve) == ("cosine", "linear")
    assert (configs["c"].nonfinite.skips, configs["c"].nonfinite.rewinds) == (1, 0)
    assert ablation.baseline == "a" and ablation.seeds == (0, 1, 2) and ablation.metric == "metrics/mAP50-95"
    assert ablation.name == "two" and ablation.folder == Path("runs/two")


def test_a_variant_may_extend_a_file(tmp_path):
    write(tmp_path, {"curve": "constant", "lrf": 0.5}, "schedule.yaml")
    ablation = load(tmp_path, variants={"a": {}, "b": {"extends": "schedule.yaml", "lrf": 0.2}})
    assert (ablation.configs["b"].curve, ablation.configs["b"].lrf) == ("constant", 0.2)


def test_a_grid_is_every_combination(tmp_path):
    grid = {"lr0": [0.01, 0.02], "checkpoint.keep": [2, 3]}
    ablation = load(tmp_path, variants={}, grid=grid)
    assert list(ablation.variants) == [f"lr0={r} checkpoint.keep={k}" for r in (0.01, 0.02) for k in (2, 3)]
    assert ablation.configs["lr0=0.02 checkpoint.keep=3"].checkpoint.keep == 3
    both = load(tmp_path, grid={"lr0": [0.01, 0.02]}, baseline="b lr0=0.01")
    assert list(both.variants) == ["a lr0=0.01", "a lr0=0.02", "b lr0=0.01", "b lr0=0.02"]


def test_values_of_a_grid_that_are_too_long_for_a_name_stay_apart(tmp_path):
    first = {"curve": "constant", "for": "50%"}
    phases = [[first, {"curve": "linear", "end": end, "for": "rest"}] for end in (0, 0.1, 0.2)]
    ablation = load(tmp_path, variants={}, grid={"phases": phases})
    assert [c.phases for c in ablation.configs.values()] == phases
    with pytest.raises(UserError, match="are the same configuration"):
        load(tmp_path, variants={}, grid={"lr0": [0.01, 0.02, 0.02]})


def test_paths_in_a_grid_are_relative_to_its_file(tmp_path):
    files = [write(tmp_path, {}, name) for name in ("one.yaml", "two_more.yaml")]
    ablation = load(tmp_path, variants={}, grid={"data": ["./one.yaml", "./two_more.yaml"]})
    assert [Path(c.data) for c in ablation.configs.values()] == files


def test_overrides_reach_everything(tmp_path):
    ablation = load(tmp_path, "seeds=[5, 9]", "set.epochs=9", "variants.b.lrf=0.5", "metric=mAP50", "runs=elsewhere")
    assert ablation.seeds == (5, 9) and ablation.configs["a"].epochs == 9 and ablation.configs["b"].lrf == 0.5
    assert ablation.metric == "metrics/mAP50" and ablation.folder == Path("elsewhere/two")


def test_what_is_saved_is_the_same_ablation(tmp_path):
    write(tmp_path, {"epochs": 7, "lr0": 0.02}, "base.yaml")
    ablation = load(tmp_path, base="base.yaml", grid={"lrf": [0.1, 0.2]}, seeds=2, runs=str(tmp_path / "runs"))
    plan = make_plan(ablation, {"shapes": 80})
    take_folder(ablation, plan).release()
    saved = saved_ablation(ablation.folder)
    assert (saved.variants, saved.configs, saved.seeds) == (ablation.variants, ablation.configs, ablation.seeds)
    assert (saved.baseline, saved.folder, saved.name) == (ablation.baseline, ablation.folder, ablation.name)
    moved = ablation.folder.rename(tmp_path / "moved")
    assert saved_ablation(moved, ["metric=mAP75"]).folder == moved
    assert yaml.safe_load(saved.source()) == yaml.safe_load(saved_ablation(moved).source())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"variant": {}}, r"variant: \{\}: there is no such key; did you mean variants\?"),
        ({"variants": {"a": {"curv": "cosine"}, "b": {}}}, r"variants\.a: curv: .*did you mean curve"),
        ({"variants": {"a": {"lr0": "fast"}, "b": {}}}, r"variants\.a: lr0: 'fast' should be"),
        (
            {"variants": {"a": {"warmup_epochs": 300.0}, "b": {}}},
            r"variants\.a: warmup_epochs: 300 is longer than epochs",
        ),
        ({"variants": {"a": {}}}, r"variants: there is one, and a comparison needs two"),
        ({"variants": {}}, r"variants: there (is one|are none), and a comparison needs two"),
        ({"variants": {"a": {"curve": "cosine"}, "b": {}}}, r"'a' and 'b' are the same configuration"),
        (
            {"variants": {"a": {"seed": 1}, "b": {}}},
            r"variants\.a\.seed: is not for a variant to say; write it in seeds",
        ),
        ({"grid": {"seed": [1, 2]}}, r"grid\.seed: is not for a variant"),
        ({"grid": {"labels.by": ["a", "b"]}}, r"grid\.labels: is not for a variant"),
        ({"variants": {"a": {"name": "x"}, "b": {}}}, r"variants\.a\.name"),
        ({"variants": {"a": {"extends": "none.yaml"}, "b": {}}}, r"none\.yaml"),
        ({"variants": {"a": {"extends": 3}, "b": {}}}, r"extends: 3 is no file name"),
        ({"variants": {" ": {}, "b": {}}}, r"a variant has an empty name"),
        ({"base": "none.yaml"}, r"none\.yaml"),
        ({"base": {"epochs": 0}}, r"epochs: 0 should be"),
        ({"set": {"seed": 3}}, r"set\.seed: is not for a variant to say; write it in seeds"),
        ({"set": {"time": "2h"}}, r"time: 2h makes the length of a run depend on how fast it was"),
        ({"seeds": 0}, r"seeds: 0 should be"),
        ({"seeds": []}, r"seeds: there are none"),
        ({"seeds": [1, 1]}, r"seeds: 1 stand\(s\) there more than once"),
        ({"seeds": [-1, 1]}, r"seeds"),
        ({"metric": "mAP5"}, r"metric: 'mAP5' is not known; did you mean 'mAP"),
        ({"baseline": "c"}, r"baseline: 'c' is no variant"),
        ({"baseline": "cosin", "variants": {"cosine": {}, "b": {"lrf": 0.1}}}, r"did you mean 'cosine'"),
        ({"select": "first"}, r"select: 'first'"),
        ({"parallel": 0}, r"parallel: 0"),
        ({"confidence": 95}, r"confidence: 95"),
        ({"executor": "slurm"}, r"executor: 'slurm'"),
        ({"grid": {"lr0": []}}, r"grid\.lr0"),
        ({"name": "a/b"}, r"name: 'a/b'"),
    ],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else "",
)
def test_a_mistake_is_told_in_words(content, words, tmp_path):
    with pytest.raises(UserError, match=words):
        load(tmp_path, **content)


def test_an_override_does_not_take_the_place_of_the_base(tmp_path):
    write(tmp_path, {"epochs": 7}, "base.yaml")
    with pytest.raises(UserError, match=r"base: is a file.*write set\.KEY=value"):
        load(tmp_path, "base.lr0=0.5", base="base.yaml")
    assert load(tmp_path, "base.lr0=0.5", base={"epochs": 7}).configs["a"].epochs == 7


def test_runs_of_other_settings_are_not_gone_on_with(ablated, tmp_path):
    trained, _ = ablated
    shutil.copytree(trained.folder, tmp_path / "tiny", ignore=shutil.ignore_patterns("*.pt"))
    spec = trained.folder.parent.parent / "tiny.yaml"
    ablation, other = (load_ablation(spec, [f"runs={tmp_path}", f"variants.cosine.lrf={lrf}"]) for lrf in (0.01, 0.5))
    take_folder(ablation, make_plan(ablation, {config.data: 24 for config in ablation.configs.values()})).release()
    with pytest.raises(UserError, match=r"cosine, seed 0: lrf was 0\.01 and is 0\.5 now.*another name"):
        take_folder(other, make_plan(other, {config.data: 24 for config in other.configs.values()}))


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    ablation = load(tmp_path, runs=str(tmp_path / "runs"))
    ablation.folder.mkdir(parents=True)
    (ablation.folder / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already and is no ablation's"):
        take_folder(ablation, make_plan(ablation, {"shapes": 80}))
    assert [p.name for p in ablation.folder.iterdir()] == ["thesis.txt"]


def test_a_folder_of_a_command_that_was_killed_early_is_taken(tmp_path):
    ablation = load(tmp_path, runs=str(tmp_path / "runs"))
    ablation.folder.mkdir(parents=True)
    (ablation.folder / ".lock").touch()
    (ablation.folder / ".unfinished").write_text("name: tw")
    take_folder(ablation, make_plan(ablation, {"shapes": 80})).release()
    assert saved_ablation(ablation.folder).configs == ablation.configs


def test_two_processes_do_not_train_one_ablation(tmp_path):
    ablation = load(tmp_path, runs=str(tmp_path / "runs"))
    plan = make_plan(ablation, {"shapes": 80})
    lock = take_folder(ablation, plan)
    with pytest.raises(UserError, match="is being trained by another process"):
        take_folder(ablation, plan)
    lock.release()
    take_folder(ablation, plan).release()
