"""TorchTitan's warmup-stable-decay (`torchtitan/components/optimizer/lr_scheduler.py`), by update.

Update `i` of `T` has the factor `(i + 1) / warmup_steps` in the warmup, so never 0, and the end value belongs to `i = T`,
one past the last update. A decay is not held there: it goes on below its end, and the cosine rises again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

from yolo_cosine.schedules.compose import join
from yolo_cosine.schedules.curves import Constant, InvalidSchedule, Linear, Schedule, Steps, kind, require
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.native import NativeSchedule, Run, native
from yolo_cosine.schedules.peers.undefined import Undefined


@kind("torchtitan-sqrt")
@dataclass(frozen=True)
class SqrtDecay:
    """`end + (start - end) * (1 - sqrt(step / steps))` for ever: past `steps` it goes on beyond `end`."""

    start: float
    end: float
    steps: Steps
    after: Literal["continue"] = "continue"  # so that it is written down and told as one that is not held

    def __post_init__(self) -> None:
        require(self.steps > 0, f"steps: {self.steps:g} is no length; write at least 1it")

    def __call__(self, step: float) -> float:
        return self.end + (self.start - self.end) * (1 - math.sqrt(step / self.steps))


_DECAYS = {"linear": partial(Linear, after="continue"), "sqrt": SqrtDecay, "cosine": CosinePeriodic}


@native("torchtitan", "linear_warmup_stable_decay")
def linear_warmup_stable_decay(
    run: Run,
    *,
    warmup_steps: float = 200,
    total_steps: int | None = None,
    decay_ratio: float | None = None,
    decay_type: str = "linear",
    min_lr_factor: float = 0.0,
    training_steps: int | None = None,
) -> NativeSchedule:
    """A linear warmup, 1, and a decay to `min_lr_factor` over the last `decay_ratio` of the run (none: all the rest).

    `total_steps` is by default `training_steps`, and that the run's. A warmup longer than the run is cut to it, and the
    decay to what the warmup leaves. Without any decay the factor stays 1, and there is no value past `total_steps`.
    """
    total = total_steps if total_steps is not None else training_steps
    total = run.need("total_iters") if total is None else total
    for name, value in (("total_steps", total), ("warmup_steps", warmup_steps), ("decay_ratio", decay_ratio or 0)):
        require(value >= 0, f"{name}: {value:g} is below 0; write 0 or more")
    require(math.isfinite(min_lr_factor), f"min_lr_factor: {min_lr_factor} is no share; write a number, as 0.1")
    warmup = min(int(warmup_steps), total)
    decay_steps = total - warmup
    if decay_ratio is not None:
        decay_steps = min(round(total * decay_ratio), decay_steps)

    rise = Linear(1 / max(1, warmup), 1.0, max(0, warmup - 1))
    full = total - decay_steps - rise.steps
    if decay_steps == 0:
        full += 1  # the last index that has a value is `total` itself
    factor = join(rise, Constant(1.0, full), _decay(decay_type, min_lr_factor, decay_steps))
    groups = run.groups()
    return NativeSchedule(groups, (factor,) * len(groups), clock="update", length=total)


def _decay(decay_type: str, end: float, steps: int) -> Schedule:
    """From 1 to `end`; its step 0 is the last update of the stable phase."""
    if decay_type not in _DECAYS:
        raise InvalidSchedule(f"decay_type: {decay_type!r} is none of {', '.join(_DECAYS)}; write one of them")
    if steps == 0:
        return Undefined("the index is past total_steps, and no decay goes on there; end the run, or set decay_ratio")
    return _DECAYS[decay_type](1.0, end, steps)
