"""Where a peer has no value: a piece that refuses."""

from __future__ import annotations

from dataclasses import dataclass

from yolo_cosine.schedules.curves import InvalidSchedule, Steps, kind


@kind("undefined")
@dataclass(frozen=True)
class Undefined:
    """No value at any step: asking raises InvalidSchedule with the `reason`."""

    reason: str
    steps: Steps = 0

    def __call__(self, step: float) -> float:
        raise InvalidSchedule(self.reason)
