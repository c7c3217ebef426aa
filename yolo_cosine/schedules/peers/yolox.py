"""YOLOX (`yolox/utils/lr_scheduler.py`, `yolox/core/trainer.py`): one rate for all groups, by step.

Step `i` has `update_lr(i)`, and the last step of a warmup is its step `W`. The trainer writes a rate only after a step,
so step 0 has the rate that the optimizer was built with: `warmup_lr` if there are warmup epochs, else `lr`. A cosine
that no `no_aug_epochs` follow rises again past its end.
"""

from __future__ import annotations

from collections.abc import Sequence

from yolo_cosine.schedules.curves import Constant, MultiStep, Steps, require
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.native import RUN_EPOCHS, STEPS_PER_EPOCH, NativeSchedule, Run, native
from yolo_cosine.schedules.peers.undefined import Undefined
from yolo_cosine.schedules.peers.yolox_parts import (
    LR,
    Part,
    by_start,
    cut_notes,
    entered,
    fall_until,
    one_rate,
    reference,
    rise,
    step_after,
    total_steps,
    with_first,
)


@native("yolox", "cos")
def cos(
    run: Run,
    *,
    schedule: str,
    lr: float = LR,
    iters_per_epoch: int = STEPS_PER_EPOCH,
    total_epochs: int = RUN_EPOCHS,
    name: str | None = None,
    warmup_epochs: float = 0,
    warmup_lr: float = 0,
    warmup_lr_start=None,
    no_aug_epochs=None,
    min_lr_ratio=None,
) -> NativeSchedule:
    """Half a cosine from `lr` to 0 over the run; past its end it rises again.

    `warmup_epochs` and `warmup_lr` decide about step 0 only. The last three arguments are accepted and not used, as the
    peer's experiment passes them to every schedule.
    """
    _check_name(name, schedule)
    total = total_steps(lr, iters_per_epoch, total_epochs, warmup_epochs=warmup_epochs, warmup_lr=warmup_lr)
    lr0, peak = reference(lr)
    first = warmup_lr / lr0 if warmup_epochs else peak
    return one_rate(run, lr0, by_start(with_first(first, [(0, CosinePeriodic(peak, 0.0, total))])), total)


@native("yolox", "warmcos")
def warmcos(
    run: Run,
    *,
    schedule: str,
    lr: float = LR,
    iters_per_epoch: int = STEPS_PER_EPOCH,
    total_epochs: int = RUN_EPOCHS,
    name: str | None = None,
    warmup_epochs: float,
    warmup_lr: float = 0,
    warmup_lr_start: float = 1e-6,
    no_aug_epochs=None,
    min_lr_ratio=None,
) -> NativeSchedule:
    """A linear warmup, then half a cosine to 0 over the rest; past its end it rises again.

    The last two arguments are accepted and not used. After a warmup exactly as long as the run there is no value.
    """
    _check_name(name, schedule)
    given = {"warmup_epochs": warmup_epochs, "warmup_lr": warmup_lr, "warmup_lr_start": warmup_lr_start}
    total = total_steps(lr, iters_per_epoch, total_epochs, **given)
    lr0, peak = reference(lr)
    warmup = iters_per_epoch * warmup_epochs
    parts = [rise(warmup_lr_start / lr0, peak, warmup), _wave(peak, 0.0, total - warmup, warmup)]
    first = warmup_lr / lr0 if warmup else peak
    return one_rate(run, lr0, by_start(with_first(first, parts)), total)


@native("yolox", "yoloxwarmcos")
def yoloxwarmcos(
    run: Run,
    *,
    schedule: str,
    lr: float = LR,
    iters_per_epoch: int = STEPS_PER_EPOCH,
    total_epochs: int = RUN_EPOCHS,
    name: str | None = None,
    warmup_epochs: float,
    warmup_lr: float = 0,
    warmup_lr_start: float = 0,
    no_aug_epochs: float,
    min_lr_ratio: float = 0.2,
) -> NativeSchedule:
    """A quadratic warmup, half a cosine to `min_lr_ratio`, and that for the last `no_aug_epochs` and for ever."""
    _check_name(name, schedule)
    given = {"warmup_epochs": warmup_epochs, "warmup_lr": warmup_lr, "warmup_lr_start": warmup_lr_start}
    given |= {"no_aug_epochs": no_aug_epochs, "min_lr_ratio": min_lr_ratio}
    total = total_steps(lr, iters_per_epoch, total_epochs, **given)
    lr0, peak = reference(lr)
    warmup, flat = iters_per_epoch * warmup_epochs, total - iters_per_epoch * no_aug_epochs
    fall = fall_until(flat, peak, peak * min_lr_ratio, warmup, step_after(warmup))
    parts = with_first(warmup_lr / lr0 if warmup else peak, [rise(warmup_lr_start / lr0, peak, warmup, power=2), fall])
    return one_rate(run, lr0, by_start(parts), total, cut_notes(warmup, flat, "no_aug_epochs"))


@native("yolox", "yoloxsemiwarmcos")
def yoloxsemiwarmcos(
    run: Run,
    *,
    schedule: str,
    lr: float = LR,
    iters_per_epoch: int = STEPS_PER_EPOCH,
    total_epochs: int = RUN_EPOCHS,
    name: str | None = None,
    warmup_epochs: float,
    warmup_lr: float = 0,
    warmup_lr_start: float = 0,
    no_aug_epochs: float,
    min_lr_ratio: float = 0.2,
    semi_epoch: float,
    iters_per_epoch_semi: float,
) -> NativeSchedule:
    """As `yoloxwarmcos`, with epochs of `iters_per_epoch_semi` steps from `semi_epoch` on.

    The cosine keeps its pace in epochs. Where `semi_epoch` lies in the last `no_aug_epochs`, the peer's minimum starts
    too early or too late: the cosine is cut off, or rises again.
    """
    _check_name(name, schedule)
    given = {"warmup_epochs": warmup_epochs, "warmup_lr": warmup_lr, "warmup_lr_start": warmup_lr_start}
    given |= {"no_aug_epochs": no_aug_epochs, "min_lr_ratio": min_lr_ratio, "semi_epoch": semi_epoch}
    total = total_steps(lr, iters_per_epoch, total_epochs, **given)
    require(iters_per_epoch_semi > 0, f"iters_per_epoch_semi: {iters_per_epoch_semi} is no epoch; write at least 1")
    lr0, peak = reference(lr)
    low = peak * min_lr_ratio
    warmup, semi = iters_per_epoch * warmup_epochs, iters_per_epoch * semi_epoch
    flat = semi + iters_per_epoch_semi * (total_epochs - semi_epoch - no_aug_epochs)
    length = total - warmup - iters_per_epoch * no_aug_epochs  # of the cosine, in steps of the first kind

    parts = [rise(warmup_lr_start / lr0, peak, warmup, power=2)]
    if flat > warmup:
        if semi >= warmup:
            parts.append(_wave(peak, low, length, warmup))
        parts.append(_semi_wave(peak, low, length, warmup, min(semi, flat), iters_per_epoch_semi / iters_per_epoch))
    parts.append((max(flat, step_after(warmup)), Constant(low)))
    parts = with_first(warmup_lr / lr0 if warmup else peak, parts)
    steps = iters_per_epoch * min(semi_epoch, total_epochs) + iters_per_epoch_semi * max(0, total_epochs - semi_epoch)
    return one_rate(run, lr0, by_start(parts), steps, cut_notes(warmup, flat, "no_aug_epochs"))


@native("yolox", "multistep")
def multistep(
    run: Run,
    *,
    schedule: str,
    lr: float = LR,
    iters_per_epoch: int = STEPS_PER_EPOCH,
    total_epochs: int = RUN_EPOCHS,
    name: str | None = None,
    milestones: Sequence[float],
    gamma: float = 0.1,
    warmup_epochs: float = 0,
    warmup_lr: float = 0,
    warmup_lr_start=None,
    no_aug_epochs=None,
    min_lr_ratio=None,
) -> NativeSchedule:
    """`lr`, times `gamma` from each milestone (an epoch) on; a milestone inside an epoch is cut to a whole step.

    `warmup_epochs` and `warmup_lr` decide about step 0 only. The last three arguments are accepted and not used.
    """
    _check_name(name, schedule)
    total = total_steps(lr, iters_per_epoch, total_epochs, warmup_epochs=warmup_epochs, warmup_lr=warmup_lr)
    lr0, peak = reference(lr)
    steps = tuple(sorted(int(total * milestone / total_epochs) for milestone in milestones))
    first = warmup_lr / lr0 if warmup_epochs else peak
    return one_rate(run, lr0, by_start(with_first(first, [(0, MultiStep(peak, steps, gamma))])), total)


def _check_name(name: str | None, schedule: str) -> None:
    """The peer's own first argument may be left out, as the schedule is named already."""
    require(name in (None, schedule), f"name: {name!r} is not the schedule {schedule!r}; leave it out")


def _wave(peak: float, low: float, length: Steps, warmup: Steps) -> Part:
    """The cosine after the warmup. A length below 0 is mirrored in the peer's formula; one of 0 it divides by."""
    if length == 0:
        reason = "warmup_epochs: the warmup takes all the time that the cosine has; shorten it, or end the run with it"
        return step_after(warmup), Undefined(reason)
    return warmup, CosinePeriodic(peak, low, abs(length))


def _semi_wave(peak: float, low: float, length: Steps, warmup: Steps, start: Steps, pace: float) -> Part:
    """The cosine from `start` on, in steps of which an epoch has `pace` times as many; it was entered at `warmup`."""
    begin, wave = _wave(peak, low, length * pace, warmup)
    if isinstance(wave, Undefined):
        return begin, wave
    if start >= warmup:
        return start, entered(wave, (start - warmup) * pace)
    begin = step_after(warmup)
    behind = (start - warmup) * pace + begin - start
    return begin, entered(wave, behind % (2 * wave.steps))  # a wave further on: no shift goes before a start
