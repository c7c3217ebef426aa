"""nanochat's three schedules (`scripts/base_train.py`): learning rate, Muon's momentum and its weight decay, by update.

The rate's warmup is `(i + 1) / warmup_steps`, so never 0; the warmdown's end belongs to `i = num_iterations`, one past
the last update, and goes on beyond it. The loop multiplies every group's initial rate; only Muon's groups have the other
two.
"""

from __future__ import annotations

import math

from yolo_cosine.schedules.compose import Join, Shift, join
from yolo_cosine.schedules.curves import Constant, Linear, Schedule, require
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.native import RUN_STEPS, NativeSchedule, Run, native
from yolo_cosine.schedules.peers.undefined import Undefined

# Muon's momentum rises over so many updates however long the run is.
_MOMENTUM_WARMUP = 400


@native("nanochat", "get_lr_multiplier")
def get_lr_multiplier(
    run: Run,
    *,
    warmup_steps: int = 40,
    warmdown_ratio: float = 0.65,
    final_lr_frac: float = 0.05,
    num_iterations: int = RUN_STEPS,
    weight_decay_scaled: float = 0.28,
) -> NativeSchedule:
    """Up in `warmup_steps`, 1, and down to `final_lr_frac` over the last `warmdown_ratio` of the run.

    Momentum goes from 0.85 to 0.97 in 400 updates and to 0.90 in the warmdown, weight decay along half a cosine from
    `weight_decay_scaled` to 0. (nanochat scales its `--weight-decay`, 0.28, by batch and length of the run; give the
    result.) A warmup that reaches into the warmdown goes on to its end and drops onto the warmdown's line.
    """
    require(num_iterations > 0, f"num_iterations: {num_iterations} is no run; write at least 1")
    require(warmup_steps >= 0, f"warmup_steps: {warmup_steps} is below 0; write 0 for none")
    require(warmdown_ratio >= 0, f"warmdown_ratio: {warmdown_ratio:g} is below 0; write a share of the run, as 0.65")
    for name, value in (("final_lr_frac", final_lr_frac), ("weight_decay_scaled", weight_decay_scaled)):
        require(math.isfinite(value), f"{name}: {value} is no number to go to; write a finite one")
    warmdown = round(warmdown_ratio * num_iterations)
    start = num_iterations - warmdown

    rise = Linear(1 / warmup_steps, 1.0, warmup_steps - 1) if warmup_steps > 1 else Constant(1.0)
    decay = Linear(1.0, final_lr_frac, warmdown, after="continue")
    if warmup_steps > max(0, start + 1):
        factor: Schedule = Join((rise, _entered(decay, warmup_steps - start)), (0, warmup_steps))
    else:
        past = 1 if warmdown == 0 else 0  # without a warmdown the index `num_iterations` still has a value
        factor = join(rise, Constant(1.0, max(0, start + past - rise.steps)), _entered(decay, -start))

    fall = Linear(0.97, 0.90, warmdown, after="continue")
    stay = Constant(0.97, max(0, start - _MOMENTUM_WARMUP))
    momentum = join(Linear(0.85, 0.97, _MOMENTUM_WARMUP), stay, _entered(fall, _MOMENTUM_WARMUP - start))
    groups = run.groups()
    return NativeSchedule(
        groups,
        (factor,) * len(groups),
        clock="update",
        momenta=(momentum,),
        weight_decay=CosinePeriodic(weight_decay_scaled, 0.0, num_iterations),
        length=num_iterations,
    )


def _entered(warmdown: Linear, by: int) -> Schedule:
    """The warmdown, entered `by` updates after its start, or at its start where `by` is negative."""
    if warmdown.steps == 0:
        return Undefined("the index is past num_iterations, and no warmdown goes on there; end the run")
    return Shift(warmdown, by) if by > 0 else warmdown
