"""PyTorch's recursive schedulers, where they act on one learning rate together.

Most of PyTorch's schedulers do not write their own value: they take what the rate is and move it. Alone that is their
closed form; in a `ChainedScheduler`, or after a change by hand, it is not. Each movement is an affine map of the rate,
`toward + (rate - toward) * k`, which depends on the step only, so the values follow exactly. They are computed once, in
order, and kept: the only schedules here for which step 10**6 costs more than step 0 does.

Source: `torch/optim/lr_scheduler.py` of 2.13, the `get_lr` methods.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

from yolo_cosine.schedules.curves import Schedule, Steps, kind


class Recursion:
    """A rate that follows from the rate before, and from 1 before step 0."""

    @property
    def steps(self) -> Steps:
        """No length of its own."""
        return 0

    def advance(self, rate: float, step: int) -> float:
        """The rate at `step`, where `rate` was the one before."""
        raise NotImplementedError

    def __call__(self, step: float) -> float:
        known = _known(self)
        while len(known) <= step:
            known.append(self.advance(known[-1] if known else 1.0, len(known)))
        return known[int(step)]


@lru_cache(maxsize=64)
def _known(recursion: Recursion) -> list[float]:
    """The values of a recursion so far; equal recursions share them."""
    return []


@kind("torch-scheduler")
@dataclass(frozen=True)
class Link(Recursion):
    """A scheduler whose values are those of `schedule` when it acts alone.

    It moves the rate towards `toward` (0: it multiplies) as much as it moves its own value, or, at none, writes its
    own value. `before` is its own value before step 0; at none, step 0 is written. Where its own value is at `toward`
    and leaves it again, what it adds is added, unless it does not return.
    """

    schedule: Schedule
    toward: float | None = 0.0
    before: float | None = 1.0
    returns: bool = True

    def advance(self, rate: float, step: int) -> float:
        value = self.schedule(step)
        old = self.before if step == 0 else self.schedule(step - 1)
        if self.toward is None or old is None:
            return value
        if old == self.toward:  # nothing is left to take a share of
            return rate + (value - old) * self.returns
        return self.toward + (rate - self.toward) * (value - self.toward) / (old - self.toward)


@kind("torch-chain")
@dataclass(frozen=True)
class Chain(Recursion):
    """Schedulers that act at every step one after another, each on what the one before left: ChainedScheduler."""

    schedulers: tuple[Schedule, ...]

    def advance(self, rate: float, step: int) -> float:
        for scheduler in self.schedulers:
            rate = scheduler.advance(rate, step)
        return rate


@kind("torch-relay")
@dataclass(frozen=True)
class Relay(Recursion):
    """Schedulers of which one acts at a time, from its start on and in its own time: SequentialLR."""

    schedulers: tuple[Schedule, ...]
    starts: tuple[Steps, ...]

    def advance(self, rate: float, step: int) -> float:
        k = bisect_right(self.starts, step) - 1
        return self.schedulers[k].advance(rate, int(step - self.starts[k]))


@kind("torch-edited")
@dataclass(frozen=True)
class Edited(Recursion):
    """A scheduler whose rate somebody multiplies with `factor`, just before the scheduler moves it to step `at`."""

    scheduler: Schedule
    at: Steps
    factor: float

    def advance(self, rate: float, step: int) -> float:
        return self.scheduler.advance(rate * self.factor if step == self.at else rate, step)


@kind("torch-multiplied")
@dataclass(frozen=True)
class Multiplied(Recursion):
    """The product of the values of `factor` at all steps from `first` to this one: MultiplicativeLR."""

    factor: Schedule
    first: Steps = 1

    def advance(self, rate: float, step: int) -> float:
        return rate * self.factor(step) if step >= self.first else rate
