"""Peers that give learning rates and not factors: their schedule as multiples of its highest rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace

from yolo_cosine.schedules.compose import Join
from yolo_cosine.schedules.curves import Schedule
from yolo_cosine.schedules.native import NativeGroup, NativeSchedule, Run

# Fields of the curves that are rates; all others are steps, shares, powers and factors.
_RATES = ("value", "values", "start", "end", "bound")


def of_rates(run: Run, schedule: Schedule, notes: Sequence[str] = ()) -> NativeSchedule:
    """A schedule whose values are learning rates, with its highest rate as lr0 (1.0 where none is above 0)."""
    lr0 = max(_rates(schedule))
    if not 0 < lr0 < math.inf:
        lr0 = 1.0
    length = run.get("total_iters") or (schedule.steps if _last(schedule).steps else None)
    return NativeSchedule(
        (NativeGroup("all", float(lr0)),), (_divided(schedule, lr0),), "update", length=length, notes=tuple(notes)
    )


def _rates(schedule: Schedule) -> Iterator[float]:
    if isinstance(schedule, Join):
        for piece in schedule.pieces:
            yield from _rates(piece)
        return
    for field in fields(schedule):
        value = getattr(schedule, field.name)
        if field.name in _RATES and value is not None:
            yield from value if isinstance(value, tuple) else (value,)


def _divided(schedule: Schedule, by: float) -> Schedule:
    if isinstance(schedule, Join):
        return replace(schedule, pieces=tuple(_divided(piece, by) for piece in schedule.pieces))
    rates = {field.name: getattr(schedule, field.name) for field in fields(schedule) if field.name in _RATES}
    return replace(schedule, **{name: _quotient(value, by) for name, value in rates.items() if value is not None})


def _quotient(value: float | tuple[float, ...], by: float) -> float | tuple[float, ...]:
    if isinstance(value, tuple):
        return tuple(_quotient(v, by) for v in value)
    return float(f"{value / by:.15g}")  # people read it: 0.01 / 0.1 is 0.09999999999999999


def _last(schedule: Schedule) -> Schedule:
    return _last(schedule.pieces[-1]) if isinstance(schedule, Join) else schedule
