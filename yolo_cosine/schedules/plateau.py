"""Lowering the learning rate when a metric stops getting better: the one schedule with a state.

The state is a value of its own, which a run keeps in its checkpoints, and `observe` is a pure function from one state to
the next. The rule is PyTorch's `ReduceLROnPlateau` (2.13); the learning rate is multiplied with the state's `factor`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from yolo_cosine.schedules.curves import Piecewise, require


@dataclass(frozen=True)
class PlateauState:
    """What a plateau schedule remembers. All of it goes into JSON and back."""

    factor: float = 1.0  # of the learning rate
    best: float | None = None  # None until a metric was good enough to be one
    bad: int = 0  # observations in a row without a better metric
    cooldown: int = 0  # observations to come that cannot be bad


@dataclass(frozen=True)
class Plateau:
    """Multiply the factor by `factor` at the (`patience` + 1)-th observation in a row that is not better than the best.

    Better is below the best for `mode: min`, above it for `max`, by more than `threshold`: a share of the best (`rel`;
    of a best below 0 it counts the wrong way round, as PyTorch has it), or the metric's own units (`abs`). After a
    reduction, `cooldown` observations cannot be bad. The factor falls no lower than `min_factor`, and not at all where
    it would fall by `eps` or less.
    """

    mode: Literal["min", "max"] = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: int = 0
    min_factor: float = 0.0
    eps: float = 1e-8

    def __post_init__(self) -> None:
        require(self.mode in ("min", "max"), f"mode: {self.mode!r} is not known; write min or max")
        require(
            self.threshold_mode in ("rel", "abs"),
            f"threshold_mode: {self.threshold_mode!r} is not known; write rel or abs",
        )
        require(
            0 <= self.factor < 1, f"factor: {self.factor:g} lowers nothing; write a number from 0 up to, not with, 1"
        )
        require(self.patience >= 0, f"patience: {self.patience} is below 0; write 0 to react at once")
        require(self.cooldown >= 0, f"cooldown: {self.cooldown} is below 0; write 0 for none")
        require(self.eps >= 0, f"eps: {self.eps:g} is below 0; write 0 to let every reduction happen")

    def start(self) -> PlateauState:
        """The state before the first observation."""
        return PlateauState()

    def observe(self, state: PlateauState, metric: float) -> PlateauState:
        """The state after one more evaluation. A metric that is no number (NaN) is not better."""
        metric = float(metric)
        better = self._is_better(metric, state.best)
        best, bad = (metric, 0) if better else (state.best, state.bad + 1)
        cooldown = state.cooldown
        if cooldown > 0:
            cooldown, bad = cooldown - 1, 0
        if bad <= self.patience:
            return dataclasses.replace(state, best=best, bad=bad, cooldown=cooldown)
        lower = max(state.factor * self.factor, self.min_factor)
        factor = lower if state.factor - lower > self.eps else state.factor
        return PlateauState(factor, best, 0, self.cooldown)

    def replay(self, metrics: Iterable[float]) -> Piecewise:
        """The factors for metrics that are known: at step `i` those before `metrics[i]` have been observed."""
        state, values, boundaries = self.start(), [1.0], []
        for step, metric in enumerate(metrics, start=1):
            state = self.observe(state, metric)
            if state.factor != values[-1]:
                values.append(state.factor)
                boundaries.append(step)
        return Piecewise(tuple(values), tuple(boundaries))

    def _is_better(self, metric: float, best: float | None) -> bool:
        sign = -1.0 if self.mode == "min" else 1.0
        if best is None:
            best = -sign * math.inf
        relative = self.threshold_mode == "rel"
        limit = best * (1.0 + sign * self.threshold) if relative else best + sign * self.threshold
        return metric < limit if self.mode == "min" else metric > limit
