"""Optax's schedules: equal to optax itself, and clear about mistakes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.compose import Join
from yolo_cosine.schedules.curves import Cosine, InvalidSchedule, Linear
from yolo_cosine.schedules.native import NativeGroup
from yolo_cosine.schedules.presets import from_native, schedules_of

COUNTS = 48

TABLE = [
    ("constant_schedule", {"value": 0.1}),
    ("polynomial_schedule", {"init_value": 0.1, "end_value": 0.001, "power": 2, "transition_steps": 50}),
    ("polynomial_schedule", {"init_value": 0.1, "end_value": 0.0, "power": 0.5, "transition_steps": 9}),
    ("polynomial_schedule", {"init_value": 0.1, "end_value": 0.0, "power": 0, "transition_steps": 9}),
    ("polynomial_schedule", {"init_value": 0.1, "end_value": 0.0, "power": 1, "transition_steps": 0}),
    (
        "polynomial_schedule",
        {"init_value": 0.1, "end_value": 0.2, "power": 3, "transition_steps": 20, "transition_begin": 10},
    ),
    (
        "polynomial_schedule",
        {"init_value": 0.1, "end_value": 0.2, "power": 3, "transition_steps": 20.5, "transition_begin": -10},
    ),
    ("linear_schedule", {"init_value": 0, "end_value": 1, "transition_steps": 1}),
    ("linear_schedule", {"init_value": 0.1, "end_value": 0.0, "transition_steps": 9.5, "transition_begin": 2.5}),
    ("linear_schedule", {"init_value": 0.1, "end_value": 0.0, "transition_steps": -3}),
    ("piecewise_constant_schedule", {"init_value": 0.1}),
    ("piecewise_constant_schedule", {"init_value": 0.1, "boundaries_and_scales": {20: 0.5, 5: 0.0, 30: 7.0}}),
    ("piecewise_constant_schedule", {"init_value": 0.1, "boundaries_and_scales": {0: 0.5, -3: 0.5, 7.5: 2}}),
    ("piecewise_interpolate_schedule", {"interpolate_type": "linear", "init_value": 1.0}),
    (
        "piecewise_interpolate_schedule",
        {"interpolate_type": "linear", "init_value": 0.1, "boundaries_and_scales": {40: 0.5, 10: 2.0}},
    ),
    (
        "piecewise_interpolate_schedule",
        {"interpolate_type": "cosine", "init_value": 0.1, "boundaries_and_scales": {0: 3.0, 10: 0.0, 20: 2.0}},
    ),
    (
        "piecewise_interpolate_schedule",
        {"interpolate_type": "linear", "init_value": 0.1, "boundaries_and_scales": {-2: 0.5, 6: 0.1}},
    ),
    (
        "piecewise_interpolate_schedule",
        {"interpolate_type": "linear", "init_value": 0.1, "boundaries_and_scales": {2.25: 0.5, 2.75: 0.5, 3: 0.1}},
    ),
    ("piecewise_interpolate_schedule", {"interpolate_type": "cosine", "init_value": 1.0, "boundaries_and_scales": {-4: 0.5}}),
    ("exponential_decay", {"init_value": 0.1, "transition_steps": 10, "decay_rate": 0.5}),
    ("exponential_decay", {"init_value": 0.1, "transition_steps": 15, "decay_rate": 0.5, "staircase": True, "end_value": 0.02}),
    ("exponential_decay", {"init_value": 1e-3, "transition_steps": 1, "decay_rate": 2.0, "end_value": 1.0}),
    ("exponential_decay", {"init_value": 0.1, "transition_steps": 0.1, "decay_rate": 0.9, "staircase": True}),
    ("exponential_decay", {"init_value": 0.1, "transition_steps": 7, "decay_rate": 0.5, "transition_begin": 5, "end_value": 0.2}),
    ("exponential_decay", {"init_value": 0.1, "transition_steps": 7, "decay_rate": 0.5, "transition_begin": -5}),
    ("exponential_decay", {"init_value": 0.1, "transition_steps": 7, "decay_rate": 0, "end_value": 0.2}),
    ("exponential_decay", {"init_value": 0.1, "transition_steps": 0, "decay_rate": 0.5, "end_value": 0.2}),
    ("exponential_decay", {"init_value": 0.1, "transition_steps": 7, "decay_rate": 1.0, "end_value": 0.02}),
    ("cosine_decay_schedule", {"init_value": 0.1, "decay_steps": 1}),
    ("cosine_decay_schedule", {"init_value": 0.1, "decay_steps": 30.5, "alpha": 0.1}),
    ("cosine_decay_schedule", {"init_value": 0.1, "decay_steps": 30, "alpha": 2.0, "exponent": 2.5}),
    ("cosine_decay_schedule", {"init_value": 0.1, "decay_steps": 30, "alpha": 0.1, "exponent": 0}),
    ("linear_onecycle_schedule", {"transition_steps": 40, "peak_value": 0.1}),
    ("linear_onecycle_schedule", {"transition_steps": 37, "peak_value": 0.1, "pct_start": 0.0, "pct_final": 1.0}),
    ("linear_onecycle_schedule", {"transition_steps": 1, "peak_value": 0.1}),
    ("cosine_onecycle_schedule", {"transition_steps": 37, "peak_value": 0.1, "pct_start": 0.25, "final_div_factor": 10.0}),
    ("cosine_onecycle_schedule", {"transition_steps": 20, "peak_value": 0.1, "pct_start": 1.0}),
    ("cosine_onecycle_schedule", {"transition_steps": 20, "peak_value": 0.1, "pct_start": 1.5, "div_factor": 3}),
    ("cosine_onecycle_schedule", {"transition_steps": 20, "peak_value": 0.1, "pct_start": -0.5}),
    ("warmup_constant_schedule", {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 12}),
    ("warmup_constant_schedule", {"init_value": 0.01, "peak_value": 0.1, "warmup_steps": 0}),
    ("warmup_cosine_decay_schedule", {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 10, "decay_steps": 40, "end_value": 1e-4}),
    ("warmup_cosine_decay_schedule", {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 0, "decay_steps": 40, "exponent": 2}),
    ("warmup_cosine_decay_schedule", {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": -5, "decay_steps": 40}),
    ("warmup_cosine_decay_schedule", {"init_value": 0.1, "peak_value": 0.0, "warmup_steps": 5, "decay_steps": 40, "end_value": 0.1}),
    ("warmup_cosine_decay_schedule", {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 3.5, "decay_steps": 40}),
    (
        "warmup_exponential_decay_schedule",
        {"init_value": 1e-3, "peak_value": 0.1, "warmup_steps": 5, "transition_steps": 10, "decay_rate": 0.7,
         "transition_begin": 15, "end_value": 0.01},
    ),
    (
        "warmup_exponential_decay_schedule",
        {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 0, "transition_steps": 10, "decay_rate": 0.7,
         "staircase": True},
    ),
    (
        "sgdr_schedule",
        {
            "cosine_kwargs": [
                {"init_value": 0.0, "peak_value": 0.1, "decay_steps": 20, "warmup_steps": 4, "end_value": 0.001},
                {"init_value": 0.001, "peak_value": 0.05, "decay_steps": 25, "warmup_steps": 0, "exponent": 2.0},
            ]
        },
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def optax():
    """Optax in float64, which is not jax's default."""
    jax = pytest.importorskip("jax", reason="optax computes with jax")
    module = pytest.importorskip("optax", reason="parity with optax needs optax")
    with jax.enable_x64(True):
        yield module


def assert_same(ours, theirs) -> None:
    """Equal at every count, and far past the end.

    Optax is asked count by count: over many at once, jax divides by multiplying, and a staircase comes too late.
    """
    jnp = pytest.importorskip("jax.numpy")
    counts = [*range(COUNTS), 100_000]
    expected = [float(theirs(jnp.asarray(count))) for count in counts]
    highest = max(value for value in expected if value < math.inf)
    for count, value in zip(counts, expected, strict=True):
        assert ours.lr(count) == pytest.approx(value, rel=1e-9, abs=1e-14 * highest), count


@pytest.mark.parametrize(("schedule", "arguments"), TABLE)
def test_equal_to_optax(optax, schedule, arguments):
    assert_same(from_native("optax", schedule, arguments), getattr(optax, schedule)(**arguments))


def test_every_schedule_is_compared():
    assert {name for name, _ in TABLE} | {"join_schedules"} == set(schedules_of("optax"))


def test_optax_has_no_other_schedules(optax):
    made = {n for n in vars(optax.schedules) if n.endswith(("_schedule", "_schedules", "_decay")) and n[0] != "_"}
    assert made == set(schedules_of("optax"))


rates = st.floats(0.0, 1.0).map(lambda x: round(x, 6))
lengths = st.integers(-3, 50) | st.integers(1, 400).map(lambda n: n / 8)
positive_lengths = st.integers(1, 50) | st.integers(1, 400).map(lambda n: n / 8)
powers = st.sampled_from([0, 0.5, 1, 1.0, 2, 3.5])
scales = st.dictionaries(st.integers(-5, 60), st.floats(0.0, 3.0).map(lambda x: round(x, 6)), max_size=5)
shares = st.floats(0.0, 1.0)
ARGUMENTS = {
    "polynomial_schedule": {
        "init_value": rates, "end_value": rates, "power": powers, "transition_steps": lengths,
        "transition_begin": lengths,
    },
    "piecewise_constant_schedule": {"init_value": rates, "boundaries_and_scales": scales},
    "piecewise_interpolate_schedule": {
        "interpolate_type": st.sampled_from(["linear", "cosine"]), "init_value": rates,
        "boundaries_and_scales": scales,
    },
    "exponential_decay": {
        "init_value": rates.filter(bool), "transition_steps": lengths, "decay_rate": st.floats(0.1, 1.5),
        "transition_begin": lengths, "staircase": st.booleans(), "end_value": st.none() | rates,
    },
    "cosine_decay_schedule": {
        "init_value": rates, "decay_steps": positive_lengths, "alpha": st.floats(0, 2), "exponent": powers,
    },
    "linear_onecycle_schedule": {
        "transition_steps": st.integers(1, 60), "peak_value": rates, "pct_start": shares, "pct_final": shares,
        "div_factor": st.floats(1, 50), "final_div_factor": st.floats(1, 1e4),
    },
    "cosine_onecycle_schedule": {
        "transition_steps": st.integers(1, 60), "peak_value": rates, "pct_start": shares,
        "div_factor": st.floats(1, 50), "final_div_factor": st.floats(1, 1e4),
    },
    "warmup_cosine_decay_schedule": {
        "init_value": rates, "peak_value": rates, "warmup_steps": st.integers(-3, 20),
        "decay_steps": st.integers(21, 60), "end_value": rates, "exponent": powers,
    },
}  # fmt: skip


@pytest.mark.parametrize("schedule", ARGUMENTS)
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_equal_to_optax_whatever_the_arguments(optax, schedule, data):
    arguments = data.draw(st.fixed_dictionaries(ARGUMENTS[schedule]))
    assert_same(from_native("optax", schedule, arguments), getattr(optax, schedule)(**arguments))


PIECES = ["linear(0->0.1,10)", "constant(0.1)", "cosine_decay(0.1,50,alpha=0.02)"]


def join(schedules, boundaries):
    return from_native("optax", "join_schedules", {"schedules": schedules, "boundaries": boundaries})


@pytest.mark.parametrize(
    "boundaries", [[10, 40], [40, 10], [10], [10, 40, 50], [0, 20], [-5, 5], [7, 7], [], [5, -5], [2.5, 20]]
)
def test_joined_like_optax(optax, boundaries):
    theirs = [
        optax.linear_schedule(0.0, 0.1, 10),
        optax.constant_schedule(0.1),
        optax.cosine_decay_schedule(0.1, 50, alpha=0.02),
    ]
    assert_same(join(PIECES, boundaries), optax.join_schedules(theirs, boundaries))


@pytest.mark.parametrize(
    ("text", "schedule", "arguments"),
    [
        ("constant(0.1)", "constant_schedule", {"value": 0.1}),
        (" optax.linear_schedule(0, 0.1, 10) ", "linear_schedule", {"init_value": 0, "end_value": 0.1, "transition_steps": 10}),
        ("linear(0 -> 0.1, 10, transition_begin=3)", "linear_schedule", {"init_value": 0, "end_value": 0.1, "transition_steps": 10, "transition_begin": 3}),
        ("polynomial(1e-3->0, 2, 10)", "polynomial_schedule", {"init_value": 1e-3, "end_value": 0, "power": 2, "transition_steps": 10}),
        ("exponential(0.1, 10, 0.5, staircase=True)", "exponential_decay", {"init_value": 0.1, "transition_steps": 10, "decay_rate": 0.5, "staircase": True}),
        ("exponential_decay(0.1, 10, 0.5, end_value=None)", "exponential_decay", {"init_value": 0.1, "transition_steps": 10, "decay_rate": 0.5}),
        ("cosine(0.1, 30, 0.1, 2.0)", "cosine_decay_schedule", {"init_value": 0.1, "decay_steps": 30, "alpha": 0.1, "exponent": 2.0}),
        ("piecewise_constant(0.1, {30: 0.1, 40: 0.5})", "piecewise_constant_schedule", {"init_value": 0.1, "boundaries_and_scales": {30: 0.1, 40: 0.5}}),
        ("piecewise_interpolate(cosine, 0.1, {'30': 0.1})", "piecewise_interpolate_schedule", {"interpolate_type": "cosine", "init_value": 0.1, "boundaries_and_scales": {30: 0.1}}),
        ("linear_onecycle(40, 0.1)", "linear_onecycle_schedule", {"transition_steps": 40, "peak_value": 0.1}),
        ("cosine_onecycle(40, 0.1, pct_start=0.5)", "cosine_onecycle_schedule", {"transition_steps": 40, "peak_value": 0.1, "pct_start": 0.5}),
        ("warmup_constant(0->0.1, 5)", "warmup_constant_schedule", {"init_value": 0, "peak_value": 0.1, "warmup_steps": 5}),
        ("warmup_cosine(0->0.1, 5, 40)", "warmup_cosine_decay_schedule", {"init_value": 0, "peak_value": 0.1, "warmup_steps": 5, "decay_steps": 40}),
        ("warmup_exponential(0->0.1, 5, 10, 0.5)", "warmup_exponential_decay_schedule", {"init_value": 0, "peak_value": 0.1, "warmup_steps": 5, "transition_steps": 10, "decay_rate": 0.5}),
        ("sgdr([{'init_value': 0, 'peak_value': 0.1, 'warmup_steps': 5, 'decay_steps': 40}])", "warmup_cosine_decay_schedule", {"init_value": 0, "peak_value": 0.1, "warmup_steps": 5, "decay_steps": 40}),
        ("join([linear(0->0.1, 10), constant(0.1)], [10])", "warmup_constant_schedule", {"init_value": 0, "peak_value": 0.1, "warmup_steps": 10}),
        ({"type": "linear", "init_value": 0.1, "end_value": 0.0, "transition_steps": 9}, "linear_schedule", {"init_value": 0.1, "end_value": 0.0, "transition_steps": 9}),
        ({"type": "cosine_decay_schedule", "init_value": 0.1, "decay_steps": 9}, "cosine_decay_schedule", {"init_value": 0.1, "decay_steps": 9}),
    ],
)  # fmt: skip
def test_a_piece_as_text_or_mapping_is_the_schedule_itself(text, schedule, arguments):
    piece, whole = join([text], []), from_native("optax", schedule, arguments)
    assert [piece.lr(k) for k in range(COUNTS)] == pytest.approx([whole.lr(k) for k in range(COUNTS)], abs=1e-16)


WARM = {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 10, "decay_steps": 40}
MISTAKES = [
    ("cosine_decay_schedule", {"init_value": 0.1, "decay_steps": 0}, "decay_steps: 0 is not above 0"),
    ("cosine_decay_schedule", {"init_value": 0.1, "decay_steps": 9, "exponent": -1}, "exponent: -1 is below 0"),
    ("cosine_decay_schedule", {"init_value": 0.1, "decay_step": 9}, "decay_step: .* did you mean decay_steps"),
    ("cosine_decay_schedule", {"init_value": 0.1}, "decay_steps is missing"),
    ("cosine_decay_schedule", {"init_value": 0.1, "decay_steps": "many"}, "wrong type"),
    ("polynomial_schedule", {"init_value": 0.1, "end_value": 0, "power": -1, "transition_steps": 9}, "power: -1 is below 0"),
    ("exponential_decay", {"init_value": 0.1, "transition_steps": 9, "decay_rate": -0.5}, "decay_rate: -0.5 is below 0"),
    ("piecewise_constant_schedule", {"init_value": 0.1, "boundaries_and_scales": {"9": -1}}, "the scale -1 at 9 is below 0"),
    ("piecewise_constant_schedule", {"init_value": 0.1, "boundaries_and_scales": {"nine": 1}}, "'nine' is no boundary"),
    ("piecewise_interpolate_schedule", {"interpolate_type": "cubic", "init_value": 0.1}, "'cubic' is neither; write cosine or linear"),
    ("linear_onecycle_schedule", {"transition_steps": 0, "peak_value": 0.1}, "transition_steps: 0 is not above 0"),
    ("cosine_onecycle_schedule", {"transition_steps": 9, "peak_value": 0.1, "div_factor": 0}, "div_factor: 0 is not above 0"),
    ("warmup_cosine_decay_schedule", WARM | {"warmup_steps": 40}, "decay_steps: 40 leaves no step after the warmup of 40"),
    ("sgdr_schedule", {"cosine_kwargs": []}, "cosine_kwargs: it is empty"),
    ("sgdr_schedule", {"cosine_kwargs": [WARM, WARM | {"warmup_steps": 50}]}, r"cosine_kwargs\[1\]: decay_steps: 40 leaves"),
    ("sgdr_schedule", {"cosine_kwargs": [{"peak_value": 0.1}]}, r"cosine_kwargs\[0\]: init_value is missing"),
    ("cosine_decay", {}, "did you mean cosine_decay_schedule"),
    ("join_schedules", {"schedules": [], "boundaries": []}, "schedules: .* is no list"),
    ("join_schedules", {"schedules": "constant(1)", "boundaries": []}, "schedules: .* is no list"),
    ("join_schedules", {"schedules": ["constant"], "boundaries": []}, r"schedules\[0\]: 'constant' is no schedule; write a call"),
    ("join_schedules", {"schedules": ["linear(0->,1)"], "boundaries": []}, r"schedules\[0\]: .* is no schedule; write a call"),
    ("join_schedules", {"schedules": ["linear(**{})"], "boundaries": []}, r"schedules\[0\]: .* is no schedule; write a call"),
    ("join_schedules", {"schedules": ["constant(open('x').read())"], "boundaries": []}, r"schedules\[0\]: .* is no schedule; write a call"),
    ("join_schedules", {"schedules": ["constant(linear(0->1,9))"], "boundaries": []}, r"schedules\[0\]: .* is no schedule; write a call"),
    ("join_schedules", {"schedules": [3], "boundaries": []}, r"schedules\[0\]: 3 is no schedule"),
    ("join_schedules", {"schedules": [{"value": 1}], "boundaries": []}, r"schedules\[0\]: .* has no type"),
    ("join_schedules", {"schedules": ["cosin_decay(1,2)"], "boundaries": []}, r"schedules\[0\]: .* did you mean cosine_decay_schedule"),
    ("join_schedules", {"schedules": ["constant(1,2)"], "boundaries": []}, r"schedules\[0\]: constant has 2 arguments; it takes value"),
    ("join_schedules", {"schedules": ["constant(1,value=2)"], "boundaries": []}, r"schedules\[0\]: value: it is there twice"),
    ("join_schedules", {"schedules": ["constant(1)", "linear(0->1)"], "boundaries": [9]}, r"schedules\[1\], linear: transition_steps is missing"),
    ("join_schedules", {"schedules": ["linear(0->1,10,begin=3)"], "boundaries": []}, r"schedules\[0\], linear: begin: there is no such argument"),
    ("join_schedules", {"schedules": ["cosine(0.1, 0)"], "boundaries": []}, r"schedules\[0\], cosine: decay_steps: 0 is not above 0"),
]  # fmt: skip


@pytest.mark.parametrize(("schedule", "arguments", "message"), MISTAKES)
def test_a_mistake_is_named(schedule, arguments, message):
    with pytest.raises(InvalidSchedule, match=message):
        from_native("optax", schedule, arguments)


def test_composed_of_our_curves_with_the_peak_as_lr0():
    ours = from_native("optax", "warmup_cosine_decay_schedule", WARM | {"end_value": 0.01})
    assert ours.groups == (NativeGroup("all", 0.1),)
    assert ours.factors == (Join((Linear(0.0, 1.0, 10), Cosine(1.0, 0.1, 30)), (0, 10)),)
    assert ours.clock == "update"
    assert ours.length == 40


def test_the_end_is_one_past_the_last_update():
    ours = from_native("optax", "warmup_cosine_decay_schedule", WARM)
    assert ours.lr(0) == 0
    assert ours.lr(10) == 0.1
    assert ours.lr(39) == pytest.approx(0.1 * (1 + math.cos(math.pi * 29 / 30)) / 2)
    assert ours.lr(39) > 0
    assert ours.lr(40) == ours.lr(10**9) == 0


def test_float32_is_no_other_schedule():
    assert from_native("optax", "warmup_cosine_decay_schedule", WARM | {"x64": False}) == from_native(
        "optax", "warmup_cosine_decay_schedule", WARM
    )


@pytest.mark.parametrize(
    ("schedule", "arguments", "note"),
    [
        ("linear_schedule", {"init_value": 0, "end_value": 1, "transition_steps": 0}, "end_value is never used"),
        ("polynomial_schedule", {"init_value": 0, "end_value": 1, "power": 0, "transition_steps": 9}, "power is 0"),
        ("exponential_decay", {"init_value": 1, "transition_steps": 9, "decay_rate": 0}, "held for ever"),
        ("cosine_decay_schedule", {"init_value": 1, "decay_steps": 9, "exponent": 0}, "exponent is 0"),
        ("cosine_onecycle_schedule", {"transition_steps": 9, "peak_value": 1, "pct_start": 1}, "only the later one"),
        ("warmup_cosine_decay_schedule", WARM | {"peak_value": 0, "end_value": 1}, "end_value=1 is not used"),
        ("join_schedules", {"schedules": PIECES, "boundaries": [3]}, "1 boundaries for 3 schedules"),
        ("join_schedules", {"schedules": PIECES, "boundaries": [9, 3]}, "not in order"),
    ],
)
def test_a_trap_is_noted(schedule, arguments, note):
    (said,) = from_native("optax", schedule, arguments).notes
    assert note in said
