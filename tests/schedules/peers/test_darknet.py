"""darknet's policies: equal to its formulas at every update, and clear about mistakes.

darknet is a C program and not installed here. `rate` and `sequential` below state the formulas of `get_current_rate` and
`get_current_seq_subdivisions` in `src/network.c` of AlexeyAB/darknet (59596d7); the pinned values were recorded from
that file, compiled, in float32.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.compose import Join, Shift
from yolo_cosine.schedules.curves import InvalidSchedule, MultiStep, Power
from yolo_cosine.schedules.cycles import CosineRestarts
from yolo_cosine.schedules.peers.darknet import POLICIES, LateRestarts
from yolo_cosine.schedules.presets import from_native, schedules_of

FORMULAS = {
    "learning_rate": 0.01, "max_batches": 60, "burn_in": 0, "power": 4.0, "steps": [20, 40], "scales": [0.1, 10],
    "step": 7, "scale": 0.5, "gamma": 0.9, "sgdr_cycle": 9, "sgdr_mult": 2, "learning_rate_min": 1e-5,
}  # fmt: skip
EXACT = [policy for policy in POLICIES if policy != "random"]


def rate(policy: str, batch: int, a: dict) -> float:
    """The rate of a batch number, by darknet's formulas; NaN where C has none."""
    lr = a["learning_rate"]
    if batch < a["burn_in"]:
        return lr * (batch / a["burn_in"]) ** a["power"]
    if policy == "steps":
        for step, scale in zip(a["steps"], a["scales"], strict=True):
            if step > batch:
                break
            lr *= scale
        return lr
    if policy == "sgdr":
        start, size = 0, a["sgdr_cycle"]
        while start + size < batch:
            start, size = start + size, size * a["sgdr_mult"]
        low = a["learning_rate_min"]
        return low + (lr - low) * (1 + math.cos(math.pi * (batch - start) / size)) / 2
    left = 1 - batch / a["max_batches"]
    return (
        lr
        * {
            "constant": lambda: 1.0,
            "step": lambda: a["scale"] ** (batch // a["step"]),
            "exp": lambda: a["gamma"] ** batch,
            "poly": lambda: left ** a["power"] if left >= 0 or a["power"] == int(a["power"]) else math.nan,
            "sigmoid": lambda: 1 / (1 + math.exp(a["gamma"] * (batch - a["step"]))),
        }[policy]()
    )


def sequential(batch: int, a: dict) -> int:
    value = min(a["sequential_subdivisions"], a["subdivisions"])
    for step, scale in zip(a["steps"], a["seq_scales"], strict=True):
        if step > batch:
            break
        value = int(value * scale)
    return max(1, min(value, a["subdivisions"]))


def assert_same(policy: str, a: dict) -> None:
    ours = from_native("darknet", policy, a | {"policy": policy})
    for i in range(2 * a["max_batches"] + 20):
        expected = rate(policy, i + 1, a)
        if math.isnan(expected):
            with pytest.raises(InvalidSchedule, match="is no number"):
                ours.lr(i)
        else:
            assert ours.lr(i) == pytest.approx(expected, rel=1e-9, abs=1e-15), i


@pytest.mark.parametrize("policy", EXACT)
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"burn_in": 1},
        {"burn_in": 15},
        {"burn_in": 15, "power": 0.5, "gamma": 1.01},
        {"burn_in": 80, "power": 1},
        {"power": 0, "gamma": -0.05, "step": 50, "sgdr_mult": 1},
        {"steps": [30, 5], "scales": [0.5, 0.1], "learning_rate_min": 0.02, "sgdr_cycle": 1},
        {"learning_rate": 0.0},
    ],
)
def test_equal_to_the_formulas(policy, changed):
    assert_same(policy, FORMULAS | changed)


@settings(max_examples=100, deadline=None)
@given(
    policy=st.sampled_from(EXACT),
    burn_in=st.integers(0, 50),
    power=st.sampled_from([0, 0.9, 1, 2, 3, 4]),
    changes=st.lists(st.tuples(st.integers(-2, 60), st.sampled_from([0.0, 0.1, 0.5, 1, 10])), min_size=1, max_size=4),
    sizes=st.tuples(st.integers(1, 60), st.integers(1, 30), st.integers(1, 30), st.integers(1, 4)),
    gamma=st.sampled_from([-0.5, 0, 0.5, 0.99, 1, 1.01]),
)
def test_equal_to_the_formulas_for_any_arguments(policy, burn_in, power, changes, sizes, gamma):
    steps, scales = map(list, zip(*changes, strict=True))
    a = {"burn_in": burn_in, "power": power, "steps": steps, "scales": scales, "gamma": gamma}
    a |= dict(zip(("max_batches", "step", "sgdr_cycle", "sgdr_mult"), sizes, strict=True))
    assert_same(policy, FORMULAS | a)


@pytest.mark.parametrize(
    ("policy", "arguments", "update", "expected"),
    [
        ("constant", {"learning_rate": 0.001, "burn_in": 100}, 0, 1e-11),
        ("exp", {"learning_rate": 0.1, "gamma": 0.99, "burn_in": 40}, 298, 0.00495364004),
        ("poly", {"learning_rate": 0.1, "power": 4.0, "max_batches": 300}, 319, 1.9753153e-6),
        ("poly", {"learning_rate": 0.1, "power": 0.9, "max_batches": 300}, 0, 0.0996999517),
        ("sgdr", {"learning_rate": 0.01, "max_batches": 400}, 398, 1.01540572e-5),
        ("sgdr", {"learning_rate": 0.01, "sgdr_cycle": 50, "burn_in": 20, "max_batches": 750}, 798, 0.00990781188),
        ("sigmoid", {"learning_rate": 0.1, "gamma": 0.1, "step": 200, "burn_in": 30}, 299, 4.53978691e-6),
        ("step", {"learning_rate": 0.1, "step": 70, "scale": 0.5}, 299, 0.00625),
        ("steps", {"learning_rate": 0.01, "burn_in": 50, "power": 2.0, "steps": [150], "scales": [0.1]}, 0, 4e-6),
    ],
)
def test_recorded_values(policy, arguments, update, expected):
    assert from_native("darknet", policy, arguments).lr(update) == pytest.approx(expected, rel=1e-5)


def test_update_i_has_the_rate_of_batch_i_plus_1():
    ours = from_native("darknet", "steps", {"learning_rate": 1.0, "steps": [100], "scales": [0.1]})
    assert (ours.lr(98), ours.lr(99)) == (1.0, 0.1)
    assert ours.clock == "update"


def test_burn_in_is_a_power_curve_and_does_not_move_the_policy():
    a = {"learning_rate": 0.01, "burn_in": 100, "steps": [50, 150], "scales": [0.1, 0.1]}
    ours = from_native("darknet", "steps", a)
    steps = Shift(MultiStep(1.0, (50, 150), 0.1), 100)
    assert ours.factors == (Join((Shift(Power(0.0, 1.0, 100, 4.0), 1), steps), (0, 99)),)
    assert ours.lr(98) == pytest.approx(0.01 * 0.99**4)
    assert ours.lr(99) == pytest.approx(0.001)
    assert any("jumps" in note for note in ours.notes)
    assert from_native("darknet", "steps", a | {"steps": [150, 160]}).notes == ()


def test_sgdr_cycles_own_their_end():
    ours = from_native("darknet", "sgdr", {"learning_rate": 0.01, "sgdr_cycle": 50, "learning_rate_min": 0.001})
    assert ours.lr(49) == pytest.approx(0.001)
    assert ours.lr(50) == pytest.approx(0.001 + 0.009 * (1 + math.cos(math.pi / 100)) / 2)
    late, usual = LateRestarts(1.0, 0.0, 10, 3), CosineRestarts(1.0, 0.0, 10, 3)
    assert (late(0), late(10), late(40)) == (1.0, 0.0, 0.0)
    assert usual(10) == usual(40) == 1.0
    assert all(late(step) == usual(step) for step in range(200) if step not in (10, 40, 130))


def test_random_is_a_pure_function_of_the_seed():
    a = {"learning_rate": 0.1, "burn_in": 10, "power": 2.0}
    ours, again = (from_native("darknet", "random", a | {"seed": 3}) for _ in range(2))
    other = from_native("darknet", "random", a)
    assert ours.lr(4) == pytest.approx(0.1 * 0.5**2)
    drawn = [ours.lr(i) for i in range(9, 400)]
    assert drawn == [again.lr(i) for i in range(9, 400)] != [other.lr(i) for i in range(9, 400)]
    assert 0 <= min(drawn) < max(drawn) <= 0.1
    assert sum(drawn) / len(drawn) == pytest.approx(0.1 / 3, rel=0.2)  # the mean of a square
    assert any("random" in note for note in ours.notes)
    assert from_native("darknet", "random", {"learning_rate": 0.0}).lr(7) == 0.0


@pytest.mark.parametrize(
    ("given_parts", "most", "scales", "steps"),
    [(2, 16, [2, 2], [5, 9]), (8, 16, [0.3, 2], [5, 9]), (100, 8, [0.5, 0.1], [9, 5]), (3, 64, [1.5, 30], [1, 9])],
)
def test_sequential_subdivisions(given_parts, most, scales, steps):
    a = {"sequential_subdivisions": given_parts, "subdivisions": most, "seq_scales": scales, "steps": steps}
    for policy in ("steps", "sgdr"):
        ours = from_native("darknet", policy, a | {"scales": [1, 1], "max_batches": 20})
        assert [ours.sequential_subdivisions(i) for i in range(15)] == [sequential(i + 1, a) for i in range(15)]
        assert ours.lr(14) <= 0.001
    alone = from_native("darknet", "constant", a)
    assert {alone.sequential_subdivisions(i) for i in range(15)} == {min(given_parts, most)}
    assert from_native("darknet", "constant", {}).sequential_subdivisions is None


def test_defaults_and_lists_as_in_a_cfg():
    ours = from_native("darknet", "steps", {"steps": "10, 20 # half", "scales": ".1,.5"})
    assert [ours.lr(i) for i in (0, 9, 19)] == pytest.approx([0.001, 0.0001, 0.00005])
    from_run = from_native("darknet", "poly", {"power": 1}, {"lr0": 0.5, "epochs": 2, "iters_per_epoch": 5})
    assert (from_run.lr(4), from_run.length) == (0.25, 10)
    # more scales than steps are read past by darknet too
    extra = from_native("darknet", "steps", {"steps": [10], "scales": [0.1, 0.5]})
    assert extra.lr(100) == pytest.approx(1e-4)
    assert any("not used" in note for note in extra.notes)


@pytest.mark.parametrize(
    ("policy", "arguments", "message"),
    [
        ("cosine", {}, "'cosine' is no schedule"),
        ("steps", {"policy": "sgdr"}, "policy: 'sgdr' is not the schedule 'steps'; leave it out"),
        ("steps", {"steps": [1]}, "needs steps and scales; write both"),
        ("steps", {"steps": [1, 2], "scales": [0.1]}, "scales: 1 for 2 steps; write one for each"),
        ("steps", {"steps": "1,two", "scales": [0.1, 0.1]}, "steps: '1,two' is no list of numbers"),
        ("steps", {"steps": [1], "scales": [1], "seq_scales": [], "sequential_subdivisions": 1, "subdivisions": 0},
         "subdivisions: 0 is no number of parts"),
        ("sgdr", {"steps": [1, 2], "seq_scales": [2], "max_batches": 9}, "seq_scales: 1 for 2 steps"),
        ("step", {"step": 0}, "step: 0 batches is no length; write at least 1"),
        ("poly", {}, "max_batches is missing"),
        ("poly", {"max_batches": 10, "power": -1}, "power: -1 is below 0"),
        ("sgdr", {}, "sgdr_cycle: 0 batches is no cycle"),
        ("sgdr", {"max_batches": 10, "sgdr_mult": 0}, "sgdr_mult: 0 would shrink the cycles"),
        ("constant", {"learning_rate": -1}, "learning_rate: -1 is not a number from 0 on"),
        ("constant", {"burnin": 5}, "did you mean burn_in"),
    ],
)  # fmt: skip
def test_mistakes(policy, arguments, message):
    with pytest.raises(InvalidSchedule, match=message):
        from_native("darknet", policy, arguments)


def test_schedules_are_complete():
    assert set(schedules_of("darknet")) == set(POLICIES)
