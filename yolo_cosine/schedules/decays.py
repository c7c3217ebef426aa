"""The shapes that the short form knows by one word: decays after the warmup, and warmups."""

from __future__ import annotations

from collections.abc import Callable

from yolo_cosine.schedules.curves import (
    Constant,
    Cosine,
    Geometric,
    Linear,
    OneMinusSqrt,
    Power,
    Rex,
    Schedule,
    Steps,
    Tanh,
)

Shape = Callable[[float, float, Steps], Schedule]  # start, end, steps


def _held(start: float, end: float, steps: Steps) -> Schedule:
    return Constant(start, steps)


DECAYS: dict[str, Shape] = {
    "cosine": Cosine,
    "linear": Linear,
    "constant": _held,
    "exponential": Geometric,
    "one-minus-sqrt": OneMinusSqrt,
    "rex": Rex,
    "tanh": Tanh,
}
"""From 1 to lrf, by the value of `curve`."""

WARMUPS: dict[str, Shape] = {
    "linear": Linear,
    "constant": _held,
    "quadratic": Power,
    "exponential": Geometric,
    "cosine": Cosine,
}
"""From a start to 1, by the value of `warmup_curve`."""
