"""Curves: immutable, pure functions of the step.

A curve goes from `start` at step 0 to `end` at step `steps`, and holds `end` for ever after. Step `steps` is thus the
first one that has the end value; a curve whose end is to be used by the last of N updates has `steps = N - 1`.
No recursion, so no drift: `curve(10**9)` costs what `curve(0)` costs, and a resume needs nothing but the step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Schedule(Protocol):
    """A value for every step 0, 1, 2, ...; `steps` is its length."""

    @property
    def steps(self) -> int: ...

    def __call__(self, step: int) -> float: ...


@dataclass(frozen=True)
class Constant:
    """`value` at every step."""

    value: float
    steps: int = 0

    def __call__(self, step: int) -> float:
        return self.value


@dataclass(frozen=True)
class Linear:
    """`start + (end - start) * step / steps`, then `end`."""

    start: float
    end: float
    steps: int

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.end
        return self.start + (self.end - self.start) * (step / self.steps)


@dataclass(frozen=True)
class Cosine:
    """`end + (start - end) * (1 + cos(pi * step / steps)) / 2`, then `end`.

    Source: Loshchilov and Hutter, SGDR (arXiv 1608.03983), equation 5, one way and without restarts.
    """

    start: float
    end: float
    steps: int

    def __call__(self, step: int) -> float:
        if step >= self.steps:
            return self.end
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * step / self.steps)) / 2


CURVES = {"cosine": Cosine, "linear": Linear, "constant": lambda start, end, steps: Constant(start, steps)}
