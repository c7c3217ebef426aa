"""Optax's schedules of one stretch, and how a function becomes a schedule of optax (`_schedule.py` of 0.2.8).

Each function gives absolute rates from optax's own arguments, in optax's order, and writes into `notes` what these
arguments do that a reader would not expect.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul
from typing import Any

from yolo_cosine.schedules.compose import Join
from yolo_cosine.schedules.curves import (
    Constant,
    Cosine,
    Exponential,
    InvalidSchedule,
    Linear,
    MultiStep,
    Polynomial,
    Schedule,
    Steps,
    kind,
    require,
)
from yolo_cosine.schedules.native import NativeSchedule, Run, native
from yolo_cosine.schedules.peers.absolute import of_rates

Notes = list[str]
Curve = Callable[..., Schedule]
CURVES: dict[str, Curve] = {}
"""By optax's name, the function that gives its rates."""


def optax(name: str) -> Callable[[Curve], Curve]:
    """Offer a function as optax's schedule of this name, by itself and as a piece of `join_schedules`."""

    def register(curve: Curve) -> Curve:
        def build(run: Run, *, x64: bool = True, **arguments: Any) -> NativeSchedule:
            notes: Notes = []
            return of_rates(run, curve(notes, **arguments), notes)

        signature, switch = inspect.signature(curve), inspect.signature(build).parameters["x64"]
        build.__signature__ = signature.replace(parameters=[*signature.parameters.values(), switch])
        build.__doc__ = curve.__doc__
        native("optax", name)(build)
        CURVES[name] = curve
        return curve

    return register


@kind("optax-cosine-power")
@dataclass(frozen=True)
class CosinePower:
    """`end + (start - end) * ((1 + cos(pi * step / steps)) / 2) ** exponent`, then it holds `end`.

    An exponent above 1 falls early, one below 1 late. Source: optax, `cosine_decay_schedule`.
    """

    start: float
    end: float
    steps: Steps
    exponent: float

    def __post_init__(self) -> None:
        require(self.exponent > 0, f"exponent: {self.exponent:g} is not above 0, so the end is not reached; raise it")

    def __call__(self, step: float) -> float:
        if step >= self.steps:
            return self.end
        return self.end + (self.start - self.end) * ((1 + math.cos(math.pi * step / self.steps)) / 2) ** self.exponent


def joined(pieces: Sequence[Schedule], starts: Sequence[Steps]) -> Schedule:
    """Pieces from these counts on. Of two that start out of order the later one in the list hides the other."""
    kept = [k for k, start in enumerate(starts) if all(later > start for later in starts[k + 1 :])]
    if len(kept) == 1 and starts[kept[0]] == 0:
        return pieces[kept[0]]
    return Join(tuple(pieces[k] for k in kept), tuple(starts[k] for k in kept))


@optax("constant_schedule")
def constant(notes: Notes, *, value: float) -> Schedule:
    """The same rate at every count."""
    return Constant(value)


@optax("polynomial_schedule")
def polynomial(
    notes: Notes,
    *,
    init_value: float,
    end_value: float,
    power: float,
    transition_steps: Steps,
    transition_begin: Steps = 0,
) -> Schedule:
    """`init_value` until `transition_begin`, then a polynomial to `end_value` in `transition_steps`.

    With no steps, or a power of 0, it stays at `init_value` for ever. A power below 0 ends at infinity and is refused.
    """
    if transition_steps <= 0:
        notes.append(f"transition_steps is {transition_steps:g}: init_value is held for ever, end_value is never used")
        return Constant(init_value)
    require(power >= 0, f"power: {power:g} is below 0, which makes the end infinite; write a number above 0")
    if power == 0:
        notes.append("power is 0: init_value is held for ever, end_value is never used")
        return Constant(init_value)
    begin = max(0, transition_begin)
    fall = (
        Linear(init_value, end_value, transition_steps)
        if power == 1
        else Polynomial(init_value, end_value, transition_steps, power)
    )
    return joined([Constant(init_value, begin), fall], [0, begin])


@optax("linear_schedule")
def linear(
    notes: Notes, *, init_value: float, end_value: float, transition_steps: Steps, transition_begin: Steps = 0
) -> Schedule:
    """`polynomial_schedule` with a power of 1."""
    return polynomial(
        notes,
        init_value=init_value,
        end_value=end_value,
        power=1,
        transition_steps=transition_steps,
        transition_begin=transition_begin,
    )


@optax("piecewise_constant_schedule")
def piecewise_constant(
    notes: Notes, *, init_value: float, boundaries_and_scales: Mapping[Any, float] | None = None
) -> Schedule:
    """`init_value`, times a scale from each boundary on (the boundary's own count included)."""
    boundaries, scales = _boundaries_and_scales(boundaries_and_scales)
    if not boundaries:
        return Constant(init_value)
    return MultiStep(init_value, boundaries, scales[0] if len(set(scales)) == 1 else scales)


@optax("exponential_decay")
def exponential(
    notes: Notes,
    *,
    init_value: float,
    transition_steps: Steps,
    decay_rate: float,
    transition_begin: Steps = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> Schedule:
    """`init_value * decay_rate ** ((count - transition_begin) / transition_steps)`, not beyond `end_value`.

    With no steps, or a rate of 0, it stays at `init_value` for ever, also beyond `end_value`.
    """
    if transition_steps <= 0 or decay_rate == 0:
        notes.append(
            f"transition_steps is {transition_steps:g} and decay_rate {decay_rate:g}: where one is 0, init_value is "
            "held for ever, also beyond end_value"
        )
        return Constant(init_value)
    require(decay_rate > 0, f"decay_rate: {decay_rate:g} is below 0, which makes rates below 0; write one above 0")
    begin = max(0, transition_begin)
    decay = Exponential(init_value, decay_rate, transition_steps, staircase, end_value)
    return joined([Constant(decay(0), begin), decay], [0, begin])


@optax("cosine_decay_schedule")
def cosine(
    notes: Notes, *, init_value: float, decay_steps: Steps, alpha: float = 0.0, exponent: float = 1.0
) -> Schedule:
    """A cosine to some power, from `init_value` to `alpha * init_value` in `decay_steps`."""
    require(decay_steps > 0, f"decay_steps: {decay_steps:g} is not above 0; write the number of steps of the decay")
    require(exponent >= 0, f"exponent: {exponent:g} is below 0, which makes the end infinite; write 1 for the cosine")
    if exponent == 0:
        notes.append("exponent is 0: init_value is held for ever, alpha is never used")
        return Constant(init_value)
    if exponent == 1:
        return Cosine(init_value, alpha * init_value, decay_steps)
    return CosinePower(init_value, alpha * init_value, decay_steps, exponent)


@optax("piecewise_interpolate_schedule")
def piecewise_interpolate(
    notes: Notes,
    *,
    interpolate_type: str,
    init_value: float,
    boundaries_and_scales: Mapping[Any, float] | None = None,
) -> Schedule:
    """Through the values of `piecewise_constant_schedule` at its boundaries, along lines or half cosines.

    An interval shorter than one step is walked as if it had one, and so is left before its end.
    """
    shapes = {"linear": Linear, "cosine": Cosine}
    require(interpolate_type in shapes, f"interpolate_type: {interpolate_type!r} is neither; write cosine or linear")
    boundaries, scales = _boundaries_and_scales(boundaries_and_scales)
    bounds = (0, *boundaries)
    values = list(accumulate((init_value, *scales), mul))
    ways = [k for k in range(len(boundaries)) if bounds[k + 1] > bounds[k]]
    pieces = [shapes[interpolate_type](values[k], values[k + 1], max(1, bounds[k + 1] - bounds[k])) for k in ways]
    starts = [bounds[k] for k in ways]
    if not pieces or bounds[-1] - bounds[-2] < 1:
        pieces.append(Constant(values[-1]))
        starts.append(bounds[-1])
    return joined(pieces, starts)


@optax("linear_onecycle_schedule")
def linear_onecycle(
    notes: Notes,
    *,
    transition_steps: Steps,
    peak_value: float,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Lines from `peak_value / div_factor` to the peak, back, and on to that start divided by `final_div_factor`."""
    _check_onecycle(transition_steps, div_factor, final_div_factor)
    corners = {int(pct_start * transition_steps): div_factor, int(pct_final * transition_steps): 1 / div_factor}
    corners[transition_steps] = 1 / final_div_factor
    return _onecycle(notes, "linear", peak_value / div_factor, corners, 3)


@optax("cosine_onecycle_schedule")
def cosine_onecycle(
    notes: Notes,
    *,
    transition_steps: Steps,
    peak_value: float,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> Schedule:
    """Half cosines from `peak_value / div_factor` to the peak and to `peak_value / div_factor / div / final`."""
    _check_onecycle(transition_steps, div_factor, final_div_factor)
    corners = {int(pct_start * transition_steps): div_factor}
    corners[int(transition_steps)] = 1 / (div_factor * final_div_factor)
    return _onecycle(notes, "cosine", peak_value / div_factor, corners, 2)


def _boundaries_and_scales(given: Mapping[Any, float] | None) -> tuple[tuple[Steps, ...], tuple[float, ...]]:
    """In the order of the boundaries, which may be text, as they are in JSON."""
    items = sorted((_count(boundary), scale) for boundary, scale in dict(given or {}).items())
    for boundary, scale in items:
        require(scale >= 0, f"boundaries_and_scales: the scale {scale:g} at {boundary:g} is below 0; write 0 or more")
    return tuple(boundary for boundary, _ in items), tuple(scale for _, scale in items)


def _count(boundary: Any) -> Steps:
    try:
        number = float(boundary)
    except (TypeError, ValueError):
        raise InvalidSchedule(f"boundaries_and_scales: {boundary!r} is no boundary; write a number of steps") from None
    return int(number) if number.is_integer() else number


def _check_onecycle(transition_steps: Steps, div_factor: float, final_div_factor: float) -> None:
    for name, value in (
        ("transition_steps", transition_steps),
        ("div_factor", div_factor),
        ("final_div_factor", final_div_factor),
    ):
        require(value > 0, f"{name}: {value:g} is not above 0; write a number above 0")


def _onecycle(notes: Notes, shape: str, start: float, corners: Mapping[Steps, float], meant: int) -> Schedule:
    if len(corners) < meant:
        notes.append(f"two corners of the cycle fall on one step of {sorted(corners)}: only the later one counts")
    return piecewise_interpolate(notes, interpolate_type=shape, init_value=start, boundaries_and_scales=corners)
