"""Keras' schedules: equal to keras itself (on jax), and clear about mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.compose import Join
from yolo_cosine.schedules.curves import Cosine, InvalidSchedule, Linear
from yolo_cosine.schedules.cycles import CosineRestarts
from yolo_cosine.schedules.native import NativeGroup
from yolo_cosine.schedules.presets import from_native, schedules_of

STEPS = 64

EXP = {"initial_learning_rate": 0.1, "decay_steps": 20, "decay_rate": 0.5}
POLY = {"initial_learning_rate": 0.1, "decay_steps": 20}
WARM = {"initial_learning_rate": 0.0, "decay_steps": 30, "warmup_target": 0.1, "warmup_steps": 10}
RESTARTS = {"initial_learning_rate": 0.1, "first_decay_steps": 7}
TABLE = [
    ("ExponentialDecay", EXP),
    ("ExponentialDecay", EXP | {"staircase": True, "name": "falls"}),
    ("ExponentialDecay", EXP | {"decay_steps": 0.1, "decay_rate": 0.99, "staircase": True}),
    ("ExponentialDecay", EXP | {"decay_rate": 1.5}),
    ("ExponentialDecay", EXP | {"decay_rate": 0.0}),
    ("PiecewiseConstantDecay", {"boundaries": [30, 50], "values": [0.1, 0.01, 0.001]}),
    ("PiecewiseConstantDecay", {"boundaries": [0, 20, 20, 40.7], "values": [0.1, 0.2, 0.3, 0.4, 0.0]}),
    ("PolynomialDecay", POLY),
    ("PolynomialDecay", POLY | {"power": 2.0, "end_learning_rate": 0.2}),
    ("PolynomialDecay", POLY | {"power": 0.0}),
    ("PolynomialDecay", POLY | {"cycle": True}),
    ("PolynomialDecay", POLY | {"cycle": True, "power": 0.5, "decay_steps": 7.5, "end_learning_rate": 0.0}),
    ("PolynomialDecay", POLY | {"cycle": True, "power": 0.0}),
    ("InverseTimeDecay", EXP),
    ("InverseTimeDecay", EXP | {"staircase": True, "decay_rate": 2}),
    ("CosineDecay", POLY),
    ("CosineDecay", POLY | {"alpha": 0.1, "warmup_steps": 10}),
    ("CosineDecay", POLY | {"decay_steps": 1}),
    ("CosineDecay", POLY | {"decay_steps": 12.5, "alpha": 2.0}),
    ("CosineDecay", WARM),
    ("CosineDecay", WARM | {"alpha": 0.01, "initial_learning_rate": 0.05}),
    ("CosineDecay", WARM | {"warmup_steps": 0}),
    ("CosineDecay", WARM | {"warmup_steps": 4.5}),
    ("CosineDecayRestarts", RESTARTS),
    ("CosineDecayRestarts", RESTARTS | {"t_mul": 1.0, "m_mul": 0.8, "alpha": 0.01}),
    ("CosineDecayRestarts", RESTARTS | {"t_mul": 3.0, "m_mul": 0.5, "alpha": 0.1, "first_decay_steps": 1}),
    ("CosineDecayRestarts", RESTARTS | {"t_mul": 1.5, "m_mul": 1.2, "first_decay_steps": 8}),
    ("CosineDecayRestarts", RESTARTS | {"t_mul": 0.75, "alpha": 0.1, "first_decay_steps": 17}),
]


@pytest.fixture(scope="module")
def keras_schedules():
    """Keras' schedules in float64 (but for its cosine, power and logarithm), which is not its default."""
    jax = pytest.importorskip("jax", reason="keras computes with jax here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", "jax")
        keras = pytest.importorskip("keras", reason="parity with keras needs keras", exc_type=ImportError)
    if keras.backend.backend() != "jax":
        pytest.skip(f"keras was imported before, with {keras.backend.backend()}")
    floatx = keras.config.floatx()
    keras.config.set_floatx("float64")
    with jax.enable_x64(True):
        yield keras.optimizers.schedules
    keras.config.set_floatx(floatx)


def assert_same(ours, theirs) -> None:
    jax = pytest.importorskip("jax")
    expected = jax.vmap(theirs)(jax.numpy.arange(STEPS)).tolist()
    assert [ours.lr(step) for step in range(STEPS)] == pytest.approx(expected, rel=1e-5, abs=2e-7 * max(expected))


@pytest.mark.parametrize(("schedule", "arguments"), TABLE)
def test_equal_to_keras(keras_schedules, schedule, arguments):
    assert_same(from_native("keras", schedule, arguments), getattr(keras_schedules, schedule)(**arguments))


def test_every_schedule_of_keras_is_compared(keras_schedules):
    assert {name for name, _ in TABLE} == set(schedules_of("keras"))
    classes = {name for name in vars(keras_schedules) if name[0].isupper()}
    assert classes - {"LearningRateSchedule"} == set(schedules_of("keras"))


rates = st.floats(0.001, 1.0)
lengths = st.integers(1, 48)  # over many steps at once jax divides by multiplying, and 49 * (1 / 49) is below 1
ARGUMENTS = {
    "ExponentialDecay": {
        "initial_learning_rate": rates, "decay_steps": lengths, "decay_rate": st.floats(0.2, 1.1),
        "staircase": st.booleans(),
    },
    "PolynomialDecay": {
        "initial_learning_rate": rates, "decay_steps": lengths, "end_learning_rate": rates,
        "power": st.sampled_from([0.5, 1.0, 2.0, 3.5]), "cycle": st.booleans(),
    },
    "InverseTimeDecay": {
        "initial_learning_rate": rates, "decay_steps": lengths, "decay_rate": st.floats(0, 3),
        "staircase": st.booleans(),
    },
    "CosineDecay": {
        "initial_learning_rate": rates, "decay_steps": lengths, "alpha": st.floats(0, 2),
        "warmup_target": st.none() | rates, "warmup_steps": st.integers(0, 30),
    },
    "CosineDecayRestarts": {
        "initial_learning_rate": rates, "first_decay_steps": st.integers(1, 30),
        "t_mul": st.sampled_from([1.0, 2.0, 3.0]), "m_mul": st.floats(0.1, 1.2), "alpha": st.floats(0, 1),
    },
}  # fmt: skip


@pytest.mark.parametrize("schedule", ARGUMENTS)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_equal_to_keras_whatever_the_arguments(keras_schedules, schedule, data):
    arguments = data.draw(st.fixed_dictionaries(ARGUMENTS[schedule]))
    assert_same(from_native("keras", schedule, arguments), getattr(keras_schedules, schedule)(**arguments))


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        ("ExponentialDecay", EXP | {"decay_steps": 0}, "decay_steps: 0 is not above 0"),
        ("ExponentialDecay", EXP | {"decay_rate": -0.5}, "decay_rate: -0.5 is below 0"),
        ("InverseTimeDecay", EXP | {"decay_steps": -1}, "decay_steps: -1 is not above 0"),
        ("InverseTimeDecay", EXP | {"decay_rate": -0.5}, "decay_rate: -0.5 is below 0"),
        ("PolynomialDecay", POLY | {"decay_steps": 0}, "decay_steps: 0 is not above 0"),
        ("PolynomialDecay", POLY | {"power": -1}, "power: -1 is below 0"),
        ("PolynomialDecay", POLY | {"cycles": True}, "cycles: .* did you mean cycle"),
        ("CosineDecay", POLY | {"decay_steps": 0}, "decay_steps: 0 is not above 0"),
        ("CosineDecay", WARM | {"warmup_steps": -1}, "warmup_steps: -1 is below 0"),
        ("CosineDecay", {"decay_steps": 9}, "initial_learning_rate is missing"),
        ("CosineDecay", POLY | {"decay_steps": "20"}, "wrong type"),
        ("CosineDecayRestarts", RESTARTS | {"first_decay_steps": 0}, "first_decay_steps: 0 is not above 0"),
        ("CosineDecayRestarts", RESTARTS | {"t_mul": 0}, "t_mul: 0 gives the second cycle no steps"),
        ("PiecewiseConstantDecay", {"boundaries": [3], "values": [1.0]}, "values: 1 for 1 boundaries"),
        ("PiecewiseConstantDecay", {"boundaries": [], "values": [1.0]}, "boundaries: there is none"),
        ("PiecewiseConstantDecay", {"boundaries": [6, 3], "values": [1.0, 0.5, 0.1]}, "are not in order"),
        ("CosineDecays", {}, "did you mean CosineDecay"),
    ],
)
def test_a_mistake_is_named(schedule, arguments, message):
    with pytest.raises(InvalidSchedule, match=message):
        from_native("keras", schedule, arguments)


def test_composed_of_our_curves_with_the_peak_as_lr0():
    ours = from_native("keras", "CosineDecay", WARM | {"alpha": 0.1})
    assert ours.groups == (NativeGroup("all", 0.1),)
    assert ours.factors == (Join((Linear(0.0, 1.0, 10), Cosine(1.0, 0.1, 30)), (0, 10)),)
    assert ours.length == 40
    assert from_native("keras", "CosineDecayRestarts", RESTARTS).factors == (CosineRestarts(1.0, 0.0, 7, 2.0),)


def test_decay_steps_do_not_include_the_warmup():
    ours = from_native("keras", "CosineDecay", WARM)
    assert ours.lr(0) == 0
    assert ours.lr(10) == 0.1
    assert ours.lr(39) > 0
    assert ours.lr(40) == ours.lr(10**9) == 0


def test_a_boundary_still_has_the_value_before_it():
    ours = from_native("keras", "PiecewiseConstantDecay", {"boundaries": [30], "values": [0.1, 0.01]})
    assert [ours.lr(step) for step in (29, 30, 31, 10**9)] == pytest.approx([0.1, 0.1, 0.01, 0.01])


def test_a_polynomial_that_cycles_rises_again_less_and_less():
    ours = from_native("keras", "PolynomialDecay", POLY | {"cycle": True, "end_learning_rate": 0.0})
    assert [ours.lr(step) for step in (0, 20, 40, 60)] == pytest.approx([0.1, 0, 0, 0], abs=1e-15)
    assert [ours.lr(step) for step in (21, 41, 61)] == pytest.approx([0.1 * 19 / 40, 0.1 * 19 / 60, 0.1 * 19 / 80])


def test_cycles_that_shrink_to_nothing_have_no_rate_afterwards():
    ours = from_native("keras", "CosineDecayRestarts", RESTARTS | {"t_mul": 0.5, "first_decay_steps": 8})
    assert ours.lr(8) == ours.lr(12) == pytest.approx(0.1)
    with pytest.raises(InvalidSchedule, match="shrunk the cycles to nothing at step 16"):
        ours.lr(16)


def test_restarts_are_found_where_logarithms_are_rounded():
    ours = from_native("keras", "CosineDecayRestarts", RESTARTS | {"t_mul": 3.0, "m_mul": 0.9, "alpha": 0.1})
    for cycle in range(12):
        height = 0.9 * 0.9**cycle
        assert ours.lr(7 * (3**cycle - 1) // 2) == pytest.approx(0.1 * (0.1 + height))


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (WARM | {"initial_learning_rate": 0}, "initial_learning_rate=0 is a whole number"),
        (POLY | {"warmup_steps": 5}, "warmup_steps=5 is not used"),
    ],
)
def test_a_trap_is_noted(arguments, note):
    (said,) = from_native("keras", "CosineDecay", arguments).notes
    assert note in said
