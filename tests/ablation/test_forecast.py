from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_cosine.ablation.forecast import seconds_left
from yolo_cosine.ablation.plan import PlannedRun


def run(name, steps, owner=None, shared=0):
    forks = (((owner, 0), shared),) if owner else ()
    return PlannedRun(name, 0, Path(name), None, steps, forks)


def left(runs, places, position=None, running=(), start=0.0, pace=1.0):
    position = {(name, 0): steps for name, steps in (position or {}).items()}
    running = {(name, 0) for name in running}
    return seconds_left(runs, places, lambda run, first, last: pace * (last - first), start, position, running)


ALONE = [run("a", 10), run("b", 10), run("c", 10)]
TREE = [run("a", 100), run("b", 100, "a", 90), run("c", 100, "a", 90)]


@pytest.mark.parametrize(
    ("runs", "arguments", "expected"),
    [
        (ALONE, {"places": 1}, 30),
        (ALONE, {"places": 2}, 20),  # and not 15: a run has one place
        (ALONE, {"places": 9}, 10),
        (ALONE, {"places": 2, "start": 3.0}, 26),
        (ALONE, {"places": 2, "pace": 0.5}, 10),
        (ALONE, {"places": 2, "position": {"a": 6, "b": 2}, "running": ["a", "b"]}, 14),
        (ALONE, {"places": 2, "running": ["a"], "start": 3.0}, 26),  # has begun, and taken no step yet
        (ALONE[:1], {"places": 2, "position": {"a": 10}, "running": ["a"]}, 0),
        ([], {"places": 2}, 0),
        (TREE, {"places": 1}, 120),
        (TREE, {"places": 2}, 110),  # b begins at 90, c where a ends
        (TREE, {"places": 3}, 100),
        (TREE, {"places": 2, "position": {"a": 95}, "running": ["a"]}, 15),
        (TREE[1:], {"places": 2}, 10),  # what they begin from is there
        (TREE, {"places": 2, "position": {"a": 100, "b": 95}, "running": ["b"]}, 10),
        (TREE, {"places": 1, "position": {"b": 20}}, 190),  # b has begun by itself
    ],
)
def test_seconds_left(runs, arguments, expected):
    assert left(runs, **arguments) == expected


@st.composite
def trees(draw):
    runs = []
    for k in range(draw(st.integers(1, 8))):
        steps = draw(st.integers(1, 50))
        owners = [r for r in runs if r.steps > 1]
        if owners and draw(st.booleans()):
            owner = draw(st.sampled_from(owners))
            runs.append(run(f"r{k}", steps, owner.variant, draw(st.integers(1, min(owner.steps, steps)))))
        else:
            runs.append(run(f"r{k}", steps))
    return runs


@given(trees(), st.integers(1, 5))
def test_bounds(runs, places):
    work = sum(r.steps - r.shared for r in runs)
    found = left(runs, places)
    assert work / places <= found <= work
    assert left(runs, 1) == work
