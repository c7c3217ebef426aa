"""A run that goes on past its end: the schedule of a longer run that begins as the shorter one did."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from yolo_cosine.config.schema import ExtensionConfig, RunConfig
from yolo_cosine.schedules.compose import Join, Scale, Shift
from yolo_cosine.schedules.curves import Constant, InvalidSchedule, Schedule, require
from yolo_cosine.schedules.decays import DECAYS
from yolo_cosine.schedules.run import RunSchedule

Build = Callable[[RunConfig], RunSchedule]  # of a configuration without extensions


def extended(config: RunConfig, build: Build, steps_per_epoch: int, factors: Mapping[str, float]) -> RunSchedule:
    """The schedule of a run that was extended once or more (`config.extensions`).

    Up to the step of each extension it is what it was; so a run is still a pure function of its configuration.

    Args:
        factors: of `lr_factors`, by group; where a decay ends is a multiple of them, as everywhere.

    Raises:
        InvalidSchedule: for an extension that is not inside its run, or a decay from a learning rate of 0.
    """
    lengths = [*(e.epochs for e in config.extensions[1:]), config.epochs]
    first = config.extensions[0]
    schedule = build(config.model_copy(update={"epochs": first.epochs, "extensions": []}))
    for extension, epochs in zip(config.extensions, lengths, strict=True):
        steps = epochs * steps_per_epoch
        if not 0 < extension.step < steps:
            raise InvalidSchedule(
                f"extensions: step {extension.step} is not inside a run of {steps} steps, {epochs} epochs; write more "
                "epochs, or go on from an earlier checkpoint"
            )
        longer = build(config.model_copy(update={"epochs": epochs, "extensions": []}))
        schedule = _once(schedule, longer, extension, config, steps, factors)
    return schedule


def _once(
    old: RunSchedule,
    longer: RunSchedule,
    extension: ExtensionConfig,
    config: RunConfig,
    steps: int,
    factors: Mapping[str, float],
) -> RunSchedule:
    at = extension.step
    if extension.how == "stretch":

        def other(before: Schedule, stretched: Schedule) -> Schedule:
            return Join((before, Shift(stretched, at)), (0, at))

        def rate(before: Schedule, stretched: Schedule, factor: float) -> Schedule:
            return other(before, stretched)
    else:
        curve = DECAYS[extension.curve or config.curve]
        lrf = config.lrf if extension.lrf is None else extension.lrf
        hold_from = max(at, old.steps) if extension.how == "continue" else at

        def other(before: Schedule, stretched: Schedule) -> Schedule:
            return Join((before, Constant(before(hold_from - 1))), (0, hold_from))

        def rate(before: Schedule, stretched: Schedule, factor: float) -> Schedule:
            if extension.how == "continue":
                return other(before, stretched)
            present = before(at - 1)
            require(
                present > 0,
                f"extensions: a decay from the rate at step {at}, {present:g}, goes nowhere; let the run go on by "
                "stretch, or from a checkpoint before the rate was 0",
            )
            end = lrf * (factor if extension.how == "decay" else present)
            # the last step of the run is at the end
            return Join((before, Scale(curve(1.0, end / present, steps - 1 - at), present)), (0, at))

    return dataclasses.replace(
        longer,
        steps=steps,
        lr={name: rate(old.lr[name], longer.lr[name], factors[name]) for name in longer.lr},
        momentum=other(old.momentum, longer.momentum),
        accumulate=other(old.accumulate, longer.accumulate),
        weight_decay=other(old.weight_decay, longer.weight_decay),
        notes=(),
    )
