"""Optax (`optax/schedules/_schedule.py` and `_join.py` of 0.2.8): learning rates by update, the first has count 0.

A boundary belongs to the piece that starts there. The end value belongs to count `decay_steps`, one past the last of
so many updates, and is held. Optax computes in float32 unless jax's x64 is on; here it is always float64, and the
switch `x64` is accepted and not used.

This file has the schedules that are joined from others; those of one stretch are in `optax_pieces`.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from yolo_cosine.schedules.curves import InvalidSchedule, Linear, Schedule, Steps, require
from yolo_cosine.schedules.native import Run, call
from yolo_cosine.schedules.peers.optax_pieces import CURVES, Curve, Notes, cosine, exponential, joined, linear, optax
from yolo_cosine.schedules.peers.optax_text import read_piece


@optax("warmup_constant_schedule")
def warmup_constant(notes: Notes, *, init_value: float, peak_value: float, warmup_steps: Steps) -> Schedule:
    """A line from `init_value` to `peak_value`, which is held. Without a warmup, `init_value` is."""
    return linear(notes, init_value=init_value, end_value=peak_value, transition_steps=warmup_steps)


@optax("warmup_cosine_decay_schedule")
def warmup_cosine(
    notes: Notes,
    *,
    init_value: float,
    peak_value: float,
    warmup_steps: Steps,
    decay_steps: Steps,
    end_value: float = 0.0,
    exponent: float = 1.0,
) -> Schedule:
    """A line to `peak_value`, then a cosine to `end_value` at `decay_steps`, which include the warmup."""
    require(
        decay_steps > warmup_steps,
        f"decay_steps: {decay_steps:g} leaves no step after the warmup of {warmup_steps:g}; decay_steps includes the "
        "warmup, make it longer",
    )
    if peak_value == 0 and end_value != 0:
        notes.append(f"peak_value is 0: end_value={end_value:g} is not used, the rate stays at 0 after the warmup")
    alpha = end_value / peak_value if peak_value else 0.0
    decay = cosine(notes, init_value=peak_value, decay_steps=decay_steps - warmup_steps, alpha=alpha, exponent=exponent)
    return _after_warmup(init_value, peak_value, warmup_steps, decay)


@optax("warmup_exponential_decay_schedule")
def warmup_exponential(
    notes: Notes,
    *,
    init_value: float,
    peak_value: float,
    warmup_steps: Steps,
    transition_steps: Steps,
    decay_rate: float,
    transition_begin: Steps = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> Schedule:
    """A line to `peak_value`, then `exponential_decay` from it; `transition_begin` counts from the warmup's end."""
    decay = exponential(
        notes,
        init_value=peak_value,
        transition_steps=transition_steps,
        decay_rate=decay_rate,
        transition_begin=transition_begin,
        staircase=staircase,
        end_value=end_value,
    )
    return _after_warmup(init_value, peak_value, warmup_steps, decay)


@optax("sgdr_schedule")
def sgdr(notes: Notes, *, cosine_kwargs: Iterable[Mapping[str, Any]]) -> Schedule:
    """One `warmup_cosine_decay_schedule` after another, each as long as its `decay_steps`."""
    cycles = list(cosine_kwargs)
    pieces = [_built(notes, f"cosine_kwargs[{k}]", warmup_cosine, cycle) for k, cycle in enumerate(cycles)]
    require(bool(pieces), "cosine_kwargs: it is empty; write the arguments of at least one cycle")
    return joined(pieces, list(accumulate((cycle["decay_steps"] for cycle in cycles[:-1]), initial=0)))


@optax("join_schedules")
def join_schedules(notes: Notes, *, schedules: Sequence[Any], boundaries: Sequence[Steps]) -> Schedule:
    """Schedules one after another, each from its boundary on and with its own count from 0.

    A schedule is text as in `optax_text`, or a mapping with `type` and the arguments.
    """
    require(not isinstance(schedules, str) and bool(schedules), f"schedules: {schedules!r} is no list; write one")
    pieces = []
    for k, written in enumerate(schedules):
        where = f"schedules[{k}]"
        try:
            piece = read_piece(written)
            curve = _curve_called(piece.name)
            names = list(inspect.signature(curve).parameters)[1:]
            require(
                len(piece.positional) <= len(names),
                f"{piece.name} has {len(piece.positional)} arguments; it takes {', '.join(names)}",
            )
            twice = [name for name in names[: len(piece.positional)] if name in piece.named]
            require(not twice, f"{', '.join(twice)}: it is there twice, by place and by name; leave one out")
        except InvalidSchedule as error:
            raise InvalidSchedule(f"{where}: {error}") from None
        arguments = dict(zip(names, piece.positional, strict=False)) | dict(piece.named)
        pieces.append(_built(notes, f"{where}, {piece.name}", curve, arguments))
    starts = [0, *boundaries]
    if len(starts) != len(pieces):
        notes.append(f"{len(boundaries)} boundaries for {len(pieces)} schedules: what has no partner is not used")
    if starts != sorted(starts):
        notes.append(f"boundaries {list(boundaries)} are not in order: a schedule that starts too late is never seen")
    used = min(len(pieces), len(starts))
    return joined(pieces[:used], starts[:used])


def _built(notes: Notes, where: str, curve: Curve, arguments: Mapping[str, Any]) -> Schedule:
    """Call a function of this file with arguments that are checked like those of a whole schedule."""

    def build(run: Run, **arguments: Any) -> Schedule:
        return curve(notes, **arguments)

    build.__signature__ = inspect.signature(curve)
    return call(build, where, arguments, Run(where))


def _curve_called(name: str) -> Curve:
    for full in (name, f"{name}_schedule", f"{name}_decay", f"{name}_decay_schedule", f"{name}_schedules"):
        if full in CURVES:
            return CURVES[full]
    near = difflib.get_close_matches(name, CURVES, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(CURVES)}"
    raise InvalidSchedule(f"{name!r} is no schedule of optax; {hint}")


def _after_warmup(init_value: float, peak_value: float, warmup_steps: Steps, decay: Schedule) -> Schedule:
    if warmup_steps <= 0:
        return joined([decay], [warmup_steps])
    return joined([Linear(init_value, peak_value, warmup_steps), decay], [0, warmup_steps])
