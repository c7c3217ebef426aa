"""A peer's schedule as the schedule of a run: `preset: yolov5`, `preset: transformers.cosine`, ..."""

from __future__ import annotations

from typing import Any

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.schedules.compose import EpochWise, Scale
from yolo_cosine.schedules.curves import Constant, InvalidSchedule, Schedule
from yolo_cosine.schedules.native import NativeSchedule
from yolo_cosine.schedules.presets import argument_names, from_native, peers, schedules_of
from yolo_cosine.schedules.run import Group, RunSchedule, nominal_accumulation

# What is meant where only the peer is named.
_MAIN = {"yolov4": "pytorch", "yolox": "yoloxwarmcos", "rtmdet": "RTMDet", "nanochat": "get_lr_multiplier"}
# Trainers: they count batches and epochs themselves, and say when their rate moves.
_TRAINERS = {"ultralytics", "yolov5", "yolov4", "yolox", "rtmdet", "libreyolo", "mtl_yolo", "nanochat", "torchtitan"}
# What the peers call the parameter groups that are called otherwise here.
_GROUPS = {"norm": ("norm", "bn"), "weight": ("weight", "conv", "muon"), "bias": ("bias",)}


def peer_schedule(config: RunConfig, groups: tuple[Group, ...], steps_per_epoch: int) -> RunSchedule:
    """The schedule `config.preset` over a run, with the run's own numbers for the arguments that are not given.

    A peer that counts updates is asked for update `step // accumulate`, one that counts epochs for the epoch; with
    `lr_update: epoch` one that counts calls is called once an epoch.

    Raises:
        InvalidSchedule: for an unknown preset or argument, and where the peer raises.
    """
    peer, schedule = _split(config)
    if peer in _TRAINERS and config.lr_update == "epoch":
        raise InvalidSchedule(
            f"lr_update: epoch does not go with preset: {config.preset}, a trainer that says itself when its rate moves; "
            "leave it out"
        )
    steps = config.epochs * steps_per_epoch
    accumulation = min(nominal_accumulation(config), steps)

    def build(lr0: float, total: int) -> NativeSchedule:
        common = _common(config, lr0, steps_per_epoch, total, accumulation)
        given = _same_names(config, peer, schedule, lr0, steps_per_epoch) | config.preset_args
        return from_native(peer, schedule, given, common)

    natives = {lr0: build(lr0, steps) for lr0 in {g.lr0 for g in groups}}
    unit = _unit(config, next(iter(natives.values())), steps_per_epoch, accumulation)
    if unit > 1:
        natives = {lr0: build(lr0, steps // unit) for lr0 in natives}
    chosen = {g.name: (natives[g.lr0], _position(natives[g.lr0], g)) for g in groups}

    def clocked(schedule: Schedule) -> Schedule:
        return EpochWise(schedule, unit) if unit > 1 else schedule

    def factor(group: Group) -> Schedule:
        """Multiples of our lr0: the peer's own may be another one, such as its peak."""
        native, k = chosen[group.name]
        ratio = native.groups[k].lr0 / group.lr0
        return clocked(native.factors[k] if ratio == 1 else Scale(native.factors[k], ratio))

    first, k = chosen[groups[0].name]
    momentum = first.momenta[k if len(first.momenta) > 1 else 0] if first.momenta else Constant(config.momentum, steps)
    return RunSchedule(
        steps=steps,
        lr={g.name: factor(g) for g in groups},
        momentum=clocked(momentum),
        accumulate=Constant(accumulation, steps) if first.accumulation is None else clocked(first.accumulation),
        beta1=bool(first.momenta),
        notes=first.notes,
    )


def _split(config: RunConfig) -> tuple[str, str]:
    peer, dot, schedule = config.preset.partition(".")
    try:
        known = schedules_of(peer)
    except InvalidSchedule:
        raise InvalidSchedule(
            f"preset: {config.preset!r} is not known; write yolo-cosine, a trainer (ultralytics, yolov5, yolov4, yolox, "
            f"rtmdet), or a peer's schedule, as in transformers.cosine; the peers are {', '.join(peers())}"
        ) from None
    if dot:
        return peer, schedule
    if peer in ("ultralytics", "yolov5"):
        if config.curve not in ("cosine", "linear"):
            raise InvalidSchedule(f"curve: {config.curve} is not {peer}'s; it has cosine and linear")
        return peer, config.curve
    if peer in _MAIN:
        return peer, _MAIN[peer]
    raise InvalidSchedule(
        f"preset: {peer} has several schedules; write one of {', '.join(f'{peer}.{n}' for n in known)}"
    )


def _common(config: RunConfig, lr0: float, steps_per_epoch: int, total: int, accumulation: int) -> dict[str, Any]:
    return {
        "lr0": lr0, "lrf": config.lrf, "epochs": config.epochs, "iters_per_epoch": steps_per_epoch, "total_iters": total,
        "momentum": config.momentum, "warmup_epochs": config.warmup_epochs, "warmup_momentum": config.warmup_momentum,
        "warmup_bias_lr": config.warmup_bias_lr, "accumulate": accumulation, "optimizer": config.optimizer,
    }  # fmt: skip


def _same_names(config: RunConfig, peer: str, schedule: str, lr0: float, steps_per_epoch: int) -> dict[str, Any]:
    """The arguments of a peer that are keys here, under this name or another."""
    ours: dict[str, Any] = {}
    if peer in ("ultralytics", "yolov5", "yolov4"):
        same = ("lrf", "epochs", "momentum", "warmup_epochs", "warmup_momentum", "warmup_bias_lr", "batch")
        ours = {name: getattr(config, name) for name in same}
        ours |= {
            "lr0": lr0,
            "nbs": config.nominal_batch,
            "batch_size": config.batch,
            "cos_lr": config.curve == "cosine",
        }
        ours["optimizer"] = "AdamW" if config.optimizer == "AdamW" else "SGD"
    elif peer in ("yolox", "libreyolo"):
        ours = {
            "lr": lr0, "iters_per_epoch": steps_per_epoch, "total_epochs": config.epochs, "min_lr_ratio": config.lrf,
            "warmup_epochs": config.warmup_epochs, "no_aug_epochs": min(config.close_mosaic, config.epochs),
        }  # fmt: skip
    return {name: value for name, value in ours.items() if name in argument_names(peer, schedule)}


def _unit(config: RunConfig, native: NativeSchedule, steps_per_epoch: int, accumulation: int) -> int:
    """Steps that one index of the peer lasts."""
    if native.clock == "epoch" or config.lr_update == "epoch":
        return steps_per_epoch
    return accumulation if native.clock == "update" else 1


def _position(native: NativeSchedule, group: Group) -> int:
    names = [g.name for g in native.groups]
    wanted = (group.name, group.kind, *_GROUPS.get(group.kind, ()))
    return next((names.index(name) for name in wanted if name in names), 0)
