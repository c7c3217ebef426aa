"""Combinators: schedules made of schedules."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

from yolo_cosine.schedules.curves import Schedule


@dataclass(frozen=True)
class Join:
    """Pieces one after another, each in its own local time that starts at 0; the last one goes on for ever."""

    pieces: tuple[Schedule, ...]
    starts: tuple[int, ...]  # global step at which each piece starts

    @property
    def steps(self) -> int:
        return self.starts[-1] + self.pieces[-1].steps

    def __call__(self, step: int) -> float:
        k = bisect_right(self.starts, step) - 1
        return self.pieces[k](step - self.starts[k])


def join(*pieces: Schedule) -> Schedule:
    """Put pieces one after another; a piece of no steps is left out, unless it is the last."""
    kept = tuple(piece for piece in pieces[:-1] if piece.steps > 0) + pieces[-1:]
    return Join(kept, tuple(accumulate((piece.steps for piece in kept[:-1]), initial=0)))


@dataclass(frozen=True)
class EpochWise:
    """A schedule over epochs, as a schedule over steps: its value changes at the start of each epoch."""

    by_epoch: Schedule
    steps_per_epoch: int

    @property
    def steps(self) -> int:
        return self.by_epoch.steps * self.steps_per_epoch

    def __call__(self, step: int) -> float:
        return self.by_epoch(step // self.steps_per_epoch)


@dataclass(frozen=True)
class RampInto:
    """A warmup towards a moving target: `start + (target(step) - start) * step / warmup` for `step < warmup`.

    The target's clock runs during the warmup, where `join` starts it afterwards.
    """

    start: float
    target: Schedule
    warmup: int

    @property
    def steps(self) -> int:
        return self.target.steps

    def __call__(self, step: int) -> float:
        value = self.target(step)
        if step >= self.warmup:
            return value
        return self.start + (value - self.start) * (step / self.warmup)


@dataclass(frozen=True)
class Rounded:
    """Whole numbers, at least 1: the schedule rounded half to even."""

    schedule: Schedule

    @property
    def steps(self) -> int:
        return self.schedule.steps

    def __call__(self, step: int) -> int:
        return max(1, round(self.schedule(step)))
