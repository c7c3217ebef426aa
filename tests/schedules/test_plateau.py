"""The plateau schedule: PyTorch's ReduceLROnPlateau as a pure fold over metrics."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.plateau import Plateau, PlateauState


def folded(plateau, metrics):
    states = [plateau.start()]
    for metric in metrics:
        states.append(plateau.observe(states[-1], metric))
    return states


def torch_factors(settings_of_it, metrics, lr0=1.0):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, **settings_of_it)
    rates = [lr0]
    for metric in metrics:
        scheduler.step(metric)
        rates.append(optimizer.param_groups[0]["lr"])
    return [rate / lr0 for rate in rates], scheduler


METRICS = st.lists(
    st.one_of(st.sampled_from([0.5, 0.5, 0.6, 0.61, -0.5, 0.0, math.nan, math.inf, -math.inf]), st.floats(-2, 2)),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(
    metrics=METRICS,
    mode=st.sampled_from(["min", "max"]),
    factor=st.sampled_from([0.0, 0.1, 0.5, 0.9]),
    patience=st.integers(0, 4),
    threshold=st.sampled_from([0.0, 1e-4, 0.05, 1.0, 2.0, -0.1]),
    threshold_mode=st.sampled_from(["rel", "abs"]),
    cooldown=st.integers(0, 3),
    least=st.sampled_from([0.0, 0.01, 0.3, 1.0, 2.0]),
    eps=st.sampled_from([0.0, 1e-8, 0.05]),
)
def test_parity_with_torch(metrics, mode, factor, patience, threshold, threshold_mode, cooldown, least, eps):
    same = {
        "mode": mode, "factor": factor, "patience": patience, "threshold": threshold,
        "threshold_mode": threshold_mode, "cooldown": cooldown, "eps": eps,
    }  # fmt: skip
    plateau = Plateau(**same, min_factor=least)
    factors, theirs = torch_factors({**same, "min_lr": least}, metrics)
    states = folded(plateau, metrics)
    assert [s.factor for s in states] == factors
    worst = math.inf if mode == "min" else -math.inf
    last = states[-1]
    ours = (worst if last.best is None else last.best, last.bad, last.cooldown)
    assert ours == (theirs.best, theirs.num_bad_epochs, theirs.cooldown_counter)
    replayed = plateau.replay(metrics)
    assert [replayed(k) for k in range(len(metrics) + 3)] == [*factors, factors[-1], factors[-1]]


def test_defaults_are_those_of_torch():
    metrics = [1.0] * 40
    assert [s.factor for s in folded(Plateau(), metrics)] == torch_factors({}, metrics)[0]


def test_the_patience_is_what_is_let_pass():
    """Patience 2: of the observations after the best, the third is one too many."""
    factors = [s.factor for s in folded(Plateau("max", factor=0.5, patience=2), [0.3, 0.3, 0.3, 0.3, 0.3])]
    assert factors == [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]


def test_cooldown_ignores_bad_observations():
    plateau = Plateau(factor=0.5, patience=0, cooldown=2)
    assert [s.factor for s in folded(plateau, [1.0] * 8)] == [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125]


def test_a_metric_that_is_no_number_is_bad():
    plateau = Plateau(patience=1, factor=0.5)
    states = folded(plateau, [math.nan, math.nan, 0.5])
    assert [s.factor for s in states] == [1.0, 1.0, 0.5, 0.5]
    assert states[2].best is None and states[3].best == 0.5


@given(metrics=METRICS.filter(lambda m: all(map(math.isfinite, m))), cut=st.integers(0, 60))
def test_a_state_goes_through_json(metrics, cut):
    """A run that stops anywhere and goes on from its checkpoint is the run that did not stop."""
    plateau = Plateau(patience=1, factor=0.5, cooldown=1)
    whole = folded(plateau, metrics)
    state = whole[min(cut, len(metrics))]
    state = PlateauState(**json.loads(json.dumps(asdict(state), allow_nan=False)))
    for metric in metrics[cut:]:
        state = plateau.observe(state, metric)
    assert state == whole[-1]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "lowest"}, "mode: 'lowest' is not known; write min or max"),
        ({"threshold_mode": "relative"}, "threshold_mode: 'relative' is not known; write rel or abs"),
        ({"factor": 1.0}, "factor: 1 lowers nothing"),
        ({"factor": -0.1}, "factor: -0.1 lowers nothing"),
        ({"patience": -1}, "patience: -1 is below 0; write 0"),
        ({"cooldown": -1}, "cooldown: -1 is below 0; write 0"),
        ({"eps": -1e-8}, "eps: -1e-08 is below 0; write 0"),
    ],
)
def test_mistakes(wrong, message):
    with pytest.raises(InvalidSchedule, match=message):
        Plateau(**wrong)
