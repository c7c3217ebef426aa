"""Where one of fvcore's schedulers stands in a run, and the steps at which fvcore's comparisons of `where` turn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from yolo_cosine.schedules.compose import Join, Shift
from yolo_cosine.schedules.curves import Schedule
from yolo_cosine.schedules.native import Run
from yolo_cosine.schedules.peers.undefined import Undefined

EPSILON = 1e-6
"""What fvcore adds to `where` before it compares it with a boundary (`WHERE_EPSILON`)."""


@dataclass(frozen=True)
class Place(Run):
    """Where a scheduler stands in a run: its steps count from `first`, its `where` from `start` of its parent's."""

    total: float = 1  # steps of the whole run
    unit: float = 1.0  # the rate that values are given as multiples of
    first: int = 0  # step of the run at which it is asked for the first time
    stop: float = math.inf  # step from which on the next one is asked
    parent: Place | None = None  # in a composite, the composite's place
    start: float = 0.0
    length: float = 1.0  # share of the parent's `where` that its own 0 to 1 takes

    def progress(self, step: int) -> float:
        """`where` at a step of the run, rounded as fvcore rounds it."""
        if self.parent is None:
            return step / self.total
        return (self.parent.progress(step) - self.start) / self.length

    @property
    def span(self) -> float:
        """Steps from `where` 0 to 1."""
        return self.total if self.parent is None else self._whole(self.parent.span * self.length)

    @property
    def origin(self) -> float:
        """Step of the run, often a fraction, at which `where` is 0."""
        if self.parent is None:
            return 0
        return self._whole(self.parent.origin + self.start * self.parent.span)

    @property
    def is_cut_off(self) -> bool:
        """Whether it is never asked past its own `where` 1."""
        return self.stop <= self.origin + self.span

    def _whole(self, steps: float) -> float:
        """A whole number of steps where only rounding makes it a fraction: 0.1 * 200 is meant to be 20."""
        return round(steps) if abs(steps - round(steps)) <= 4e-15 * self.total else steps

    def first_step(self, holds: Callable[[float], bool]) -> int:
        """The first step, counted from `first`, at which `where` is far enough for `holds` to be true."""
        if holds(self.progress(self.first)):
            return 0
        low, high = self.first, max(1, 2 * self.first)
        while not holds(self.progress(high)):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(self.progress(middle)) else (middle, high)
        return high - self.first

    def entered(self, curve: Schedule) -> Schedule:
        """A curve over `span` steps from `origin` on, as it is from `first` on."""
        by = self.first - self.origin
        if by == 0:
            return curve
        # an early boundary asks for a little before the curve's own step 0, where a shift would hold its first value
        return Shift(curve, by) if by > 0 else Join((curve,), (-by,))

    def until(self, curve: Schedule, over: Callable[[float], bool], reason: str) -> Schedule:
        """A curve that raises as soon as `over(where)`."""
        end = self.first_step(over)
        if self.first + end >= self.stop:
            return curve
        undefined = Undefined(f"{self.where}: {reason}")
        return Join((curve, undefined), (0, end)) if end else undefined
