"""Durations with a unit: `3ep`, `500it`, `5%`, and times: `10min`, `2h`. The first become whole training steps once, before anything else runs."""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 1e15  # epochs, steps, percent or seconds; beyond it there is no arithmetic of whole steps
_PATTERN = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(ep|it|%)\s*")


@dataclass(frozen=True)
class Duration:
    """A length of training: `value` epochs (`ep`), steps (`it`) or percent of the run (`%`)."""

    value: float
    unit: str

    def exact(self, steps_per_epoch: int, total_steps: int) -> float:
        """Steps, not rounded. A step is one batch."""
        scale = {"ep": steps_per_epoch, "it": 1, "%": total_steps / 100}[self.unit]
        return self.value * scale

    def steps(self, steps_per_epoch: int, total_steps: int) -> int:
        """Whole steps, rounded half to even as Python's `round` does."""
        return round(self.exact(steps_per_epoch, total_steps))

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"


def shown_number(value: float) -> str:
    """A number as messages show it in a duration; a whole one may be larger than any float."""
    return f"{max(-LONGEST, min(value, LONGEST)):g}"


def parse_duration(text: str, whole_steps: bool = True) -> Duration:
    """Parse `3ep`, `2.5ep`, `500it` or `5%`; without `whole_steps` also `8.25it`.

    Raises:
        ValueError: if the text is none of these, a fraction of a step, or longer than any run.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError("is not a duration; write epochs as 3ep, steps as 500it, or a share of the run as 5%")
    value, unit = float(match[1]), match[2]
    if value > LONGEST:
        raise ValueError(f"is longer than any run; write at most {LONGEST:g}{unit}")
    if whole_steps and unit == "it" and not value.is_integer():
        raise ValueError("is a fraction of a step; write whole steps, as in 500it")
    return Duration(value, unit)


def interval_steps(text: str, steps_per_epoch: int, total_steps: int) -> int:
    """Steps from one time to the next of what is done every `1ep`, `500it` or `5%`: at least 1."""
    return max(parse_duration(text).steps(steps_per_epoch, total_steps), 1)


_TIME = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|min|h)\s*")


def parse_time(text: str) -> float | None:
    """Seconds of `30s`, `10min` or `2h`; None where the text is no time."""
    match = _TIME.fullmatch(text)
    if match is None or not 0 < float(match[1]) <= LONGEST:
        return None
    return float(match[1]) * {"s": 1, "min": 60, "h": 3600}[match[2]]
