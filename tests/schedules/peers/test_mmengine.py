"""MMEngine's schedulers: equal to MMEngine itself, alone and acting on each other; RTMDet and MMDetection's schedules."""

from __future__ import annotations

import math
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.compose import Join, Product
from yolo_cosine.schedules.curves import Constant, Cosine, InvalidSchedule, Linear
from yolo_cosine.schedules.expression import Clock, read_phases, write_phases
from yolo_cosine.schedules.peers.mmengine_rules import Recursion
from yolo_cosine.schedules.presets import argument_names, from_native

REASON = "parity with MMEngine needs mmengine (and torch)"
LR0S = [0.1, 0.01]
PER_EPOCH = 4
COMMON = {"lr0": LR0S, "momentum": 0.9, "iters_per_epoch": PER_EPOCH, "epochs": 10}


def ours(schedulers, common=COMMON, **arguments):
    return from_native("mmengine", "any", {"param_scheduler": schedulers, **arguments}, common)


def theirs(schedulers, count, metrics=()):
    """MMEngine's own values, one row of (learning rates, momentum) per index, and what it raised in the end."""
    torch = pytest.importorskip("torch", reason=REASON)
    pytest.importorskip("mmengine.optim", reason=REASON)
    from mmengine.registry import PARAM_SCHEDULERS

    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr0} for lr0 in LR0S]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9)
    defaults = {"optimizer": optimizer, "epoch_length": PER_EPOCH}
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the optimizer does no steps here
        built = [PARAM_SCHEDULERS.build(dict(s), default_args=defaults) for s in schedulers]
        by_epoch = all(s.by_epoch for s in built)
        try:
            for index in range(count):
                rows.append(([g["lr"] for g in optimizer.param_groups], optimizer.param_groups[0]["momentum"]))
                if not by_epoch:
                    for scheduler in built:  # ParamSchedulerHook.after_train_iter
                        if not scheduler.by_epoch:
                            scheduler.step()
                    if (index + 1) % PER_EPOCH:
                        continue
                for scheduler in built:  # after_train_epoch, after_val_epoch
                    if scheduler.by_epoch:
                        scheduler.step()
                epoch = index if by_epoch else index // PER_EPOCH
                for scheduler in built:
                    if getattr(scheduler, "need_val_args", False) and epoch < len(metrics):
                        scheduler.step({"loss": metrics[epoch]})
        except (ValueError, ZeroDivisionError) as error:
            return rows, error
    return rows, None


def assert_same(schedulers, count=45, metrics=()):
    rows, error = theirs(schedulers, count, metrics)
    schedule = ours(schedulers, metrics=list(metrics))
    for index, (rates, momentum) in enumerate(rows):
        assert [schedule.lr(index, g) for g in range(2)] == pytest.approx(rates, rel=1e-9, abs=1e-13), index
        if schedule.momenta:
            assert schedule.momentum(index) == pytest.approx(momentum, rel=1e-9), index
    if error is not None:
        with pytest.raises(InvalidSchedule):
            schedule.lr(len(rows))


def linear(**arguments):
    return {"type": "LinearLR", "start_factor": 0.1, **arguments}


def cosine(**arguments):
    return {"type": "CosineAnnealingLR", **arguments}


BY_STEP = {"by_epoch": False}
CONVERTED = {"convert_to_iter_based": True}
TABLE = [
    [{"type": "ConstantLR", "factor": 0.5, "begin": 2, "end": 9}],
    [{"type": "ConstantLR"}],
    [{"type": "ConstantLR", "factor": 0.0, "end": 4}],
    [linear(end=5)],
    [linear(begin=-2, end=5)],
    [linear(begin=0.5, end=5)],
    [linear(end=12, end_factor=0.0)],
    [linear(start_factor=0.0, end=5)],
    [{"type": "ExponentialLR", "gamma": 0.9, "begin": 3, "end": 20}],
    [{"type": "ExponentialMomentum", "gamma": -0.5}],
    [{"type": "StepLR", "step_size": 2.5, **BY_STEP}],
    [{"type": "StepLR", "step_size": 0}],
    [{"type": "MultiStepLR", "milestones": [0, 3, 3, 2.5, 70], "gamma": 0.5, "begin": 2, "end": 30}],
    [{"type": "MultiStepLR", "milestones": [0.5, 3.25], **CONVERTED}],
    [cosine(T_max=10)],
    [cosine(T_max=10, eta_min=0.02)],
    [cosine(T_max=1, eta_min_ratio=0.1)],
    [cosine(T_max=2.5, eta_min=0.001)],
    [cosine(T_max=0, end=10)],
    [cosine(T_max=7, begin=2.6, end=9.3, eta_min_ratio=0.01, **CONVERTED)],
    [{"type": "PolyLR", "eta_min": 1e-3, "power": 2, "end": 12}],
    [{"type": "PolyLR", "power": 0.9, "begin": 3, "end": 4}],
    [{"type": "PolyLR", "power": -1, "end": 4}],
    [{"type": "PolyLR", "power": 0, "end": 4}],
    [{"type": "PolyMomentum", "eta_min": 0.5, "end": 9.5}],
    [{"type": "CosineRestartLR", "periods": [3, 0, 5], "restart_weights": [1, 9, 0.5], "eta_min": 1e-3}],
    [{"type": "CosineRestartLR", "periods": [2.5, 2.5, 3], "restart_weights": [1, 1, 0.5], "eta_min_ratio": 0.1}],
    [{"type": "CosineRestartLR", "periods": [2.1, 4], "restart_weights": [1, 0.5], "eta_min": 0.0, **CONVERTED}],
    [{"type": "OneCycleLR", "eta_max": [0.1, 0.02], "total_steps": 30}],
    [{"type": "OneCycleLR", "eta_max": 0.1, "total_steps": 33, "three_phase": True, "anneal_strategy": "linear"}],
    [{"type": "OneCycleLR", "eta_max": 0.1, "total_steps": 1}],
    [{"type": "OneCycleLR", "eta_max": 0.1, "total_steps": 8, "pct_start": 0.0}],
    [{"type": "OneCycleLR", "eta_max": 0.1, "total_steps": 8, "pct_start": 1.0}],
    [{"type": "OneCycleLR", "eta_max": 0.1, "begin": 3, "end": 9, **CONVERTED}],
    [{"type": "OneCycleLR", "eta_max": 0.1, "total_steps": 8}, cosine(T_max=4, begin=3, eta_min_ratio=0.1)],
    [linear(end=10, **BY_STEP), cosine(T_max=10, **CONVERTED)],  # both multiply
    [linear(end=10, **BY_STEP), cosine(T_max=8, eta_min=1e-3)],  # an epoch's cosine towards eta_min over a warmup
    [cosine(T_max=8, eta_min=1e-3), linear(end=10, **BY_STEP), {"type": "StepLR", "step_size": 9, **BY_STEP}],
    [linear(end=6, **BY_STEP), cosine(T_max=16, eta_min=1e-3, begin=6, end=22, **BY_STEP), {"type": "LinearMomentum"}],
    [cosine(end=10), {"type": "ExponentialLR", "gamma": 0.9, "begin": 6}, linear(begin=20, end=30)],
    [{"type": "CosineAnnealingParamScheduler", "param_name": "momentum", "T_max": 5, "eta_min": 0.85}],
]


@pytest.mark.parametrize("schedulers", TABLE, ids=lambda s: "+".join(e["type"] for e in s))
def test_equal_to_mmengine(schedulers):
    assert_same(schedulers)


METRICS = [1.0, 0.9, 0.8, 0.8, 0.8, 0.8, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7]
PLATEAUS = [
    [{"type": "ReduceOnPlateauLR", "factor": 0.5, "patience": 1, "cooldown": 1, "min_value": [0.02, 0.001]}],
    [{"type": "ReduceOnPlateauLR", "factor": 0.5, "patience": 0, "begin": 3, "end": 9, "eps": 0.003}],
    [{"type": "ReduceOnPlateauMomentum", "rule": "greater", "patience": 2, "threshold_rule": "abs"}],
    [linear(end=10, **BY_STEP), {"type": "ReduceOnPlateauLR", "patience": 1, "min_value": 1e-3}],
    [cosine(T_max=9, eta_min=0.01), {"type": "ReduceOnPlateauLR", "patience": 1, "factor": 0.0, "threshold": 0.2}],
]


@pytest.mark.parametrize("schedulers", PLATEAUS)
def test_plateau_equal_to_mmengine(schedulers):
    assert_same(schedulers, metrics=METRICS)


def rates(low=0.01):
    return st.floats(low, 1.0)


own_arguments = st.one_of(
    st.fixed_dictionaries({"type": st.just("ConstantLR"), "factor": rates()}),
    st.fixed_dictionaries({"type": st.just("LinearLR"), "start_factor": rates()}, optional={"end_factor": rates()}),
    st.fixed_dictionaries({"type": st.just("ExponentialLR"), "gamma": st.floats(0.5, 1.1)}),
    st.fixed_dictionaries({"type": st.just("StepLR"), "step_size": st.integers(1, 9)}, optional={"gamma": rates()}),
    st.fixed_dictionaries({"type": st.just("MultiStepLR"), "milestones": st.lists(st.integers(0, 20), max_size=3)}),
    st.fixed_dictionaries(
        {"type": st.just("CosineAnnealingLR"), "eta_min": st.floats(0.0, 0.05)}, optional={"T_max": st.integers(1, 20)}
    ),
    st.fixed_dictionaries({"type": st.just("PolyLR"), "eta_min": st.floats(0.0, 0.05), "power": st.floats(0.5, 3.0)}),
    st.fixed_dictionaries(
        {"type": st.just("CosineRestartLR"), "periods": st.tuples(st.integers(1, 9)), "eta_min_ratio": rates(0.0)}
    ),
    st.fixed_dictionaries({"type": st.just("LinearMomentum"), "start_factor": rates()}),
)


@st.composite
def schedulers(draw):
    """A scheduler with a window of at least two steps; one of one step is not imitated where it multiplies."""
    clock = draw(st.sampled_from([{}, BY_STEP, CONVERTED]))
    begin = draw(st.integers(0, 12))
    return {**draw(own_arguments), **clock, "begin": begin, "end": begin + draw(st.integers(2, 15))}


@settings(max_examples=150, deadline=None)
@given(st.lists(schedulers(), min_size=1, max_size=3))
def test_any_list_is_equal_to_mmengine(schedulers):
    assert_same(schedulers, count=75)


def test_first_and_last_step():
    """The base rate comes one step before a warmup's end, and a cosine over its window stops a step short."""
    schedule = ours([linear(end=10, **BY_STEP), cosine(begin=10, end=30, **BY_STEP)], {"lr0": 1.0})
    assert schedule.factors == (
        Join((Linear(0.1, 1.0, 9), Cosine(1.0, 0.0, 20), Constant(schedule.lr(29))), (0, 10, 30)),
    )
    assert [schedule.lr(0), schedule.lr(9), schedule.lr(10)] == [0.1, 1.0, 1.0]
    assert schedule.lr(10**9) == schedule.lr(29) == pytest.approx((1 + math.cos(math.pi * 19 / 20)) / 2)


def test_a_cosine_without_end_comes_back_to_the_initial_value():
    schedule = ours([linear(start_factor=0.5, end_factor=0.5, end=2), cosine(begin=2, T_max=10)], {"lr0": 1.0})
    assert schedule.lr(2) == 0.5  # the warmup ended at half
    assert schedule.lr(12) == 0.0
    assert schedule.lr(22) == 1.0  # but the way back is of the initial value


def test_what_counts_epochs_is_asked_for_epochs():
    assert ours([cosine(T_max=10)]).clock == "epoch"
    assert ours([cosine(T_max=10, **CONVERTED)]).clock == "step"
    assert ours([cosine(T_max=10), linear(end=5, **BY_STEP)]).clock == "step"


def test_factors_are_a_product_and_not_a_recursion():
    schedule = ours([linear(end=6, **BY_STEP), {"type": "MultiStepLR", "milestones": [3]}], {"lr0": 1.0, **COMMON})
    assert isinstance(schedule.factors[0], Product)


def test_a_recursion_is_plain_data_too():
    schedule = ours([linear(end=10, **BY_STEP), cosine(T_max=8, eta_min=1e-3)]).factors[0]
    assert isinstance(schedule.pieces[0], Recursion)
    again = read_phases(write_phases(schedule), Clock(PER_EPOCH, 200), "phases")
    assert [again(k) for k in range(40)] == [schedule(k) for k in range(40)]


def test_a_missing_end_is_told_where_it_counts():
    assert "is missing" in ours([{"type": "PolyLR"}]).notes[0]
    assert not ours([cosine(T_max=9)]).notes
    assert not ours([{"type": "PolyLR", "end": 9}]).notes


def test_one_step_of_warmup_is_none():
    schedule = ours([linear(end=1, **BY_STEP), cosine(begin=1, end=51, **BY_STEP)], {"lr0": 1.0})
    assert schedule.lr(0) == schedule.lr(1) == 1.0
    assert "one step" in schedule.notes[0]


@pytest.mark.parametrize("length", [10, 2.5])
def test_quadratic_warmup(length):
    """Source: mmdet/engine/schedulers/quadratic_warmup.py: X(t) = X(t-1) + (2t + 1) / length**2 * X_base, X(-1) = 0."""
    quadratic = {"type": "mmdet.QuadraticWarmupLR", "by_epoch": False, "end": length}
    schedule = ours([quadratic], {"lr0": 0.1})
    x = 0.0
    for t in range(math.ceil(length)):
        x += (2 * t + 1) / length**2 * 0.1
        assert schedule.lr(t) == pytest.approx(x, rel=1e-12)
    assert schedule.lr(10**6) == pytest.approx(x, rel=1e-12)


def test_rtmdet():
    """Source: MMDetection, configs/rtmdet/rtmdet_l_8xb32-300e_coco.py."""
    schedule = from_native("rtmdet", "RTMDet", {}, {"iters_per_epoch": 100})
    assert schedule.groups[0].lr0 == 0.004
    assert schedule.factors[0].pieces[:2] == (Linear(1e-5, 1.0, 999), Cosine(1.0, 0.05, 15_000))
    assert schedule.factors[0].starts[:2] == (0, 15_000)
    scaled = from_native("rtmdet", "RTMDet", {}, {"lr0": 0.001, "epochs": 100, "iters_per_epoch": 100})
    assert scaled.lr(9_999) == pytest.approx(0.001 * 0.05, rel=1e-5)
    assert "odd" in from_native("rtmdet", "RTMDet", {"max_epochs": 3}, {"iters_per_epoch": 100}).notes[0]


@pytest.mark.parametrize(
    ("name", "falls"), [("schedule_1x", (8, 11)), ("schedule_2x", (16, 22)), ("schedule_20e", (16, 19))]
)
def test_mmdetection(name, falls):
    """Source: MMDetection 3, configs/_base_/schedules."""
    schedule = from_native("mmdetection", name, {}, {"iters_per_epoch": 1000})
    assert schedule.lr(0) == pytest.approx(0.02 * 0.001)
    for k, epoch in enumerate(falls):
        assert schedule.lr(epoch * 1000 - 1) == pytest.approx(0.02 * 0.1**k)
        assert schedule.lr(epoch * 1000) == pytest.approx(0.02 * 0.1 ** (k + 1))


def test_a_scheduler_by_its_own_name():
    alone = from_native("mmengine", "CosineAnnealingLR", {"T_max": 7, "eta_min": 0.001}, COMMON)
    assert alone == ours([cosine(T_max=7, eta_min=0.001)])
    assert argument_names("mmengine", "CosineAnnealingLR")[:3] == ("T_max", "eta_min", "eta_min_ratio")


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (cosine(T_mx=3), "T_mx: there is no such argument; did you mean T_max"),
        ({"type": "CosineAnealingLR"}, "did you mean CosineAnnealingLR"),
        ({"type": "StepLR"}, "step_size is missing"),
        ("StepLR", "is no scheduler"),
        (cosine(T_max=-3), "T_max: -3"),
        (cosine(eta_min=0.1, eta_min_ratio=0.1), "and not both"),
        (cosine(end=0), "end: 0 is not above begin=0"),
        (cosine(end=0.1, **CONVERTED), "end: 0 is not above begin=0"),
        (cosine(by_epoch=False, **CONVERTED), "needs by_epoch=True"),
        (cosine(last_step=3), "last_step: 3"),
        (linear(start_factor=1.5), "start_factor: 1.5 is not from 0 to 1"),
        (linear(end_factor=-1), "end_factor: -1"),
        ({"type": "ConstantLR", "factor": 2}, "factor: 2"),
        ({"type": "MultiStepLR", "milestones": ["a"]}, "wrong type"),
        ({"type": "CosineRestartLR", "periods": [3]}, "one of eta_min=None"),
        ({"type": "CosineRestartLR", "periods": [3, 4], "eta_min": 0.0}, "restart_weights: 1 for 2 periods"),
        ({"type": "CosineRestartLR", "periods": [-3], "eta_min": 0.0}, "periods: -3"),
        ({"type": "OneCycleLR", "total_steps": 0}, "total_steps: 0"),
        ({"type": "OneCycleLR", "total_steps": 5, "pct_start": 1}, "pct_start: 1 is no fraction"),
        ({"type": "OneCycleLR", "total_steps": 5, "anneal_strategy": "x"}, "anneal_strategy: 'x'"),
        ({"type": "OneCycleLR", "total_steps": 5, "eta_max": [1.0]}, "eta_max: 1 values for 2 groups"),
        ({"type": "OneCycleLR", "total_steps": 2, "pct_start": 0.5}, "divides by zero"),
        ({"type": "OneCycleMomentum"}, "is no scheduler"),
        ({"type": "QuadraticWarmupLR"}, "end: is missing"),
        ({"type": "StepParamScheduler", "step_size": 3, "param_name": "betas"}, "param_name: 'betas'"),
        ({"type": "ReduceOnPlateauLR"}, "metrics: missing"),
        ({"type": "ReduceOnPlateauLR", "by_epoch": False}, "by_epoch"),
    ],
)
def test_mistakes(scheduler, message):
    with pytest.raises(InvalidSchedule, match=message):
        ours([scheduler])


def test_mistakes_of_the_call():
    with pytest.raises(InvalidSchedule, match="did you mean CosineAnnealingLR"):
        from_native("mmengine", "CosineAnealingLR", {}, COMMON)
    with pytest.raises(InvalidSchedule, match="step_size: put it into param_scheduler"):
        from_native("mmengine", "StepLR", {"step_size": 3, "param_scheduler": [cosine()]}, COMMON)
    with pytest.raises(InvalidSchedule, match="momentum is missing"):
        from_native("mmengine", "StepMomentum", {"step_size": 3}, {"lr0": 0.1})
    with pytest.raises(InvalidSchedule, match="iters_per_epoch is missing"):
        from_native("mmengine", "StepLR", {"step_size": 3, **CONVERTED}, {"lr0": 0.1})
    with pytest.raises(InvalidSchedule, match="monitor: 'loss' is none of the metrics map"):
        ours([{"type": "ReduceOnPlateauLR"}], metrics=[{"map": 0.1}])
    with pytest.raises(InvalidSchedule, match="too far"):
        ours([{"type": "StepLR", "step_size": 9}, cosine(T_max=8, eta_min=1e-3)]).lr(10**8)
