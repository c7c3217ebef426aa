"""What one of MMEngine's schedulers is applied to, and what it gives: a window of own steps, and rules in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from yolo_cosine.schedules.curves import require
from yolo_cosine.schedules.peers.mmengine_rules import Rule

INF = int(1e9)
"""MMEngine's `end` for never."""


@dataclass(frozen=True)
class Scope:
    """What a scheduler is applied to: a value of one parameter group, in a window of the scheduler's own steps."""

    begin: float
    end: float
    base: float  # the group's initial value, in units of `unit`
    unit: float = 1.0
    per_epoch: int = 1  # own steps in an epoch where epochs are converted to iterations
    group: int = 0
    groups: int = 1
    metrics: Sequence[Any] | None = None
    notes: list[str] = field(default_factory=list)  # what a reader should be told

    @property
    def first(self) -> int:
        """The first step of the window."""
        return max(0, math.ceil(self.begin))

    @property
    def last(self) -> float:
        """The last one, counted from the first."""
        return math.inf if self.end >= INF else math.ceil(self.end) - self.first - 1

    @property
    def total(self) -> float:
        """`end - begin - 1`, where a line, a polynomial and a constant arrive."""
        return self.end - self.begin - 1

    def of_group(self, name: str, value: Any) -> float:
        """The group's own of a list of values, in units; one number is for all groups."""
        if isinstance(value, list | tuple):
            require(
                len(value) == self.groups, f"{name}: {len(value)} values for {self.groups} groups; write one for each"
            )
            value = value[self.group]
        return value / self.unit

    def lowest(self, eta_min: float | None, eta_min_ratio: float | None) -> float:
        """The lowest value, which is given as itself or as a share of the group's initial value."""
        require(
            (eta_min is None) != (eta_min_ratio is None),
            f"eta_min: one of eta_min={eta_min} and eta_min_ratio={eta_min_ratio} must be given, and not both",
        )
        return self.base * eta_min_ratio if eta_min is None else eta_min / self.unit


@dataclass(frozen=True)
class Stretch:
    """A rule for the own steps from `first` on, and before `stop`, of a window."""

    rule: Rule
    first: int = 0
    stop: float = math.inf
