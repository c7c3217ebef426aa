"""Curves: immutable, pure functions of the step.

A curve from `start` to `end` is at `start` at step 0 and at `end` at step `steps`: step `steps` is thus the first one
that has the end value, and a curve whose end is to be used by the last of N updates has `steps = N - 1`. What it does
past its end is in its docstring: most hold the end value for ever.

No recursion, so no drift: `curve(10**9)` costs what `curve(0)` costs, and a resume needs nothing but the step. Values
have no unit here; a run reads them as multipliers of `lr0` or of the weight decay, or as momentum itself.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NewType, Protocol, TypeVar

from yolo_cosine.errors import UserError

Steps = NewType("Steps", float)
"""A number of steps; a fraction is allowed where a boundary may fall between two steps."""

T = TypeVar("T")


class InvalidSchedule(UserError, ValueError):
    """A schedule that cannot be: the message names the argument, its value, the rule and the remedy."""


class Schedule(Protocol):
    """A value for every step 0, 1, 2, ...; `steps` is its length."""

    @property
    def steps(self) -> Steps: ...

    def __call__(self, step: float) -> float: ...


KINDS: dict[str, type] = {}
"""Every kind of schedule that a YAML file can name, by that name."""


def kind(name: str) -> Callable[[type[T]], type[T]]:
    """Give a schedule class the name by which YAML calls it. Names are unique."""

    def register(cls: type[T]) -> type[T]:
        if name in KINDS:
            raise ValueError(f"two kinds of schedule are called {name!r}")
        KINDS[name] = cls
        cls.kind = name
        return cls

    return register


def require(holds: bool, message: str) -> None:
    """Raise InvalidSchedule with `message` unless the rule holds."""
    if not holds:
        raise InvalidSchedule(message)


def grown(start: float, gamma: float, exponent: float) -> float:
    """`start * gamma ** exponent`, infinite where growth leaves the numbers: a schedule answers at every step."""
    try:
        return start * gamma**exponent
    except OverflowError:
        return start * math.inf if start else 0.0


@kind("constant")
@dataclass(frozen=True)
class Constant:
    """`value` at every step, past the end too."""

    value: float
    steps: Steps = 0

    def __call__(self, step: float) -> float:
        return self.value


@kind("linear")
@dataclass(frozen=True)
class Linear:
    """`start + (end - start) * step / steps`; then it holds `end`, or goes on in its direction (`after: continue`)."""

    start: float
    end: float
    steps: Steps
    after: Literal["hold", "continue"] = "hold"

    def __call__(self, step: float) -> float:
        if step >= self.steps and (self.after == "hold" or self.steps == 0):
            return self.end
        return self.start + (self.end - self.start) * (step / self.steps)


@kind("cosine")
@dataclass(frozen=True)
class Cosine:
    """`end + (start - end) * (1 + cos(pi * step / steps)) / 2`, then it holds `end`.

    Source: Loshchilov and Hutter, SGDR (arXiv 1608.03983), equation 5, one way and without restarts. For the one that
    rises again, see `cosine-periodic`.
    """

    start: float
    end: float
    steps: Steps

    def __call__(self, step: float) -> float:
        if step >= self.steps:
            return self.end
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * step / self.steps)) / 2


@kind("polynomial")
@dataclass(frozen=True)
class Polynomial:
    """`end + (start - end) * (1 - step / steps) ** power`, then it holds `end`, or goes on (`after: continue`).

    Going on, a power of 1 falls below `end`, an even one rises again; another is no number there and is refused.
    Source: DeepLab (arXiv 1606.00915), "poly".
    """

    start: float
    end: float
    steps: Steps
    power: float = 1.0
    after: Literal["hold", "continue"] = "hold"

    def __call__(self, step: float) -> float:
        if step >= self.steps and (self.after == "hold" or self.steps == 0):
            return self.end
        left = 1 - step / self.steps
        require(
            left >= 0 or float(self.power).is_integer(),
            f"power: {self.power:g} of a negative number at step {step:g}, past the end at {self.steps:g}, is no "
            "number; hold the end value (after: hold) or choose a whole power",
        )
        return self.end + (self.start - self.end) * left**self.power


@kind("power")
@dataclass(frozen=True)
class Power:
    """`start + (end - start) * (step / steps) ** power`, then it holds `end`: a warmup's shape.

    A power of 1 is linear, 2 is YOLOX's quadratic, 4 is darknet's burn-in.
    """

    start: float
    end: float
    steps: Steps
    power: float = 2.0

    def __call__(self, step: float) -> float:
        if step >= self.steps:
            return self.end
        return self.start + (self.end - self.start) * (step / self.steps) ** self.power


@kind("geometric")
@dataclass(frozen=True)
class Geometric:
    """`start * (end / start) ** (step / steps)`, a straight line on a logarithmic axis; then it holds `end`, or goes on
    (`after: continue`). Both ends are above 0."""

    start: float
    end: float
    steps: Steps
    after: Literal["hold", "continue"] = "hold"

    def __post_init__(self) -> None:
        require(self.start > 0, f"start: {self.start:g} is not above 0; a geometric curve never leaves 0")
        require(self.end > 0, f"end: {self.end:g} is not above 0; a geometric curve never gets there, end above it")

    def __call__(self, step: float) -> float:
        if step >= self.steps and (self.after == "hold" or self.steps == 0):
            return self.end
        return grown(self.start, self.end / self.start, step / self.steps)


@kind("exponential")
@dataclass(frozen=True)
class Exponential:
    """`start * gamma ** (step / every)`, for ever, but not beyond `bound` where one is given.

    `staircase` lets only whole multiples of `every` count. It has no end; `steps` is only how long it is meant for.
    """

    start: float
    gamma: float
    every: Steps = 1
    staircase: bool = False
    bound: float | None = None
    steps: Steps = 0

    def __post_init__(self) -> None:
        require(self.every > 0, f"every: {self.every:g} steps is no length; write at least 1it")

    def __call__(self, step: float) -> float:
        # floor of the quotient and not `//`, as peers do: 1 // 0.1 is 9
        exponent = math.floor(step / self.every) if self.staircase else step / self.every
        value = grown(self.start, self.gamma, exponent)
        if self.bound is None:
            return value
        return max(value, self.bound) if self.gamma < 1 else min(value, self.bound)


@kind("inverse-sqrt")
@dataclass(frozen=True)
class InverseSqrt:
    """`start / sqrt((step + timescale) / timescale)`: it starts at `start` and falls for ever, ever more slowly.

    Source: Vaswani et al., Attention Is All You Need (arXiv 1706.03762), section 5.3, with `timescale` for the warmup.
    """

    start: float
    timescale: Steps
    steps: Steps = 0

    def __post_init__(self) -> None:
        require(self.timescale > 0, f"timescale: {self.timescale:g} steps is no length; write at least 1it")

    def __call__(self, step: float) -> float:
        return self.start / math.sqrt((step + self.timescale) / self.timescale)


@kind("inverse-time")
@dataclass(frozen=True)
class InverseTime:
    """`start / (1 + rate * step / every)`, for ever; `staircase` lets only whole multiples of `every` count."""

    start: float
    rate: float
    every: Steps = 1
    staircase: bool = False
    steps: Steps = 0

    def __post_init__(self) -> None:
        require(self.every > 0, f"every: {self.every:g} steps is no length; write at least 1it")

    def __call__(self, step: float) -> float:
        return self.start / (1 + self.rate * (math.floor(step / self.every) if self.staircase else step / self.every))


@kind("tanh")
@dataclass(frozen=True)
class Tanh:
    """`end + (start - end) * (1 - tanh(lower + (upper - lower) * step / steps)) / 2`, then it holds `end`.

    It starts a little below `start` (by `(1 + tanh(lower)) / 2` of the way) and jumps the last bit to `end`.
    Source: Hsueh et al., Stochastic Gradient Descent with Hyperbolic-Tangent Decay (arXiv 1806.01593).
    """

    start: float
    end: float
    steps: Steps
    lower: float = -7.0
    upper: float = 3.0

    def __call__(self, step: float) -> float:
        if step >= self.steps:
            return self.end
        position = self.lower + (self.upper - self.lower) * (step / self.steps)
        return self.end + (self.start - self.end) * (1 - math.tanh(position)) / 2


@kind("sigmoid")
@dataclass(frozen=True)
class Sigmoid:
    """`start / (1 + exp(gamma * (step - middle)))`: half of `start` at the step `middle`; no end.

    Source: darknet, the policy `sigmoid`, with its sign of gamma: above 0 falls, below 0 rises.
    """

    start: float
    gamma: float
    middle: Steps
    steps: Steps = 0

    def __call__(self, step: float) -> float:
        exponent = self.gamma * (step - self.middle)
        return 0.0 if exponent > 700 else self.start / (1 + math.exp(exponent))


@kind("one-minus-sqrt")
@dataclass(frozen=True)
class OneMinusSqrt:
    """`end + (start - end) * (1 - sqrt(step / steps))`, then it holds `end`.

    Source: Hägele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations (arXiv 2405.18392),
    the cooldown that they found best.
    """

    start: float
    end: float
    steps: Steps

    def __call__(self, step: float) -> float:
        if step >= self.steps:
            return self.end
        return self.end + (self.start - self.end) * (1 - math.sqrt(step / self.steps))


@kind("rex")
@dataclass(frozen=True)
class Rex:
    """`end + (start - end) * (1 - z) / (1 - z / 2)` with `z = step / steps`, then it holds `end`.

    Source: Chen et al., REX: Revisiting Budgeted Training with an Improved Schedule (arXiv 2107.04197).
    """

    start: float
    end: float
    steps: Steps

    def __call__(self, step: float) -> float:
        if step >= self.steps:
            return self.end
        z = step / self.steps
        return self.end + (self.start - self.end) * (1 - z) / (1 - z / 2)


@kind("step")
@dataclass(frozen=True)
class Step:
    """`start * gamma ** (step // every)`: a factor `gamma` every so many steps, for ever."""

    start: float
    gamma: float
    every: Steps
    steps: Steps = 0

    def __post_init__(self) -> None:
        require(self.every > 0, f"every: {self.every:g} steps is no length; write at least 1it")

    def __call__(self, step: float) -> float:
        return grown(self.start, self.gamma, step // self.every)


@kind("multistep")
@dataclass(frozen=True)
class MultiStep:
    """`start`, times `gamma` from each milestone on: at step `m` the milestone `m` counts already.

    A milestone that stands twice counts twice. `gamma` may be a list, a factor for each milestone.
    """

    start: float
    milestones: tuple[Steps, ...]
    gamma: float | tuple[float, ...] = 0.1
    steps: Steps = 0

    def __post_init__(self) -> None:
        n = len(self.milestones)
        require(
            list(self.milestones) == sorted(self.milestones),
            f"milestones: {list(self.milestones)} are not in order; sort them",
        )
        require(
            not isinstance(self.gamma, tuple) or len(self.gamma) == n,
            f"gamma: {len(self.gamma) if isinstance(self.gamma, tuple) else 0} factors for {n} milestones; "
            "write one factor, or one for each",
        )

    def __call__(self, step: float) -> float:
        passed = bisect_right(self.milestones, step)
        if isinstance(self.gamma, tuple):
            return self.start * math.prod(self.gamma[:passed])
        return self.start * self.gamma**passed


@kind("piecewise")
@dataclass(frozen=True)
class Piecewise:
    """`values[k]` where `k` of the boundaries have been reached: one value more than boundaries, the last for ever."""

    values: tuple[float, ...]
    boundaries: tuple[Steps, ...]
    steps: Steps = 0

    def __post_init__(self) -> None:
        require(
            len(self.values) == len(self.boundaries) + 1,
            f"values: {len(self.values)} for {len(self.boundaries)} boundaries; there is one value more than boundaries",
        )
        require(
            list(self.boundaries) == sorted(self.boundaries),
            f"boundaries: {list(self.boundaries)} are not in order; sort them",
        )

    def __call__(self, step: float) -> float:
        return self.values[bisect_right(self.boundaries, step)]
