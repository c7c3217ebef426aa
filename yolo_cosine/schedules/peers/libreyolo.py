"""LibreYOLO (`libreyolo/training/scheduler.py`): YOLOX's schedules with guards, and some more.

One rate for all groups, by step, or by update where it accumulates. Step 0 has the function's own value. The last step
of a warmup is its step `W`. `warmup_lr_start` is clamped to `lr`. The line and the annealed cosine are not held at
their end.
"""

from __future__ import annotations

from yolo_cosine.schedules.curves import Constant, Cosine, Linear, Polynomial, Schedule
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.native import RUN_EPOCHS, STEPS_PER_EPOCH, NativeSchedule, Run, native
from yolo_cosine.schedules.peers.yolox_parts import (
    LR,
    by_start,
    cut_notes,
    fall_until,
    one_rate,
    reference,
    rise,
    step_after,
    total_steps,
)


@native("libreyolo", "WarmupCosineScheduler")
def warmup_cosine(
    run: Run,
    *,
    lr: float = LR,
    iters_per_epoch: int = STEPS_PER_EPOCH,
    total_epochs: int = RUN_EPOCHS,
    warmup_epochs: float = 5,
    warmup_lr_start: float = 0.0,
    plateau_epochs: float = 15,
    min_lr_ratio: float = 0.05,
) -> NativeSchedule:
    """A quadratic warmup, half a cosine to `min_lr_ratio`, and that for the last `plateau_epochs` and for ever."""
    given = {
        "warmup_epochs": warmup_epochs,
        "warmup_lr_start": warmup_lr_start,
        "plateau_epochs": plateau_epochs,
        "min_lr_ratio": min_lr_ratio,
    }
    total = total_steps(lr, iters_per_epoch, total_epochs, **given)
    lr0, peak = reference(lr)
    warmup, flat = iters_per_epoch * warmup_epochs, total - iters_per_epoch * plateau_epochs
    after = step_after(warmup) if warmup else 0
    fall = fall_until(flat, peak, peak * min_lr_ratio, warmup, after)
    factor = by_start([rise(min(warmup_lr_start, lr) / lr0, peak, warmup, power=2), fall])
    return one_rate(run, lr0, factor, total, cut_notes(warmup, flat, "plateau_epochs"))


@native("libreyolo", "LinearLRScheduler")
def linear(
    run: Run,
    *,
    lr: float = LR,
    iters_per_epoch: int = STEPS_PER_EPOCH,
    total_epochs: int = RUN_EPOCHS,
    warmup_epochs: float = 3,
    warmup_lr_start: float = 0.0001,
    min_lr_ratio: float = 0.01,
    warmup_momentum: float | None = None,
    momentum: float | None = None,
) -> NativeSchedule:
    """A linear warmup, then a line to `min_lr_ratio`, which goes on below it past the end.

    With both momenta given, momentum goes from the one to the other in the warmup; else it is left alone.
    """
    given = {"warmup_epochs": warmup_epochs, "warmup_lr_start": warmup_lr_start, "min_lr_ratio": min_lr_ratio}
    total = total_steps(lr, iters_per_epoch, total_epochs, **given)
    lr0, peak = reference(lr)
    warmup = iters_per_epoch * warmup_epochs
    fall = Linear(peak, peak * min_lr_ratio, max(1, total - warmup), after="continue")
    factor = by_start([rise(min(warmup_lr_start, lr) / lr0, peak, warmup), (warmup, fall)])
    momenta: tuple[Schedule, ...] = ()
    if warmup_momentum is not None and momentum is not None:
        momenta = (Linear(warmup_momentum, momentum, warmup) if warmup else Constant(momentum),)
    return one_rate(run, lr0, factor, total, momenta=momenta)


@native("libreyolo", "ConstantLRScheduler")
def constant(
    run: Run,
    *,
    lr: float = LR,
    iters_per_epoch: int = STEPS_PER_EPOCH,
    total_epochs: int = RUN_EPOCHS,
    warmup_epochs: float = 0,
    warmup_lr_start: float = 0.0,
    min_lr_ratio=1.0,
) -> NativeSchedule:
    """A linear warmup, then `lr`; `min_lr_ratio` is accepted and not used."""
    given = {"warmup_epochs": warmup_epochs, "warmup_lr_start": warmup_lr_start}
    total = total_steps(lr, iters_per_epoch, total_epochs, **given)
    lr0, peak = reference(lr)
    warmup = iters_per_epoch * warmup_epochs
    factor = by_start([rise(min(warmup_lr_start, lr) / lr0, peak, warmup), (warmup, Constant(peak))])
    return one_rate(run, lr0, factor, total)


@native("libreyolo", "FlatCosineScheduler")
def flat_cosine(
    run: Run,
    *,
    lr: float = LR,
    iters_per_epoch: int = STEPS_PER_EPOCH,
    total_epochs: int = RUN_EPOCHS,
    warmup_epochs: float = 2,
    warmup_lr_start: float = 1e-6,
    no_aug_epochs: float = 4,
    min_lr_ratio: float = 0.05,
) -> NativeSchedule:
    """A linear warmup, `lr`, and half a cosine to `min_lr_ratio` over the last `no_aug_epochs`, held for ever.

    The cosine is cut to what the warmup leaves.
    """
    given = {
        "warmup_epochs": warmup_epochs,
        "warmup_lr_start": warmup_lr_start,
        "no_aug_epochs": no_aug_epochs,
        "min_lr_ratio": min_lr_ratio,
    }
    total = total_steps(lr, iters_per_epoch, total_epochs, **given)
    lr0, peak = reference(lr)
    low = peak * min_lr_ratio
    warmup = iters_per_epoch * warmup_epochs
    parts = [rise(min(warmup_lr_start, lr) / lr0, peak, warmup)]
    if warmup > total:
        parts += [(step_after(warmup), Constant(low))]
    else:
        tail = min(iters_per_epoch * no_aug_epochs, total - warmup)
        parts += [(warmup, Constant(peak)), (total - tail, Cosine(peak, low, max(1, tail)))]
    return one_rate(run, lr0, by_start(parts), total)


@native("libreyolo", "CosineAnnealingScheduler")
def cosine_annealing(
    run: Run,
    *,
    lr: float = LR,
    iters_per_epoch: int = STEPS_PER_EPOCH,
    total_epochs: int = RUN_EPOCHS,
    warmup_epochs: float = 3,
    warmup_lr_start: float = 0.0001,
    min_lr_ratio: float = 0.01,
) -> NativeSchedule:
    """A linear warmup, then half a cosine to `min_lr_ratio` over the rest; past its end it rises again."""
    given = {"warmup_epochs": warmup_epochs, "warmup_lr_start": warmup_lr_start, "min_lr_ratio": min_lr_ratio}
    total = total_steps(lr, iters_per_epoch, total_epochs, **given)
    lr0, peak = reference(lr)
    warmup = iters_per_epoch * warmup_epochs
    fall = CosinePeriodic(peak, peak * min_lr_ratio, max(1, total - warmup))
    factor = by_start([rise(min(warmup_lr_start, lr) / lr0, peak, warmup), (warmup, fall)])
    return one_rate(run, lr0, factor, total)


@native("libreyolo", "PolyLRScheduler")
def poly(
    run: Run,
    *,
    lr: float = LR,
    iters_per_epoch: int = STEPS_PER_EPOCH,
    total_epochs: int = RUN_EPOCHS,
    warmup_epochs: float = 0,
    warmup_lr_start: float = 0.0,
    power: float = 0.9,
    min_lr_ratio: float = 0.0,
) -> NativeSchedule:
    """A linear warmup, then `(1 - progress) ** power` to `min_lr_ratio`, which is held."""
    given = {
        "warmup_epochs": warmup_epochs,
        "warmup_lr_start": warmup_lr_start,
        "power": power,
        "min_lr_ratio": min_lr_ratio,
    }
    total = total_steps(lr, iters_per_epoch, total_epochs, **given)
    lr0, peak = reference(lr)
    warmup = iters_per_epoch * warmup_epochs
    # a power of 0 is 1 at the end too, where our curve would be at its end
    fall = Polynomial(peak, peak * min_lr_ratio, max(1, total - warmup), power) if power else Constant(peak)
    factor = by_start([rise(min(warmup_lr_start, lr) / lr0, peak, warmup), (warmup, fall)])
    return one_rate(run, lr0, factor, total)
