"""From a configuration to the schedule of a run: every group's learning rate, momentum and accumulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.schedules.compose import EpochWise, RampInto, Rounded, join
from yolo_cosine.schedules.curves import CURVES, Constant, Linear, Schedule


@dataclass(frozen=True)
class Group:
    """A parameter group: what it holds and the learning rate that its multipliers are of."""

    name: str  # weight, norm, bias, muon, and the same with the prefix head_
    kind: str  # weight, norm, bias or muon
    lr0: float


@dataclass(frozen=True)
class RunSchedule:
    """What is applied at every step `0..steps-1` of a run. A step is one batch.

    An update of the weights closes when `accumulate(step)` batches have come in since the last one; it uses the
    learning rates and momentum of the step at which it closes.
    """

    steps: int
    lr: Mapping[str, Schedule]  # group name: multiplier of the group's lr0
    momentum: Schedule
    accumulate: Schedule  # whole numbers


def build_schedule(config: RunConfig, groups: tuple[Group, ...], steps_per_epoch: int) -> RunSchedule:
    """The schedule that `config` asks for, over `config.epochs` of `steps_per_epoch` batches."""
    build = {"yolo-cosine": _yolo_cosine, "ultralytics": _ultralytics}[config.preset]
    return build(config, groups, steps_per_epoch)


def nominal_accumulation(config: RunConfig) -> int:
    """Batches in an update: `nominal_batch / batch`, rounded half to even, at least 1."""
    return max(1, round(config.nominal_batch / config.batch))


def _warmup_start(config: RunConfig, group: Group) -> float:
    return config.warmup_bias_lr / group.lr0 if group.kind == "bias" else 0.0


def _yolo_cosine(config: RunConfig, groups: tuple[Group, ...], steps_per_epoch: int) -> RunSchedule:
    """Warmup, then a decay with its own clock: lr0 is reached at the warmup's end, lr0*lrf at the last step.

    A decay by epoch is over whole epochs, so there its clock counts the warmup; the last epoch has lr0*lrf.
    """
    steps = config.epochs * steps_per_epoch
    warmup = min(round(config.warmup_epochs * steps_per_epoch), steps - 1)
    curve = CURVES[config.curve]
    if config.lr_update == "step":
        decay = curve(1.0, config.lrf, steps - 1 - warmup)
        lr = {g.name: join(Linear(_warmup_start(config, g), 1.0, warmup), decay) for g in groups}
    else:
        decay = EpochWise(curve(1.0, config.lrf, config.epochs - 1), steps_per_epoch)
        lr = {g.name: RampInto(_warmup_start(config, g), decay, warmup) for g in groups}
    return RunSchedule(
        steps=steps,
        lr=lr,
        momentum=Linear(config.warmup_momentum, config.momentum, warmup),
        accumulate=Constant(min(nominal_accumulation(config), steps), steps),  # else a short run would never update
    )


def _ultralytics(config: RunConfig, groups: tuple[Group, ...], steps_per_epoch: int) -> RunSchedule:
    """Ultralytics' trainer (`engine/trainer.py` of 8.4): the curve moves at the start of an epoch and is only
    approached, its clock counts the warmup, and the accumulation ramps up during the warmup.

    The warmup leaves at least the last epoch to the curve, so it is shorter than `warmup_epochs` in a short run.
    """
    curve = EpochWise(CURVES[config.curve](1.0, config.lrf, config.epochs), steps_per_epoch)
    warmup = round(min(config.warmup_epochs, config.epochs - 1) * steps_per_epoch)
    accumulation = min(nominal_accumulation(config), config.epochs * steps_per_epoch)
    return RunSchedule(
        steps=config.epochs * steps_per_epoch,
        lr={g.name: RampInto(_warmup_start(config, g), curve, warmup) for g in groups},
        momentum=Linear(config.warmup_momentum, config.momentum, warmup),
        accumulate=Rounded(Linear(1, accumulation, warmup)),
    )
