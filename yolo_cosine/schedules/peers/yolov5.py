"""YOLOv5 (`train.py`, `utils/torch_utils.py`): Ultralytics' older trainer, with a lag of one epoch.

Its scheduler is stepped at the end of an epoch and starts one behind, so after the warmup epoch `e` has `curve(e - 1)`;
the warmup itself aims at `curve(e)`. The epoch in which the warmup ends keeps the rate of the warmup's last step, and
the next one repeats it. The warmup is 100 steps or more, whatever the run's length.
"""

from __future__ import annotations

from yolo_cosine.schedules.compose import EpochWise, Join, RampInto, Rounded, Shift
from yolo_cosine.schedules.curves import Constant, Linear, Schedule, require
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.native import NativeGroup, NativeSchedule, Run, native
from yolo_cosine.schedules.peers.yolo_trainers import (
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

_BETAS = ("Adam", "AdamW")
_OPTIMIZERS = ("SGD", *_BETAS, "RMSProp")
_SHORTEST_WARMUP = 100  # steps


@native("yolov5", "linear", "cosine")
def yolov5(
    run: Run,
    *,
    schedule: str,
    epochs: int | None = None,
    batch_size: int = 16,
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
    resume_at_epoch: int | None = None,
) -> NativeSchedule:
    """Arguments of `train.py` and of its hyperparameter file; those that are None come from the run, else from
    `hyp.scratch-low.yaml`.

    Not the peer's own: `iters_per_epoch` (batches in an epoch), `nbs` (a constant 64 there) and `resume_at_epoch`,
    which moves nothing: a resumed run has the rates of an uninterrupted one.
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
    epochs = whole("epochs", given["epochs"])
    batch_size, nbs = whole("batch_size", batch_size), whole("nbs", nbs)
    check_resumed(resume_at_epoch, epochs)
    optimizer = optimizer or run.get("optimizer", "SGD")
    require(
        optimizer in _OPTIMIZERS,
        f"optimizer: {optimizer!r} is none of the peer's; write one of {', '.join(_OPTIMIZERS)}",
    )
    lr0 = given["lr0"]
    groups = (
        TrainerGroup("bias", "bias", lr0),
        TrainerGroup("weight", "weight", lr0),
        TrainerGroup("norm", "norm", lr0),
    )
    warmup = max(round(given["warmup_epochs"] * per_epoch), _SHORTEST_WARMUP)
    curve = CosinePeriodic(1.0, given["lrf"], epochs) if cosine else Linear(1.0, given["lrf"], epochs, after="continue")
    notes = []
    if warmup >= epochs * per_epoch:
        notes.append(f"warmup: {warmup} steps are not over when the run is, after {epochs * per_epoch}")
    elif round(given["warmup_epochs"] * per_epoch) < warmup:
        notes.append(f"warmup: it is {_SHORTEST_WARMUP} steps; fewer are not possible with this peer")
    if resume_at_epoch is not None:
        notes.append("resume: the first update after it comes early, as the trainer forgets when the last one was")
    result = NativeSchedule(
        groups=tuple(NativeGroup(group.name, group.lr0) for group in groups),
        factors=tuple(
            lagging(curve, per_epoch, warmup, bias_start(group, given["warmup_bias_lr"])) for group in groups
        ),
        momenta=(
            Constant(given["momentum"])
            if optimizer in _BETAS
            else Linear(given["warmup_momentum"], given["momentum"], warmup),
        ),
        accumulation=Rounded(LinearBySlope(1, nbs / batch_size, warmup)),
        length=epochs * per_epoch,
        notes=tuple(notes),
    )
    return by_epoch(result, per_epoch) if clock_is_epoch else result


def lagging(curve: Schedule, steps_per_epoch: int, warmup: int, start: float) -> Schedule:
    """The warmup up to the end of the epoch in which it ends, then the curve from that epoch's own value on."""
    last = warmup // steps_per_epoch
    return Join(
        (RampInto(start, EpochWise(curve, steps_per_epoch), warmup), EpochWise(Shift(curve, last), steps_per_epoch)),
        (0, (last + 1) * steps_per_epoch),
    )
