"""Ultralytics (`engine/trainer.py` of 8.4.190): a curve by epoch, a warmup by step, three or eight parameter groups.

The curve moves at the start of an epoch: epoch `e` of `E` has `curve(e)`, so `lrf` belongs to epoch `E`, one past the
last. Its clock counts the warmup, which ramps from 0 (biases: from `warmup_bias_lr`) towards the moving curve and
reaches it at step `nw`. Momentum and accumulation ramp along.

`trainer_schedule` composes this for any groups and any curve; `linear` and `cosine` are the peer's own two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from yolo_cosine.schedules.compose import EpochWise, RampInto, Rounded
from yolo_cosine.schedules.curves import Constant, Linear, Schedule, require
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.native import NativeGroup, NativeSchedule, Run, native
from yolo_cosine.schedules.peers.yolo_trainers import (
    DEFAULTS,
    LinearBySlope,
    TrainerGroup,
    bias_start,
    by_epoch,
    check_resumed,
    counts_epochs,
    is_cosine,
    settle,
    steps_in_an_epoch,
    whole,
)

_BETAS = ("Adam", "Adamax", "AdamW", "NAdam", "RAdam")
_OPTIMIZERS = (*_BETAS, "RMSprop", "SGD", "MuSGD", "auto")
_AUTO_MOMENTUM = 0.9


def warmup_steps(warmup_epochs: float, epochs: int, steps_per_epoch: int) -> int:
    """Steps of the warmup: `warmup_epochs`, but at least the last epoch is left to the curve; 0 for none."""
    return max(0, round(min(warmup_epochs, epochs - 1) * steps_per_epoch))


def full_accumulation(batch: int, nbs: int, total_steps: int) -> int:
    """Batches in an update after the warmup: `nbs / batch`, rounded half to even, from 1 to the run's own length."""
    return min(max(round(nbs / batch), 1), total_steps)


def trainer_schedule(
    groups: Sequence[TrainerGroup],
    *,
    curve: Schedule,
    epochs: int,
    steps_per_epoch: int,
    batch: int,
    nbs: int = 64,
    warmup_epochs: float = 3.0,
    warmup_bias_lr: float = 0.1,
    warmup_momentum: float | None = 0.8,
    momentum: float = 0.937,
) -> NativeSchedule:
    """What the trainer applies at every step of a run.

    Args:
        groups: the parameter groups; anything with `name`, `kind` and `lr0`.
        curve: multiplier of every group's lr0, by epoch.
        epochs: length of the run.
        steps_per_epoch: batches in an epoch.
        batch: images in a batch.
        nbs: images in an update after the warmup, as near as whole batches come.
        warmup_epochs: length of the warmup; fractions are allowed.
        warmup_bias_lr: absolute learning rate of the bias groups at step 0.
        warmup_momentum: momentum at step 0; None leaves it at `momentum` throughout, as Adam's beta1 is left.
        momentum: momentum from the end of the warmup on.

    Raises:
        InvalidSchedule: for a bias group with an lr0 of 0.
    """
    warmup = warmup_steps(warmup_epochs, epochs, steps_per_epoch)
    accumulation = full_accumulation(batch, nbs, epochs * steps_per_epoch)
    steady = momentum if warmup_momentum is None or not warmup else None
    return NativeSchedule(
        groups=tuple(NativeGroup(group.name, group.lr0) for group in groups),
        factors=tuple(
            ramp_into(EpochWise(curve, steps_per_epoch), warmup, bias_start(group, warmup_bias_lr)) for group in groups
        ),
        momenta=(Linear(warmup_momentum, momentum, warmup) if steady is None else Constant(steady),),
        accumulation=Rounded(LinearBySlope(1, accumulation, warmup)) if warmup else Constant(accumulation),
        length=epochs * steps_per_epoch,
    )


def ramp_into(target: Schedule, warmup: int, start: float) -> Schedule:
    """`RampInto`, left out where there is no warmup, so that a printed schedule has no node without effect."""
    return RampInto(start, target, warmup) if warmup else target


@native("ultralytics", "linear", "cosine")
def ultralytics(
    run: Run,
    *,
    schedule: str,
    epochs: int | None = None,
    batch: int = 16,
    iters_per_epoch: int | None = None,
    optimizer: str | None = None,
    lr0: float | None = None,
    lrf: float | None = None,
    momentum: float | None = None,
    warmup_epochs: float | None = None,
    warmup_momentum: float | None = None,
    warmup_bias_lr: float | None = None,
    nbs: int = 64,
    cos_lr: bool | None = None,
    time: float | None = None,
    resume_at_epoch: int | None = None,
    nc: int | None = None,
    images: int | None = None,
) -> NativeSchedule:
    """Arguments of `yolo train`; those that are None come from the run, else from the peer's own defaults
    (`DEFAULTS`, `optimizer=auto`).

    Not the peer's own: `iters_per_epoch` (batches in an epoch), `nc` and `images` (classes and training images of the
    data set, asked only by `optimizer=auto`; the peer takes 10 classes where the data say nothing, and so does this)
    and `resume_at_epoch`, which moves nothing: a resumed run has the rates of an uninterrupted one.

    `optimizer=auto` is Ultralytics' choice: above 10000 updates of `nbs` images MuSGD with lr0 0.01, else AdamW with
    `0.002 * 5 / (4 + nc)` to 6 decimals, both with `warmup_bias_lr` 0. The trainer writes the choice into its own
    arguments but not its momentum of 0.9, so arguments that read as such a choice get that momentum too.
    """
    per_epoch = steps_in_an_epoch(run, iters_per_epoch)
    clock_is_epoch = counts_epochs(run, lrf)
    given = settle(
        run,
        epochs=epochs,
        lr0=lr0,
        lrf=lrf,
        momentum=momentum,
        warmup_epochs=warmup_epochs,
        warmup_momentum=warmup_momentum,
        warmup_bias_lr=warmup_bias_lr,
    )
    cosine = is_cosine(schedule, cos_lr)
    require(time is None, f"time: {time} hours say how many epochs there are only while it trains; write epochs")
    epochs = whole("epochs", given["epochs"])
    batch, nbs = whole("batch", batch), whole("nbs", nbs)
    check_resumed(resume_at_epoch, epochs)
    for name in ("lr0", "lrf", "momentum", "warmup_momentum", "warmup_bias_lr"):
        require(0 <= given[name] <= 1, f"{name}: {given[name]:g} is not from 0 to 1, which is all that the peer takes")
    optimizer = _optimizer(optimizer or run.get("optimizer", "auto"))
    notes = []

    built = given["momentum"]
    if optimizer == "auto":
        images = per_epoch * batch if images is None else whole("images", images)
        updates = math.ceil(images / max(batch, nbs)) * epochs
        nc = whole("nc", run.get("nc", 10) if nc is None else nc)
        optimizer, lr0 = ("MuSGD", 0.01) if updates > 10_000 else ("AdamW", _auto_lr0(nc))
        given.update(lr0=lr0, warmup_bias_lr=0.0)
        built = _AUTO_MOMENTUM
        notes.append(f"optimizer: auto takes {optimizer} with lr0 {lr0:g} and warmup_bias_lr 0 for {updates} updates")
    elif _reads_as_auto(optimizer, given):
        built = _AUTO_MOMENTUM
        notes.append(f"optimizer: these arguments are what auto writes, so {optimizer} is built with momentum 0.9")

    warms_momentum = optimizer not in _BETAS and warmup_steps(given["warmup_epochs"], epochs, per_epoch) > 0
    result = trainer_schedule(
        _musgd_groups(given["lr0"]) if optimizer == "MuSGD" else _groups(given["lr0"]),
        curve=CosinePeriodic(1.0, given["lrf"], epochs) if cosine else Linear(1.0, given["lrf"], epochs),
        epochs=epochs,
        steps_per_epoch=per_epoch,
        batch=batch,
        nbs=nbs,
        warmup_epochs=given["warmup_epochs"],
        warmup_bias_lr=given["warmup_bias_lr"],
        warmup_momentum=given["warmup_momentum"] if warms_momentum else None,
        momentum=given["momentum"] if warms_momentum else built,
    )
    if resume_at_epoch is not None:
        notes.append("resume: the first update after it comes early, as the trainer forgets when the last one was")
    result = replace(result, notes=tuple(notes))
    return by_epoch(result, per_epoch) if clock_is_epoch else result


def _optimizer(name: str) -> str:
    known = {known.lower(): known for known in _OPTIMIZERS}
    require(
        str(name).lower() in known, f"optimizer: {name!r} is none of the peer's; write one of {', '.join(_OPTIMIZERS)}"
    )
    return known[str(name).lower()]


def _groups(lr0: float) -> tuple[TrainerGroup, ...]:
    return TrainerGroup("weight", "weight", lr0), TrainerGroup("bn", "norm", lr0), TrainerGroup("bias", "bias", lr0)


def _musgd_groups(lr0: float) -> tuple[TrainerGroup, ...]:
    """Every group twice: first what belongs to the classification head, at three times the rate, then the rest."""
    kinds = (("weight", "weight"), ("bn", "norm"), ("bias", "bias"), ("muon", "muon"))
    return tuple(
        TrainerGroup(prefix + name, kind, rate)
        for name, kind in kinds
        for prefix, rate in (("head_", lr0 * 3), ("", lr0))
    )


def _auto_lr0(nc: int) -> float:
    return round(0.002 * 5 / (4 + nc), 6)


def _reads_as_auto(optimizer: str, given: dict[str, Any]) -> bool:
    """Whether these are the arguments that `optimizer=auto` leaves behind (as in a checkpoint's `train_args`)."""
    if given["warmup_bias_lr"] != 0 or given["momentum"] != DEFAULTS["momentum"] or not given["lr0"]:
        return False
    classes = round(0.01 / given["lr0"] - 4)
    fitted = classes >= 1 and math.isclose(_auto_lr0(classes), given["lr0"])
    return fitted if optimizer == "AdamW" else optimizer == "MuSGD" and given["lr0"] == 0.01
