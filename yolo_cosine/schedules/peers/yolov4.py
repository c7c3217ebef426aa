"""YOLOv4, twice: darknet with the keys of `yolov4.cfg`, and its port to PyTorch (WongKinYiu/PyTorch_YOLOv4, `train.py`).

The port is YOLOv5's trainer of that time, with a lag of one epoch after the warmup and a warmup of 1000 steps or more.
"""

from __future__ import annotations

from collections.abc import Sequence

from yolo_cosine.schedules.compose import Rounded
from yolo_cosine.schedules.curves import Constant, Linear, require
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.native import RUN_EPOCHS, STEPS_PER_EPOCH, NativeGroup, NativeSchedule, Run, native
from yolo_cosine.schedules.peers.darknet import net
from yolo_cosine.schedules.peers.yolo_trainers import LinearBySlope, TrainerGroup, bias_start, whole
from yolo_cosine.schedules.peers.yolov5 import lagging

_MAX_BATCHES, _STEPS = 500_500, (400_000, 450_000)
_SHORTEST_WARMUP = 1000  # steps
_GROUPS = ("norm", "weight", "bias")


@native("yolov4", "darknet")
def darknet(
    run: Run,
    *,
    learning_rate: float | None = None,
    burn_in: int = 1000,
    power: float = 4.0,
    max_batches: int | None = None,
    steps: Sequence[int] | str | None = None,
    scales: Sequence[float] | str = (0.1, 0.1),
) -> NativeSchedule:
    """A burn-in of power 4 and two steps down, by update.

    `learning_rate` and `max_batches` are by default the run's, else 0.0013 and 500500. The steps are by default those
    of the cfg for its own 500500 batches, else at 80 and 90 % of `max_batches`, as darknet's guide recommends.
    """
    rate = run.lr0s()[0] if run.get("lr0") is not None else 0.0013
    batches = run.get("total_iters", _MAX_BATCHES) if max_batches is None else max_batches
    if steps is None:
        steps = _STEPS if batches == _MAX_BATCHES else (batches * 8 // 10, batches * 9 // 10)
    return net(
        run,
        schedule="steps",
        learning_rate=rate if learning_rate is None else learning_rate,
        burn_in=burn_in,
        power=power,
        max_batches=batches,
        steps=steps,
        scales=scales,
    )


@native("yolov4", "pytorch")
def pytorch(
    run: Run,
    *,
    epochs: int = RUN_EPOCHS,
    iters_per_epoch: int = STEPS_PER_EPOCH,
    batch_size: int = 16,
    nbs: int = 64,
    optimizer: str = "SGD",
    lr0: float | None = None,
    lrf: float = 0.2,
    momentum: float = 0.937,
    warmup_epochs: float = 3.0,
    warmup_momentum: float = 0.9,
    warmup_bias_lr: float = 0.1,
) -> NativeSchedule:
    """Half a cosine to `lrf`, by epoch, with a linear warmup by step; an index is a batch.

    The defaults are those of the first release, where `lrf` and what starts with `warmup` were constants; a later
    `hyp.scratch.yaml` has lrf 0.1 and warmup_momentum 0.8. Not the peer's own: `iters_per_epoch` (batches in an epoch)
    and `nbs` (a constant 64 there). With Adam beta1 is not warmed up.
    """
    epochs, per_epoch = whole("epochs", epochs), whole("iters_per_epoch", iters_per_epoch)
    batch_size, nbs = whole("batch_size", batch_size), whole("nbs", nbs)
    require(optimizer in ("SGD", "Adam", "AdamW"), f"optimizer: {optimizer!r} is none of the peer's; write SGD or Adam")
    require(warmup_epochs >= 0, f"warmup_epochs: {warmup_epochs:g} is below 0; write 0 or more")
    base = run.lr0s()[0] if lr0 is None and run.get("lr0") is not None else 0.01 if lr0 is None else lr0
    warmup = max(round(warmup_epochs * per_epoch), _SHORTEST_WARMUP)
    curve = CosinePeriodic(1.0, lrf, epochs)
    starts = [bias_start(TrainerGroup(name, name, base), warmup_bias_lr) for name in _GROUPS]
    notes = []
    if warmup >= epochs * per_epoch:
        notes.append(f"warmup: {warmup} steps are not over when the run is, after {epochs * per_epoch}")
    return NativeSchedule(
        groups=tuple(NativeGroup(name, base) for name in _GROUPS),
        factors=tuple(lagging(curve, per_epoch, warmup, start) for start in starts),
        momenta=(Linear(warmup_momentum, momentum, warmup) if optimizer == "SGD" else Constant(momentum),),
        accumulation=Rounded(LinearBySlope(1, nbs / batch_size, warmup)),
        length=epochs * per_epoch,
        notes=tuple(notes),
    )
