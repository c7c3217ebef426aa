"""fvcore's ParamSchedulers, equal to fvcore itself, and detectron2's schedules, which are made of them."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.compose import Join, Shift
from yolo_cosine.schedules.curves import Cosine, InvalidSchedule, Linear
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.presets import from_native

REASON = "parity with fvcore needs fvcore"


def make(name, **arguments):
    return {"type": f"{name}ParamScheduler", **arguments}


def composite(parts, lengths, scaling="rescaled"):
    scaling = [scaling] * len(parts) if isinstance(scaling, str) else scaling
    return make("Composite", schedulers=parts, lengths=lengths, interval_scaling=scaling)


def ours(scheduler, total):
    return from_native("fvcore", scheduler["type"], copy.deepcopy(scheduler), {"total_iters": total})


def theirs(scheduler):
    module = pytest.importorskip("fvcore.common.param_scheduler", reason=REASON)
    arguments = copy.deepcopy(scheduler)
    name = arguments.pop("type")
    if name == "CompositeParamScheduler":
        arguments["schedulers"] = [theirs(part) for part in arguments["schedulers"]]
    return getattr(module, name)(**arguments)


def assert_same(scheduler, total, steps):
    peer, schedule = theirs(scheduler), ours(scheduler, total)
    for step in steps:
        try:
            expected = peer(step / total)
        except (RuntimeError, IndexError, ZeroDivisionError):
            expected = None
        if expected is None or isinstance(expected, complex):
            with pytest.raises(InvalidSchedule):
                schedule.lr(step)
        else:
            assert schedule.lr(step) == pytest.approx(expected, rel=1e-9, abs=1e-13), step


COSINE = make("Cosine", start_value=0.1, end_value=1e-4)
LINEAR = make("Linear", start_value=1e-3, end_value=0.1)
STEPS = make("Step", num_updates=40, values=[0.1, 0.01, 0.001])
TABLE = [
    make("Constant", value=0.3),
    COSINE,
    LINEAR,
    make("Linear", start_value=0, end_value=0),
    make("Exponential", start_value=0.1, decay=0.02),
    make("PolynomialDecay", base_value=0.1, power=0.9),
    make("PolynomialDecay", base_value=0.1, power=2),
    make("MultiStep", values=[1, 0.5, 0.25, 0.125], num_updates=50),
    make("MultiStep", values=[1, 0.1, 0.01], milestones=[6, 8, 9]),
    make("MultiStep", values=[1, 0.1, 0.01], num_updates=90, milestones=[2.5, 60]),
    STEPS,
    make("StepWithFixedGamma", base_value=0.1, gamma=0.1, num_decays=3, num_updates=60),
    composite([LINEAR, COSINE], [0.1, 0.9]),
    composite([LINEAR, COSINE], [0.1, 0.8995]),
    composite([LINEAR, COSINE], [0.33, 0.67], ["rescaled", "fixed"]),
    composite([COSINE, LINEAR], [0.5, 0.5], "fixed"),
    composite([make("Constant", value=0.1), STEPS, COSINE], [0.2, 0.0, 0.8]),
    composite([LINEAR, STEPS], [0.2, 0.8]),
    composite([LINEAR, COSINE], [1.0, 0.0]),
    composite([LINEAR, COSINE], [1.0, 0.0], ["rescaled", "fixed"]),
    composite([LINEAR, COSINE], [0.5, 0.5], ["rescaled"]),
    composite([LINEAR, composite([STEPS, COSINE], [0.3, 0.7]), COSINE], [0.2, 0.5, 0.3]),
]


@pytest.mark.parametrize("scheduler", TABLE, ids=lambda s: s["type"])
@pytest.mark.parametrize("total", [1, 7, 100])
def test_equal_to_fvcore(scheduler, total):
    assert_same(scheduler, total, range(total + 20))


@pytest.mark.parametrize("scheduler", TABLE[8:], ids=lambda s: s["type"])
def test_boundaries_come_early_in_a_long_run(scheduler):
    total = 4_000_000
    shares = (0, 0.1, 0.2, 0.25, 1 / 3, 0.33, 0.35, 0.5, 2 / 3, 0.7, 0.75, 1)
    assert_same(scheduler, total, [max(0, int(share * total) + k) for share in shares for k in range(-9, 4)])


values = st.floats(1e-4, 1.0)
leaves = st.one_of(
    st.builds(lambda v: make("Constant", value=v), values),
    st.builds(lambda a, b: make("Cosine", start_value=a, end_value=b), values, values),
    st.builds(lambda a, b: make("Linear", start_value=a, end_value=b), values, values),
    st.builds(lambda a, b: make("Exponential", start_value=a, decay=b), values, values),
    st.builds(lambda a, p: make("PolynomialDecay", base_value=a, power=p), values, st.integers(0, 3)),
    st.builds(lambda v: make("Step", num_updates=9, values=v), st.lists(values, min_size=1, max_size=5)),
    st.builds(lambda v: make("MultiStep", num_updates=60, values=v), st.lists(values, min_size=1, max_size=5)),
)


@st.composite
def composites(draw, parts):
    parts = draw(st.lists(parts, min_size=1, max_size=4))
    weights = [draw(st.integers(1, 9)) for _ in parts]
    scaling = [draw(st.sampled_from(["rescaled", "fixed"])) for _ in parts]
    return composite(parts, [w / sum(weights) for w in weights], scaling)


@settings(max_examples=150, deadline=None)
@given(st.one_of(leaves, composites(st.one_of(leaves, composites(leaves)))), st.integers(1, 200))
def test_any_composite_is_equal_to_fvcore(scheduler, total):
    assert_same(scheduler, total, range(total + 10))


def test_lr0_is_the_highest_value():
    schedule = ours(composite([LINEAR, COSINE], [0.1, 0.9]), 200)
    assert schedule.groups[0].lr0 == 0.1
    assert schedule.factors[0] == Join((Linear(0.01, 1.0, 20), CosinePeriodic(1.0, 0.001, 180)), (0, 20))


def test_a_cosine_comes_back_past_the_end():
    schedule = ours(COSINE, 100)
    assert schedule.lr(100) == pytest.approx(1e-4)
    assert schedule.lr(130) == pytest.approx(schedule.lr(70))


def test_a_power_below_0_ends_with_the_run():
    scheduler = make("PolynomialDecay", base_value=0.1, power=-1)
    assert_same(scheduler, 100, range(101))  # at step 100 both raise


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (make("Cosine", start_value=0.1, end_valu=0), "end_valu: there is no such argument; did you mean end_value"),
        (make("Cosine", start_value=0.1), "end_value is missing"),
        (make("Exponential", start_value=0.1, decay=-0.5), "decay: -0.5"),
        (make("MultiStep", values=[1, 0.1]), "num_updates: missing, and so are milestones"),
        (make("MultiStep", values=[], num_updates=9), "values: the list is empty"),
        (make("MultiStep", values=[1, 0.1], milestones=[5]), "milestones: .* for 2 values; write 2"),
        (make("MultiStep", values=[1, 0.1], milestones=[5, 9], num_updates=9), "for 2 values; write 1"),
        (make("MultiStep", values=[1, 0.1], milestones=[9], num_updates=9), "milestones: 9 is not above 0 and below"),
        (make("MultiStep", values=[1, 0.1, 0.01], milestones=[5, 4, 9]), "milestones: 4 is not above 5"),
        (make("MultiStep", values=[1, 1, 1, 1], num_updates=5), "milestones: 6 is not above 4 and below the end 5"),
        (make("MultiStep", values=[1, 1, 1], num_updates=2), "num_updates: 2 is less than the 3 values"),
        (make("Step", num_updates=0, values=[1]), "num_updates: 0"),
        (make("Step", num_updates=9, values=[]), "values: "),
        (make("Step", num_updates=9, values=0.1), "values: 0.1 is no list"),
        (make("StepWithFixedGamma", base_value=0, gamma=0.1, num_decays=3, num_updates=9), "base_value: 0"),
        (make("StepWithFixedGamma", base_value=1, gamma=0.1, num_decays=3, num_updates=9.0), "num_updates: 9.0"),
        (composite([], []), "schedulers: the list is empty"),
        (composite([LINEAR], [0.5, 0.5]), "lengths: 2 for 1 schedulers"),
        (composite([LINEAR, COSINE], [0.5, 0.4]), "add up to 0.9, not to 1"),
        (composite([LINEAR], [1.0], "scaled"), "interval_scaling: 'scaled'"),
        (composite([make("Cos")], [1.0]), r"schedulers\[0\].type: 'CosParamScheduler' is none of"),
        (composite([LINEAR, make("Cosine", start_value=1)], [0.5, 0.5]), r"schedulers\[1\]: end_value is missing"),
        (composite([3], [1.0]), r"schedulers\[0\]: 3 is no scheduler"),
    ],
)
def test_mistakes(scheduler, message):
    with pytest.raises(InvalidSchedule, match=message):
        ours(scheduler, 100)


def test_a_run_has_a_length():
    with pytest.raises(InvalidSchedule, match="total_iters is missing"):
        from_native("fvcore", "ConstantParamScheduler", {"value": 0.1})
    with pytest.raises(InvalidSchedule, match="total_iters: 0 steps are no run"):
        ours(COSINE, 0)
    assert from_native("fvcore", STEPS["type"], STEPS).length == 40


# --- detectron2 -------------------------------------------------------------------------------------------------------


def detectron2(name, run=None, **solver):
    return from_native("detectron2", name, solver, run)


def test_warmup_multistep():
    """Source: detectron2's defaults and its 1x schedule (configs/Base-RCNN-FPN.yaml: 0.02, steps 60000 and 80000 of 90000)."""
    schedule = detectron2("WarmupMultiStepLR", BASE_LR=0.02, STEPS=(60000, 80000), MAX_ITER=90000)
    got = [schedule.lr(k) for k in (0, 500, 999, 1000, 59999, 60000, 80000, 90000)]
    expected = [0.02 * f for f in (0.001, 0.5005, 0.999001, 1, 1, 0.1, 0.01, 0.01)]
    assert got == pytest.approx(expected)
    with pytest.raises(InvalidSchedule, match="end with the run"):
        schedule.lr(90001)


def test_warmup_cosine():
    """Source: detectron2/solver/lr_scheduler.py: the warmup aims at what the cosine is at its end, on the run's clock."""
    schedule = detectron2("WarmupCosineLR", BASE_LR=0.02, BASE_LR_END=0.002, MAX_ITER=4000)
    at_end = 0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2
    assert schedule.factors[0] == Join(
        (Linear(0.001, at_end, 1000), Shift(CosinePeriodic(1.0, 0.1, 4000), 1000)), (0, 1000)
    )
    assert schedule.lr(4000) == pytest.approx(0.002)


def test_rescaled_interval():
    """Source: detectron2/solver/lr_scheduler.py: with RESCALE_INTERVAL the schedule starts after the warmup."""
    schedule = detectron2("WarmupCosineLR", MAX_ITER=4000, RESCALE_INTERVAL=True, WARMUP_METHOD="constant")
    assert schedule.lr(999) == pytest.approx(0.001 * 0.001)
    assert schedule.lr(1000) == pytest.approx(0.001)
    assert schedule.lr(2500) == pytest.approx(0.001 / 2)


def test_step_with_fixed_gamma():
    """Source: detectron2/solver/build.py: NUM_DECAYS falls at equal distances."""
    schedule = detectron2("WarmupStepWithFixedGammaLR", MAX_ITER=400, WARMUP_ITERS=0)
    assert [schedule.lr(k) / 0.001 for k in (0, 99, 100, 200, 300, 399)] == pytest.approx(
        [1, 1, 0.1, 0.01, 0.001, 0.001]
    )


def test_base_rates():
    assert [g.lr0 for g in detectron2("WarmupCosineLR").groups] == [0.001]
    assert [g.lr0 for g in detectron2("WarmupCosineLR", {"lr0": 0.5, "total_iters": 9}).groups] == [0.5]
    assert [g.lr0 for g in detectron2("WarmupCosineLR", {"lr0": [0.5, 0.1]}, BASE_LR=0.5).groups] == [0.5, 0.1]
    assert detectron2("WarmupCosineLR", {"total_iters": 900}).length == 900
    assert isinstance(detectron2("WarmupCosineLR", WARMUP_ITERS=0).factors[0], CosinePeriodic)
    assert not isinstance(detectron2("WarmupCosineLR", WARMUP_ITERS=0).factors[0], Cosine)  # it comes back past the end


@pytest.mark.parametrize(
    ("name", "solver", "message"),
    [
        ("WarmupCosineLR", {"BASE_LR_END": 1.0}, "BASE_LR_END: 1.0"),
        ("WarmupCosineLR", {"WARMUP_METHOD": "burnin"}, "WARMUP_METHOD: 'burnin'"),
        ("WarmupCosineLR", {"MAX_ITER": 0}, "MAX_ITER: 0"),
        ("WarmupCosineLR", {"MAX_ITERS": 10}, "did you mean MAX_ITER"),
        ("WarmupMultiStepLR", {"STEPS": (40000,)}, "milestones: 40000"),
        ("WarmupMultiStepLR", {"STEPS": (30000, 20000)}, "milestones: 20000"),
        ("WarmupStepWithFixedGammaLR", {"MAX_ITER": 1000}, "WARMUP_ITERS: 1000 are all of MAX_ITER"),
        ("WarmupStepWithFixedGammaLR", {"NUM_DECAYS": 0}, "num_decays: 0"),
        ("WarmupPolyLR", {}, "'WarmupPolyLR' is no schedule of it"),
    ],
)
def test_mistakes_of_a_solver(name, solver, message):
    with pytest.raises(InvalidSchedule, match=message):
        detectron2(name, **solver)


def test_steps_past_the_run_are_ignored_and_told():
    schedule = detectron2("WarmupMultiStepLR", STEPS=(30, 80, 200), MAX_ITER=100, WARMUP_ITERS=0)
    assert schedule.lr(99) == pytest.approx(0.001 * 0.01)
    assert "[200]" in schedule.notes[0]
