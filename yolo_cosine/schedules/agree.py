"""How long two runs are one: the steps at which two schedules apply the same numbers, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator

from yolo_cosine.schedules.compose import segment
from yolo_cosine.schedules.curves import Constant, Schedule
from yolo_cosine.schedules.table import SchedulePlan


def agree_until(one: SchedulePlan, other: SchedulePlan) -> int:
    """The first step at which learning rate, momentum, weight decay or accumulation of two plans differ.

    It is the shorter one's length where they never do. The plans must have the same groups.
    """
    steps = min(one.schedule.steps, other.schedule.steps)
    for a, b in zip(_series(one), _series(other), strict=True):
        steps = _equal_steps(a, b, steps)
    return steps


def _series(plan: SchedulePlan) -> Iterator[tuple[Schedule, float]]:
    """Everything that is applied, each with what its values are multiplied with."""
    for group in plan.groups:
        yield plan.schedule.lr[group.name], group.lr0
    yield plan.schedule.momentum, 1.0
    yield plan.schedule.weight_decay, 1.0
    yield plan.schedule.accumulate, 1.0


def _equal_steps(one: tuple[Schedule, float], other: tuple[Schedule, float], steps: int) -> int:
    """The first of `steps` steps at which two schedules differ; where their pieces are the same no value is asked for."""
    (a, base_a), (b, base_b) = one, other
    step = 0
    while step < steps:
        piece_a, start_a, until_a = segment(a, step)
        piece_b, start_b, until_b = segment(b, step)
        same = base_a == base_b and piece_a == piece_b and (start_a == start_b or isinstance(piece_a, Constant))
        constant = isinstance(piece_a, Constant) and isinstance(piece_b, Constant)
        if not same and base_a * piece_a(step - start_a) != base_b * piece_b(step - start_b):
            return step
        # the first whole step at which another piece may speak; values that happen to be equal say nothing of the next
        step = -int(-min(until_a, until_b, steps) // 1) if same or constant else step + 1
    return steps
