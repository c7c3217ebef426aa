"""What runs have in common, against the numbers that would be applied at every step."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.ablation.plan import common_steps, make_plan
from yolo_cosine.ablation.spec import load_ablation
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.schedules.agree import agree_until
from yolo_cosine.schedules.table import SchedulePlan

SPE = 7


def never(config):
    return False


def planned(name="x", **keys):
    return SchedulePlan.of(RunConfig(**{"epochs": 8, "close_mosaic": 2, "warmup_epochs": 1.0, **keys}), SPE, name)


def applied(plan, step):
    schedule, config = plan.schedule, plan.config
    rates = tuple(schedule.lr[g.name](step) * g.lr0 for g in plan.groups)
    mosaic = step // SPE < config.epochs - config.close_mosaic
    return *rates, schedule.momentum(step), schedule.weight_decay(step), schedule.accumulate(step), mosaic


def phase(curve, length, **keys):
    return {"curve": curve, "for": length, **keys}


PHASES = st.sampled_from([
    None,
    [phase("linear", "1ep", start=0, end=1), phase("constant", "rest")],
    [phase("linear", "1ep", start=0, end=1), phase("constant", "rest"), phase("linear", "25%", end=0)],
    [phase("linear", "1ep", start=0, end=1), phase("multistep", "rest", milestones=["3ep", "5ep"], gamma=0.1)],
    [phase("linear", "1ep", start=0, end=1), phase("constant", "20it"), phase("cosine", "rest", end=0.1)],
    [phase("constant", "rest", value=1)],
])  # fmt: skip
KEYS = st.fixed_dictionaries(
    {
        "phases": PHASES, "curve": st.sampled_from(["cosine", "linear", "constant"]), "epochs": st.integers(4, 9),
        "warmup_epochs": st.sampled_from([0.0, 1.0, 1.5]), "close_mosaic": st.integers(0, 3),
        "lr0": st.sampled_from([0.01, 0.02]), "lr_update": st.sampled_from(["step", "epoch"]),
        "warmup_bias_lr": st.sampled_from([0.0, 0.1]), "nominal_batch": st.just(32),
    }
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(KEYS, KEYS)
def test_common_steps_are_those_at_which_the_same_is_applied(one, other):
    a, b = planned(**one), planned(**other)
    found = common_steps(a, b, never)
    steps = min(a.schedule.steps, b.schedule.steps)
    most = steps if a.config.epochs == b.config.epochs else steps - 1
    first = next((k for k in range(most) if applied(a, k) != applied(b, k)), most)
    assert found == first == common_steps(b, a, never)


@settings(max_examples=100, deadline=None)
@given(KEYS, KEYS, KEYS)
def test_what_runs_share_makes_a_tree(one, other, third):
    a, b, c = planned(**one), planned(**other), planned(**third)
    ab, bc, ac = (common_steps(x, y, never) for x, y in ((a, b), (b, c), (a, c)))
    assert ac >= min(ab, bc)


@pytest.mark.parametrize(
    "keys",
    [
        {"batch": 8}, {"imgsz": 320}, {"nominal_batch": 16}, {"model": "yolo11s.yaml"}, {"weight_decay": 0.0},
        {"optimizer": "AdamW"}, {"mosaic": 0.5}, {"hsv_h": 0.0}, {"mixup": 0.1}, {"cutmix": 0.1}, {"multi_scale": 0.5}, {"precision": "fp32"}, {"freeze": 3}, {"box": 5.0},
        {"clip_norm": 0.0}, {"ema_decay": 0.99}, {"eval_every": "2ep"}, {"patience": 3}, {"conf": 0.01}, {"weights": "a.pt"},
        {"lr_factors": {"bias": 2.0}}, {"plateau": {"patience": 2}}, {"nonfinite": {"skips": 0}}, {"log_every": 5},
        {"deterministic": False}, {"data": "coco"}, {"momentum": 0.0}, {"max_det": 100}, {"checkpoint": {"every": "2ep"}}, {"lr0": 0.02, "warmup_start": 0.5},
    ],
    ids=str,
)  # fmt: skip
def test_runs_that_begin_differently_share_nothing(keys):
    assert common_steps(planned(), planned(**keys), never) == 0


@pytest.mark.parametrize(
    "keys",
    [{"workers": 4}, {"cache": "none"}, {"cache_dir": "a"}, {"name": "a"}, {"predictions": False}],
    ids=str,
)
def test_what_changes_no_number_is_shared(keys):
    assert common_steps(planned(), planned(**keys), never) == 8 * SPE


@pytest.mark.parametrize(
    ("keys", "steps"),
    [({}, 4 * SPE), ({"mosaic": 0.0}, 8 * SPE), ({"mosaic": 0.0, "mixup": 0.1}, 4 * SPE), ({"mosaic": 0.0, "cutmix": 0.1}, 4 * SPE)],
    ids=str,
)  # fmt: skip
def test_a_mosaic_free_end_differs_where_images_are_made_of_several(keys, steps):
    assert common_steps(planned(**keys), planned(**keys, close_mosaic=4), never) == steps


def test_a_loss_that_depends_on_the_length_is_shared_among_runs_of_one_length_only():
    assert common_steps(planned(curve="constant"), planned(curve="constant", epochs=9), lambda config: True) == 0
    assert common_steps(planned(), planned(curve="linear"), lambda config: True) == SPE + 1


def test_adams_beta_is_set_when_it_is_built():
    a, b = (planned(optimizer="AdamW", momentum=m, warmup_momentum=m, warmup_epochs=0.0) for m in (0.9, 0.95))
    assert common_steps(a, b, never) == 0


def test_the_groups_that_only_musgd_has_follow_the_curve():
    phases = {name: [phase("constant", "rest", value=1)] for name in ("weight", "norm", "bias")}
    a, b = (planned(optimizer="MuSGD", group_phases=phases, curve=curve) for curve in ("cosine", "linear"))
    assert common_steps(a, b, never) == 0
    assert common_steps(a, planned(optimizer="MuSGD", group_phases=phases, close_mosaic=4), never) == 4 * SPE


def test_agreement_does_not_ask_for_every_step():
    long = [SchedulePlan.of(RunConfig(epochs=1_000_000, curve="constant", lr0=0.01), 1000, "x") for _ in range(2)]
    assert agree_until(*long) == 10**9


def write(folder, **keys):
    path = folder / "a.yaml"
    base = {"epochs": 20, "close_mosaic": 0, "warmup_epochs": 1.0, "batch": 16}
    path.write_text(json.dumps({"base": base, "seeds": 2, **keys}))
    return load_ablation(path)


def test_a_warmup_stable_decay_family_costs_its_longest_and_the_decays(tmp_path):
    warmup, stable = phase("linear", "1ep", start=0, end=1), phase("constant", "rest")
    family = {
        f"wsd{n}": {"epochs": n, "phases": [warmup, stable, phase("one-minus-sqrt", "2ep", end=0)]}
        for n in (10, 15, 20)
    }
    plan = make_plan(write(tmp_path, variants=family), {"shapes": 160})
    # the decay's first step still has the full rate
    assert plan.steps == 2 * 450 and plan.steps_to_train == 2 * (200 + (20 - 1) + (20 - 1))
    assert [run.variant for run in plan.runs][:2] == ["wsd20", "wsd20"]


def test_runs_come_after_those_that_they_begin_from(tmp_path):
    variants = {
        "a": {"curve": "cosine"}, "b": {"curve": "linear"}, "c": {"curve": "constant"}, "d": {"curve": "constant", "epochs": 30},
        "e": {"lr0": 0.02},
    }  # fmt: skip
    plan = make_plan(write(tmp_path, variants=variants), {"shapes": 160})
    seen = {}
    for run in plan.runs:
        for (owner, seed), step in run.forks_from:
            assert seed == run.seed and step in seen[owner, seed].forks
            assert seen[owner, seed].shared < step <= seen[owner, seed].steps
        seen[run.key] = run
    assert len(seen) == len(plan.runs) == 10


def test_without_sharing_nothing_is_shared(tmp_path):
    plan = make_plan(write(tmp_path, variants={"a": {}, "b": {"curve": "linear"}}, share=False), {"shapes": 160})
    assert plan.steps == plan.steps_to_train and not any(run.forks for run in plan.runs)


@pytest.mark.parametrize(("named", "expected"), [({}, "runs/.images"), ({"cache_dir": "fast"}, "fast")])
def test_decoded_images_are_for_all_variants(tmp_path, named, expected):
    ablation = write(tmp_path, variants={"a": {}, "b": {"curve": "linear"}}, set=named, runs="runs")
    assert {run.config.cache_dir for run in make_plan(ablation, {"shapes": 160}).runs} == {expected}
