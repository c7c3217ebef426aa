"""A schedule in words: its phases, its peak, its end, and the share of the run that each phase takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass

from yolo_cosine.schedules.compose import Clip, EpochWise, Join, Noise, RampInto, Repeat, Rounded, Scale, Shift
from yolo_cosine.schedules.curves import InvalidSchedule, Schedule
from yolo_cosine.schedules.cycles import CosinePeriodic, CosineRestarts, OneCycle

_MOST_PARTS = 12  # named one by one; more are summed up


@dataclass(frozen=True)
class Part:
    """A stretch of a run in which one curve gives the values."""

    name: str
    start: int  # first step
    stop: int  # step after the last
    first: float  # value at the first step
    last: float  # value at the last step

    @property
    def steps(self) -> int:
        """How many."""
        return self.stop - self.start


def parts(schedule: Schedule, steps: int) -> list[Part]:
    """The phases of steps `0..steps-1`, in order; together they are all of them."""
    # a start may be infinitely far away
    bounds = [(name, math.ceil(start)) for name, start in _starts(schedule) if start <= steps - 1]
    ends = [start for _, start in bounds[1:]] + [steps]
    return [
        Part(name, start, stop, schedule(start), schedule(stop - 1))
        for (name, start), stop in zip(bounds, ends, strict=True)
        if stop > start
    ]


def _starts(schedule: Schedule, most: int = 1000) -> Iterator[tuple[str, float]]:
    """Name and first step of every phase, from step 0 on; at most `most` of a cyclic one."""
    if isinstance(schedule, Join):
        for k, (piece, begin) in enumerate(zip(schedule.pieces, schedule.starts, strict=True)):
            end = schedule.starts[k + 1] if k + 1 < len(schedule.starts) else math.inf
            yield from ((name, begin + at) for name, at in _starts(piece, most) if begin + at < end)
    elif isinstance(schedule, RampInto) and schedule.warmup > 0:
        yield "warmup", 0
        later = list(_starts(schedule.target, most))
        running = [name for name, at in later if at <= schedule.warmup]
        yield running[-1], schedule.warmup
        yield from ((name, at) for name, at in later if at > schedule.warmup)
    elif isinstance(schedule, RampInto):
        yield from _starts(schedule.target, most)
    elif isinstance(schedule, EpochWise):
        yield from (
            (f"{name}, by epoch", at * schedule.steps_per_epoch) for name, at in _starts(schedule.by_epoch, most)
        )
    elif isinstance(schedule, Scale | Clip | Noise | Rounded):
        yield from _starts(schedule.schedule, most)
    elif isinstance(schedule, Shift) and schedule.by >= 0:
        inner = list(_starts(schedule.schedule, most))
        yield [name for name, at in inner if at <= schedule.by][-1], 0
        yield from ((name, at - schedule.by) for name, at in inner if at > schedule.by)
    elif isinstance(schedule, Repeat):
        for k in range(min(schedule.times or most, most)):
            yield from (
                (f"{name} {k + 1}", at + k * schedule.schedule.steps) for name, at in _starts(schedule.schedule, most)
            )
        if schedule.times:
            yield "held", schedule.steps
    elif isinstance(schedule, CosineRestarts):
        for k in range(min(schedule.cycle_limit or most, most)):
            yield f"cosine {k + 1}", schedule.start_of(k)
        if schedule.cycle_limit:
            yield "held", schedule.start_of(schedule.cycle_limit)
    elif isinstance(schedule, CosinePeriodic):
        for k in range(most):
            yield "cosine, rising again" if k % 2 else "cosine", k * schedule.steps
    elif isinstance(schedule, OneCycle):
        yield "up", 0
        yield "down", round(schedule.pct_start * schedule.steps)
        yield "held", schedule.steps
    else:
        yield schedule.kind, 0
        fields = {f.name for f in dataclasses.fields(schedule)}
        if {"start", "end", "steps"} <= fields and getattr(schedule, "after", "hold") == "hold" and schedule.steps > 0:
            yield "held", schedule.steps


def in_words(schedule: Schedule, steps: int, steps_per_epoch: int, lr0: float) -> list[str]:
    """Lines that tell the phases, the peak and the end of a learning rate with the base `lr0`."""
    found: list[Part] = []
    for part in parts(schedule, steps):
        if found and part.name == "held" and part.steps == 1:  # the step on which the end is reached
            found[-1] = dataclasses.replace(found[-1], stop=part.stop)
        else:
            found.append(part)
    width = max(len(part.name) for part in found)
    lines = [
        f"{part.name:{width}}  {_span(part, steps_per_epoch)}  {part.steps / steps:6.1%} of the run  "
        f"{part.first * lr0:.4g} to {schedule(part.stop - 1) * lr0:.4g}"
        for part in found[:_MOST_PARTS]
    ]
    if len(found) > _MOST_PARTS:
        left = steps - found[_MOST_PARTS].start
        lines.append(f"and {len(found) - _MOST_PARTS} more phases, {left / steps:.1%} of the run")
    at, peak = peak_of(schedule, steps)
    mean = math.fsum(schedule(k) for k in _sample(steps)) / len(_sample(steps))
    lines.append(f"peak {peak * lr0:.4g} at step {at} (epoch {at / steps_per_epoch:.4g}), mean {mean * lr0:.4g}")
    try:
        later = f"{schedule(steps) * lr0:.4g}"
    except InvalidSchedule:  # a peer's that raises past its end
        later = "none"
    lines.append(f"last step {schedule(steps - 1) * lr0:.4g}, a step later {later}")
    return lines


def peak_of(schedule: Schedule, steps: int) -> tuple[int, float]:
    """The first step with the highest value, and that value."""
    best, highest = 0, schedule(0)
    for step in range(1, steps):
        value = schedule(step)
        if value > highest:
            best, highest = step, value
    return best, highest


def _sample(steps: int) -> range:
    return range(0, steps, max(1, steps // 10_000))


def _span(part: Part, steps_per_epoch: int) -> str:
    return (
        f"steps {part.start:>6} to {part.stop - 1:>6} "
        f"(epochs {part.start / steps_per_epoch:6.4g} to {part.stop / steps_per_epoch:6.4g})"
    )
