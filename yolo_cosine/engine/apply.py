"""Applying a schedule to an optimizer, at every step, for a fraction of a microsecond."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import optim

from yolo_cosine.schedules.compose import segment
from yolo_cosine.schedules.curves import Constant, Cosine, Linear, Schedule
from yolo_cosine.schedules.run import Group, RunSchedule

Settings = dict[str, Any]  # a parameter group of an optimizer


class AppliedSchedule:
    """Sets every group's learning rate, momentum and weight decay to those of a step.

    Between two joints of a schedule only what moves is evaluated, once for all groups that share it, and what is
    constant is written once: that is most of a run, where warmups are over. Adam's beta1 follows the momentum only
    where the schedule says so (`RunSchedule.beta1`).
    """

    def __init__(self, optimizer: optim.Optimizer, groups: tuple[Group, ...], schedule: RunSchedule) -> None:
        self._optimizer = optimizer
        self._groups = groups
        self._decays = [settings["weight_decay"] for settings in optimizer.param_groups]
        self.factor = 1.0
        self.follow(schedule)

    def follow(self, schedule: RunSchedule) -> None:
        """Apply another schedule from the next step on."""
        self._schedule = schedule
        adam = "betas" in self._optimizer.param_groups[0]
        self._beta1 = schedule.momentum if schedule.beta1 and adam else None
        self.reset()

    def reset(self, factor: float | None = None) -> None:
        """Write everything anew at the next step: the optimizer's settings were changed by someone else, as by loading
        a state, or `factor`, which every learning rate is multiplied with, is a new one."""
        if factor is not None:
            self.factor = factor
        self._from, self._until = 0.0, -1.0

    def __call__(self, step: int) -> None:
        """Apply step `step`."""
        if not self._from <= step < self._until:
            self._enter(step)
        for value_at, key, base, members in self._moving:
            value = base * value_at(step)
            for settings in members:
                settings[key] = value
        if self._beta1 is not None:
            beta1 = self._beta1(step)
            for settings in self._optimizer.param_groups:
                settings["betas"] = (beta1, settings["betas"][1])

    def _enter(self, step: int) -> None:
        """Look up the pieces that hold at `step` and until when; write the constant ones."""
        self._from, self._until = step, float("inf")
        shared: dict[tuple[Schedule, float], list[tuple[Settings, str, float]]] = {}
        for schedule, targets in self._wired():
            piece, start, until = segment(schedule, step)
            self._until = min(self._until, until)
            if isinstance(piece, Constant):
                for settings, key, base in targets:
                    settings[key] = base * piece.value
            else:
                shared.setdefault((piece, start), []).extend(targets)
        self._moving = [
            (_compiled(piece, start), key, base, members)
            for (piece, start), targets in shared.items()
            for key, base, members in _together(targets)
        ]

    def _wired(self) -> list[tuple[Schedule, list[tuple[Settings, str, float]]]]:
        """Every schedule with the settings that it drives: (group, key, what the value is multiplied with)."""
        wired = []
        pairs = list(zip(self._optimizer.param_groups, self._groups, self._decays, strict=True))
        for settings, group, _ in pairs:
            wired.append((self._schedule.lr[group.name], [(settings, "lr", group.lr0 * self.factor)]))
        momenta = [(settings, "momentum", 1.0) for settings, _, _ in pairs if "momentum" in settings]
        decays = [(settings, "weight_decay", decay) for settings, _, decay in pairs if decay]
        return [*wired, (self._schedule.momentum, momenta), (self._schedule.weight_decay, decays)]


def _together(targets: list[tuple[Settings, str, float]]) -> list[tuple[str, float, list[Settings]]]:
    """Targets that get the same number, as one: (key, what the value is multiplied with, their settings)."""
    found: dict[tuple[str, float], list[Settings]] = {}
    for settings, key, base in targets:
        found.setdefault((key, base), []).append(settings)
    return [(key, base, members) for (key, base), members in found.items()]


def _compiled(piece: Schedule, begin: float) -> Callable[[int], float]:
    """`piece(step - begin)` for steps before the piece's end. The two curves that most runs consist of get their
    numbers looked up once; the arithmetic is theirs, so the values are the same to the last bit."""
    if type(piece) is Cosine:
        end, height, steps, pi, cos = piece.end, piece.start - piece.end, piece.steps, math.pi, math.cos
        return lambda step: end + height * (1 + cos(pi * (step - begin) / steps)) / 2
    if type(piece) is Linear:
        start, rise, steps = piece.start, piece.end - piece.start, piece.steps
        return lambda step: start + rise * ((step - begin) / steps)
    return lambda step: piece(step - begin)


def applied(optimizer: optim.Optimizer) -> Mapping[str, float]:
    """What the optimizer would use now: `lr/<group>` and `momentum`, read back from it."""
    first = optimizer.param_groups[0]
    momentum = first["momentum"] if "momentum" in first else first["betas"][0]
    return {**{f"lr/{s['name']}": s["lr"] for s in optimizer.param_groups}, "momentum": momentum}
