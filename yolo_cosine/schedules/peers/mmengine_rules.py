"""MMEngine's recursion, in closed form: what rules that act on one value do to it at every step.

A scheduler of MMEngine computes a value from the one that is there, so schedulers that act at the same time act on each
other. Each is a `Rule` here. Where one acts alone, its recursion has a closed form, which is one of our curves; so have
rules that only multiply, together. What is left is `Recursion`, which remembers the values up to the highest step that
was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import combinations
from typing import Literal

from yolo_cosine.schedules.compose import EpochWise, Join, Product, Shift
from yolo_cosine.schedules.curves import (
    Constant,
    Cosine,
    InvalidSchedule,
    Linear,
    MultiStep,
    Piecewise,
    Polynomial,
    Power,
    Schedule,
    Steps,
    kind,
    require,
)
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.peers.undefined import Undefined


@kind("mmengine-rule")
@dataclass(frozen=True)
class Rule:
    """What a scheduler makes of a value `x` at its own steps `t = 0, 1, 2, ...`.

    `ratio`: `towards + (x - towards) * shape(t) / shape(t - 1)`, where shape(-1) is 1; `difference`: `x + shape(t) -
    shape(t - 1)`, at first shape(0); `value`: shape(t), whatever x is.
    """

    shape: Schedule
    how: Literal["ratio", "difference", "value"] = "ratio"
    towards: float = 0.0
    again: float | None = None  # a cosine comes back from its lowest point to this value
    reset: float | None = None  # x before the first step, in place of what is there
    floor: float | None = None  # no fall below this, nor one by `least` or less
    least: float = 0.0
    every: Steps = 1  # steps of the clock between two of its own
    wait: Steps = 0  # steps of the clock before the next of its own
    taken: int = 0  # own steps that are over

    @property
    def steps(self) -> Steps:
        return self.shape.steps * self.every

    def __call__(self, step: float) -> float:
        """What it makes of 1, alone."""
        return Recursion(1.0, (self,))(step)

    def apply(self, x: float, t: int) -> float:
        """The value after the rule's own step `t`.

        Raises:
            InvalidSchedule: where MMEngine divides by zero.
        """
        now, before = self.shape(t), self.shape(t - 1) if t else 1.0
        if self.how == "value":
            return now
        if self.how == "difference":
            return x + now - before if t else now
        if t == 0 and self.reset is not None:
            return self.reset
        if before == 0 != now:
            require(self.again is not None, "a value that has been multiplied by 0 has no way back; start above 0")
            return x + (self.again - self.towards) * now
        x_now = x if now == before else self.towards + (x - self.towards) * (now / before)
        if now == 0 and getattr(self.shape, "gamma", 1.0) == 0:
            often = replace(self.shape, gamma=0.5)  # tells whether 0 is a factor once more
            x_now = x if t and often(t) == often(t - 1) else 0.0
        if self.floor is None:
            return x_now
        lower = max(x_now, self.floor)
        return lower if x - lower > self.least else x

    @property
    def multiplies(self) -> bool:
        """Whether it is a factor for whatever value is there."""
        return self.how == "ratio" and self.towards == 0 and self.reset is None and self.floor is None


@kind("mmengine-recursion")
@dataclass(frozen=True)
class Recursion:
    """`start` at step 0; from then on rules that act on one value in turn, in this order.

    A step costs as many steps as it is ahead of the last one that was asked for, at most ten million in all.
    """

    start: float
    rules: tuple[Schedule, ...]
    steps: Steps = 0

    def __post_init__(self) -> None:
        require(
            all(isinstance(rule, Rule) for rule in self.rules),
            f"rules: {[rule.kind for rule in self.rules]} are not all of the kind mmengine-rule; put them into one",
        )

    @cached_property
    def _values(self) -> list[float]:
        return [self._act(self.start, 0)]

    def _act(self, x: float, step: int) -> float:
        for rule in self.rules:
            since = step - rule.wait
            if since >= 0 and since % rule.every == 0:
                x = rule.apply(x, rule.taken + int(since // rule.every))
        return x

    def __call__(self, step: float) -> float:
        require(step <= 10**7, f"step: {step:g} is too far for schedulers that act on each other; end one of them")
        while len(self._values) <= step:
            self._values.append(self._act(self._values[-1], len(self._values)))
        return self._values[max(0, int(step))]


@dataclass(frozen=True)
class Window:
    """A rule on the clock of a run: it acts at `begin`, `begin + every`, ... before `stop`."""

    rule: Rule
    begin: int
    stop: float
    every: int = 1
    by_epoch: bool = False

    def taken(self, index: int) -> int:
        """Own steps up to and with `index`, which is not before `begin`."""
        return (index - self.begin) // self.every + 1

    def acts_at(self, index: int) -> bool:
        """Whether it has a step of its own there."""
        return self.begin <= index < self.stop and (index - self.begin) % self.every == 0

    @property
    def last(self) -> float:
        """Its last own step."""
        return (self.stop - 1 - self.begin) // self.every if self.stop < math.inf else math.inf

    def clocked(self, schedule: Schedule, index: int) -> Schedule:
        """A schedule over own steps as one over the clock, as it is from `index` on."""
        if self.every > 1:
            schedule = EpochWise(schedule, self.every)
        return Shift(schedule, index - self.begin) if index > self.begin else schedule


def trace(windows: Sequence[Window], x: float) -> Schedule:
    """The values of every step from 0 on, starting from `x`, under rules in the order in which they were listed.

    At step 0 they act in this order, as MMEngine's constructors do; later those by iteration come before those by epoch,
    and those that wait for a metric come last.

    Raises:
        InvalidSchedule: where MMEngine raises at step 0. Where it raises later, asking for the step does.
    """
    ordered = sorted(windows, key=lambda window: (window.by_epoch, window.rule.floor is not None))
    overlap = any(a.begin < b.stop and b.begin < a.stop for a, b in combinations(windows, 2))
    if overlap and all(_is_factor(window) for window in windows):
        first, *others = ordered
        return Product((_whole(first, x), *(_whole(window, 1.0) for window in others)))
    pieces: list[Schedule] = []
    starts: list[int] = []
    for index in sorted({0, *(w.begin for w in windows), *(w.stop for w in windows if w.stop < math.inf)}):
        active = [w for w in ordered if w.begin <= index < w.stop]
        if not active and pieces and _is_settled(pieces[-1], index - 1 - starts[-1]):
            continue
        try:
            before = value = pieces[-1](index - 1 - starts[-1]) if pieces else x
        except InvalidSchedule:
            break  # MMEngine does not get here
        try:
            for window in ordered if index else windows:
                if window.acts_at(index):
                    value = window.rule.apply(value, window.taken(index) - 1)
            piece = _piece(active, index, before, value)
        except InvalidSchedule as error:
            if index == 0:
                raise
            piece = Undefined(str(error))
        pieces.append(piece)
        starts.append(index)
    return Join(tuple(pieces), tuple(starts)) if len(pieces) > 1 else pieces[0]


def _is_factor(window: Window) -> bool:
    rule = window.rule
    return rule.multiplies and (rule.again is None or window.last <= rule.shape.steps)


def _whole(window: Window, x: float) -> Schedule:
    """A factor on the clock of the run: 1 before its window and its last value after it, all times `x`."""
    curve = window.clocked(_alone(window, x), window.begin)
    pieces, starts = [curve], [window.begin]
    if window.begin:
        pieces, starts = [Constant(x), curve], [0, window.begin]
    if window.stop < math.inf and not _is_settled(curve, window.stop - 1 - window.begin):
        pieces.append(Constant(curve(window.stop - 1 - window.begin)))
        starts.append(int(window.stop))
    return Join(tuple(pieces), tuple(starts)) if len(pieces) > 1 else curve


def _piece(active: Sequence[Window], index: int, before: float, value: float) -> Schedule:
    """The values from `index` on, where `before` was the last one and `value` is the first."""
    if not active:
        return Constant(before)
    if len(active) == 1:
        window = active[0]
        curve = _alone(window, before) if index == window.begin else _alone_from(window, window.taken(index) - 1, value)
        if curve is not None:
            return window.clocked(curve, index)
    elif all(map(_is_factor, active)) and all(w.rule.shape(w.taken(index) - 1) for w in active):
        first, *others = [w.clocked(_stretched(w.rule.shape, 1.0, 0.0), index) for w in active]
        scale = value / math.prod(schedule(0) for schedule in (first, *others))
        return Product((*(() if math.isclose(scale, 1, rel_tol=1e-12) else (Constant(scale),)), first, *others))
    rules = (
        replace(w.rule, every=w.every, taken=w.taken(index), wait=w.begin + w.taken(index) * w.every - index)
        for w in active
    )
    return Recursion(value, tuple(rules))


def _alone(window: Window, x: float) -> Schedule:
    """A rule's values over its own steps, where nothing else acts on `x`."""
    rule = window.rule
    if rule.how != "ratio":
        return rule.shape
    if rule.floor is not None:
        values = [x]
        for t in rule.shape.milestones:
            values.append(rule.apply(values[-1], t))
        return Piecewise(tuple(values), rule.shape.milestones)
    x = x if rule.reset is None else rule.reset
    if not isinstance(rule.shape, CosinePeriodic):
        return _stretched(rule.shape, x, rule.towards)
    period = rule.shape.steps
    if window.last <= period:
        return Cosine(x, rule.towards, period)
    if rule.again is None or math.isclose(x, rule.again, rel_tol=1e-12):
        return CosinePeriodic(x if rule.again is None else rule.again, rule.towards, period)
    back = Shift(CosinePeriodic(rule.again, rule.towards, period), period)
    return Join((Cosine(x, rule.towards, period), back), (0, period))


def _alone_from(window: Window, t: int, value: float) -> Schedule | None:
    """The same where others acted before, from own step `t` on, at which the value is `value`; None without a form."""
    rule = window.rule
    if rule.how == "value":
        return rule.shape if rule.shape(t) == value else None
    if rule.how == "difference" or rule.floor is not None or rule.shape(t) == 0:
        return None
    x = rule.towards + (value - rule.towards) / rule.shape(t)  # from which it would have come here alone
    if rule.again is not None and math.isclose(x, rule.again, rel_tol=1e-12):
        x = rule.again
    if rule.again not in (None, x) and t > rule.shape.steps:
        return None
    return _alone(replace(window, rule=replace(rule, reset=None)), x)


def _stretched(shape: Schedule, x: float, towards: float) -> Schedule:
    """A shape as the values that it stands for: 1 becomes `x`, 0 becomes `towards`."""
    if isinstance(shape, Undefined):
        return shape
    if isinstance(shape, Join):
        return replace(shape, pieces=tuple(_stretched(piece, x, towards) for piece in shape.pieces))
    if isinstance(shape, Shift):
        return replace(shape, schedule=_stretched(shape.schedule, x, towards))
    if isinstance(shape, Piecewise):
        return replace(shape, values=tuple(towards + (x - towards) * v for v in shape.values))
    ends = [f.name for f in fields(shape) if f.name in ("start", "end", "value")]
    return replace(shape, **{name: towards + (x - towards) * getattr(shape, name) for name in ends})


def _is_settled(schedule: Schedule, step: float) -> bool:
    """Whether a schedule is known to have the same value at `step` and ever after."""
    if isinstance(schedule, Constant | Undefined):
        return True
    if isinstance(schedule, Linear | Polynomial | Power | Cosine):
        return step >= schedule.steps and getattr(schedule, "after", "hold") == "hold"
    if isinstance(schedule, MultiStep | Piecewise):
        return step >= max(getattr(schedule, "milestones", ()) or getattr(schedule, "boundaries", ()), default=0)
    if isinstance(schedule, EpochWise):
        return _is_settled(schedule.by_epoch, step // schedule.steps_per_epoch)
    if isinstance(schedule, Shift):
        return _is_settled(schedule.schedule, step + schedule.by)
    if isinstance(schedule, Product):
        return all(_is_settled(part, step) for part in schedule.schedules)
    if isinstance(schedule, Join):
        return step >= schedule.starts[-1] and _is_settled(schedule.pieces[-1], step - schedule.starts[-1])
    return False
