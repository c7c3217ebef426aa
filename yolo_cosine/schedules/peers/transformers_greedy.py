"""transformers' GreedyLR: a rate that falls when a metric stalls and rises while it improves.

Source: GreedyLR (arXiv 2512.14527), as in `transformers/optimization.py` of 5.23. It has no closed form; with the metrics
given, its rates are played through once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from yolo_cosine.schedules.curves import require


@dataclass(frozen=True)
class Greedy:
    """The arguments of GreedyLR. The bounds are learning rates, one for each group."""

    mode: str
    factor: float
    patience: int
    threshold: float
    threshold_mode: str
    cooldown: int
    warmup: int
    min_lr: Sequence[float]
    max_lr: Sequence[float]
    eps: float
    window_size: int | None  # metrics whose mean is looked at; None: each by itself
    reset_start: int

    def __post_init__(self) -> None:
        require(self.mode in ("min", "max"), f"mode: {self.mode!r} is unknown; write min or max")
        require(
            self.threshold_mode in ("rel", "abs"),
            f"threshold_mode: {self.threshold_mode!r} is unknown; write rel or abs",
        )
        require(0 < self.factor < 1, f"factor: {self.factor:g} is not between 0 and 1; write a share, as 0.95")
        require(self.patience >= 0, f"patience: {self.patience} is below 0; write 0 to react at once")
        require(
            self.window_size is None or self.window_size >= 1,
            f"window_size: {self.window_size} averages nothing; write at least 1",
        )

    def rates(self, metrics: Sequence[float], lr0s: Sequence[float]) -> list[tuple[float, ...]]:
        """Every group's rate at the indices `0..len(metrics)`; `metrics[i]` is known at the end of index `i`."""
        rates, history = list(lr0s), [tuple(lr0s)]
        worst = math.inf if self.mode == "min" else -math.inf
        best, good, bad, pause, until_reset = worst, 0, 0, 0, self.reset_start
        look = self._smoother()
        for metric in metrics:
            value = look(float(metric))
            if pause > 0:
                pause, good, bad = pause - 1, 0, 0
            elif self._better(value, best):
                best, good, bad = value, good + 1, 0
            else:
                good, bad = 0, bad + 1
            if good > self.patience:
                higher = [min(rate / self.factor, high) for rate, high in zip(rates, self.max_lr, strict=True)]
                rates = [new if new - rate > self.eps else rate for new, rate in zip(higher, rates, strict=True)]
                good, pause, until_reset = 0, self.warmup, self.reset_start
            elif bad > self.patience:
                lower = [max(rate * self.factor, low) for rate, low in zip(rates, self.min_lr, strict=True)]
                rates = [new if rate - new > self.eps else rate for new, rate in zip(lower, rates, strict=True)]
                bad, pause = 0, self.cooldown
                if all(rate <= low for rate, low in zip(rates, self.min_lr, strict=True)):
                    until_reset -= 1
                    if until_reset <= 0:
                        rates, best, until_reset = list(lr0s), worst, self.reset_start
                        look = self._smoother()
            history.append(tuple(rates))
        return history

    def _smoother(self) -> Callable[[float], float]:
        return float if self.window_size is None else _RunningMean(self.window_size)

    def _better(self, value: float, best: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        edge = best * (1 - sign * self.threshold) if self.threshold_mode == "rel" else best - sign * self.threshold
        return value < edge if self.mode == "min" else value > edge


def one_for_each(name: str, bounds: float | Sequence[float], groups: int) -> list[float]:
    """A bound for each group: the one given for all of them, or theirs.

    Raises:
        InvalidSchedule: if there are not as many as groups.
    """
    if not isinstance(bounds, list | tuple):
        return [bounds] * groups
    require(len(bounds) == groups, f"{name}: {len(bounds)} for {groups} groups; write one for all, or one for each")
    return list(bounds)


class _RunningMean:
    """Mean of the last `size` values. The sum is kept running, as by the peer, so that its roundings are the same."""

    def __init__(self, size: int) -> None:
        self._size, self._values, self._sum = size, deque(), 0.0

    def __call__(self, value: float) -> float:
        self._values.append(value)
        self._sum += value
        if len(self._values) > self._size:
            self._sum -= self._values.popleft()
        return self._sum / len(self._values)
