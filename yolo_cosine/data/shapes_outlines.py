"""Outlines of what the embedded data set draws: its five classes, and distractors that belong to none of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

NAMES = ("circle", "square", "triangle", "star", "ring")


@dataclass(frozen=True)
class Outline:
    """What a thing covers: contours filled by the even-odd rule, or open lines of a given thickness."""

    contours: tuple[np.ndarray, ...]  # each (K, 2) float64, x and y in pixels of the image
    thickness: float = 0.0  # pixels; 0 for filled


def shape(rng: np.random.Generator, kind: int, centre: np.ndarray, side: float, hollow: bool) -> Outline:
    """An object of class NAMES[kind], turned and stretched by chance.

    Args:
        centre: (2,) x and y, pixels.
        side: diameter of the circle around it before it is stretched, pixels.
        hollow: leave out the filling of a square, triangle or star. A circle has one always: without, it is a ring.
    """
    turn, stretch = rng.uniform(0, 2 * math.pi, 2)
    axis = _rotation(stretch)
    matrix = axis @ np.diag((1, rng.uniform(0.8, 1))) @ axis.T @ _rotation(turn) * side / 2
    return Outline(tuple(contour @ matrix.T + centre for contour in _unit_shape(rng, NAMES[kind], hollow)))


def _unit_shape(rng: np.random.Generator, name: str, hollow: bool) -> list[np.ndarray]:
    """Contours of a class within a circle of radius 1."""
    if name == "circle":
        return [_polygon(48)]
    if name == "ring":
        return [_polygon(48), _polygon(48) * rng.uniform(0.45, 0.65)]
    if name == "star":
        outer = _polygon(10) * np.where(np.arange(10) % 2, rng.uniform(0.38, 0.5), 1)[:, None]
    else:
        outer = _polygon({"square": 4, "triangle": 3}[name])
    return [outer, outer * rng.uniform(0.5, 0.65)] if hollow else [outer]


def distractor(rng: np.random.Generator, centre: np.ndarray, side: float, thickness: float) -> Outline:
    """A line, a stroke, a cross, an arc, a blob or a sliver; `side` and `thickness` (of lines) in pixels."""
    matrix = _rotation(rng.uniform(0, 2 * math.pi)) * side / 2
    contours, filled = _DISTRACTORS[rng.integers(len(_DISTRACTORS))](rng)
    placed = tuple(contour @ matrix.T + centre for contour in contours)
    return Outline(placed) if filled else Outline(placed, max(thickness, 0.06 * side))


def _line(rng: np.random.Generator) -> tuple[list[np.ndarray], bool]:
    return [np.array([(-1.5, 0), (1.5, 0)])], False


def _stroke(rng: np.random.Generator) -> tuple[list[np.ndarray], bool]:
    return [rng.uniform(-1, 1, (int(rng.integers(3, 6)), 2))], False


def _cross(rng: np.random.Generator) -> tuple[list[np.ndarray], bool]:
    return [np.array([(-1, 0), (1, 0)]), np.array([(0, -1), (0, 1)])], False


def _arc(rng: np.random.Generator) -> tuple[list[np.ndarray], bool]:
    angle = np.linspace(0, rng.uniform(0.3, 0.6) * 2 * math.pi, 24)
    return [np.stack((np.cos(angle), np.sin(angle)), 1)], False


def _blob(rng: np.random.Generator) -> tuple[list[np.ndarray], bool]:
    angle = np.arange(40) * (2 * math.pi / 40)
    waves = [rng.uniform(0.08, 0.2) * np.cos(k * angle + rng.uniform(0, 2 * math.pi)) for k in (1, 2, 3, 5)]
    return [_polygon(40) * (0.6 + np.sum(waves, 0))[:, None]], True


def _sliver(rng: np.random.Generator) -> tuple[list[np.ndarray], bool]:
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (1, rng.uniform(0.15, 0.35))
    return [corners + rng.uniform(-0.1, 0.1, (4, 2))], True


_DISTRACTORS = (_line, _stroke, _cross, _arc, _blob, _sliver)


def _polygon(corners: int) -> np.ndarray:
    angle = np.arange(corners) * (2 * math.pi / corners)
    return np.stack((np.cos(angle), np.sin(angle)), 1)


def _rotation(angle: float) -> np.ndarray:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
