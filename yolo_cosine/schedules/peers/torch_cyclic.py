"""PyTorch's schedulers that move the momentum the other way: OneCycleLR and CyclicLR."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from yolo_cosine.schedules.compose import Join, Shift
from yolo_cosine.schedules.curves import Constant, Exponential, Linear, Schedule, Steps, kind, require
from yolo_cosine.schedules.cycles import CosinePeriodic, Cyclic
from yolo_cosine.schedules.peers.formula import read_formula
from yolo_cosine.schedules.peers.torch_part import Group, Part, Until, scheduler, writing
from yolo_cosine.schedules.peers.torch_recursion import Link
from yolo_cosine.schedules.peers.undefined import Undefined

# Optimizers of torch.optim that have neither a momentum nor a beta1.
_WITHOUT_MOMENTUM = ("adadelta", "adafactor", "adagrad", "asgd", "lbfgs", "rprop")


def _require_momentum(group: Group) -> None:
    optimizer = str(group.get("optimizer", "SGD"))
    require(
        optimizer.lower() not in _WITHOUT_MOMENTUM,
        f"cycle_momentum: {optimizer} has neither momentum nor beta1; write cycle_momentum=False",
    )


@scheduler("OneCycleLR", "last_epoch", "edit")
def one_cycle_lr(
    group: Group,
    *,
    max_lr: Any,
    total_steps: int | None = None,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    cycle_momentum: bool = True,
    base_momentum: Any = 0.85,
    max_momentum: Any = 0.95,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Part:
    """From `max_lr / div_factor` up to `max_lr`, and down to `max_lr / div_factor / final_div_factor` at the last step.

    The peak is at `pct_start * total_steps - 1`, which may fall between two steps. One step more than `total_steps` is
    let through, on the extended curve; the one after it raises. Momentum (Adam: beta1) goes the other way.
    """
    total = _total(total_steps, epochs, steps_per_epoch)
    require(
        isinstance(pct_start, float) and 0 <= pct_start <= 1,
        f"pct_start: {pct_start!r} is no float from 0.0 to 1.0; write one, with its point",
    )
    require(
        anneal_strategy in ("cos", "linear"), f"anneal_strategy: {anneal_strategy!r} is not known; write cos or linear"
    )
    for name, value in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
        require(value != 0, f"{name}: 0 divides the rate; write another number")
    peak = group.share("max_lr", max_lr)
    low = peak / div_factor
    low_end = low / final_div_factor
    up = float(pct_start * total) - 1
    require(up != 0, f"pct_start: {pct_start:g} of {total} steps is 1, a way up of no length; write more, or less")
    ends = (up, 2 * up, total - 1) if three_phase else (up, total - 1)

    def over_run(rates: tuple[float, ...]) -> Schedule:
        return _phases(rates, ends, total, anneal_strategy)

    momentum = None
    if cycle_momentum:
        _require_momentum(group)
        high, deep = group.pick("max_momentum", max_momentum), group.pick("base_momentum", base_momentum)
        momentum = over_run((high, deep, high, high) if three_phase else (high, deep, high))
    notes = ()
    if up < 0 or not up.is_integer():
        notes = (f"the peak is at step {up:g}, which is none: max_lr itself is never used",)
    return writing(
        over_run((low, peak, low, low_end) if three_phase else (low, peak, low_end)),
        momentum=momentum,
        initial=low,
        length=total,
        notes=notes,
    )


def _total(total_steps: Any, epochs: Any, steps_per_epoch: Any) -> int:
    if total_steps is None and (epochs is None or steps_per_epoch is None):
        require(False, "total_steps: missing; write it, or epochs and steps_per_epoch")
    given = {"total_steps": total_steps} if total_steps is not None else {"epochs": epochs}
    if total_steps is None:
        given["steps_per_epoch"] = steps_per_epoch
    for name, value in given.items():
        require(isinstance(value, int) and value > 0, f"{name}: {value!r} is no whole number from 1 on; write one")
    return math.prod(given.values())


def _phases(values: tuple[float, ...], ends: tuple[float, ...], total: int, strategy: str) -> Schedule:
    """One phase between each two values; phase `k` ends at `ends[k]`, and the last one goes on to the step `total`."""
    pieces: list[Schedule] = []
    starts: list[float] = []
    begin = 0.0
    for k, end in enumerate(ends):
        last = k == len(ends) - 1
        if begin <= total and (last or end > max(begin, 0)):  # else no step is in it
            piece = _phase(values[k], values[k + 1], _neat(end - begin), strategy)
            pieces.append(Shift(piece, -begin) if begin < 0 else piece)
            starts.append(total if end == begin else _neat(max(begin, 0)))
        begin = end
    run = Join(tuple(pieces), tuple(starts)) if len(pieces) > 1 else pieces[0]
    return Until(run, total, f"total_steps: the cycle of {total} steps is over; make it as long as the run")


def _neat(step: float) -> float:
    return int(step) if float(step).is_integer() else step


def _phase(start: float, end: float, length: float, strategy: str) -> Schedule:
    if length == 0:
        return Undefined("pct_start: the last phase has no length, and a step after it divides by 0; write less")
    if strategy == "linear":
        return Linear(start, end, length, after="continue")
    return CosinePeriodic(start, end, abs(length))


@kind("torch-scaled-cyclic")
@dataclass(frozen=True)
class ScaledCyclic:
    """Triangles between `base` and `peak` whose height is multiplied with `scale`, a schedule over the cycles (from 1
    on) or over the steps; with `down` of 0 they are saw teeth."""

    base: float
    peak: float
    up: Steps
    down: Steps
    scale: Schedule
    scale_by: Literal["cycle", "iterations"] = "cycle"

    @property
    def steps(self) -> Steps:
        return self.up + self.down

    def __call__(self, step: float) -> float:
        cycle, t = divmod(step, self.steps)
        height = t / self.up if t <= self.up else (self.steps - t) / self.down
        return self.base + (self.peak - self.base) * height * self.scale(
            cycle + 1 if self.scale_by == "cycle" else step
        )


@scheduler("CyclicLR", "last_epoch", "edit")
def cyclic_lr(
    group: Group,
    *,
    base_lr: Any,
    max_lr: Any,
    step_size_up: float = 2000,
    step_size_down: Any = None,
    mode: str = "triangular",
    gamma: float = 1.0,
    scale_fn: str | None = None,
    scale_mode: str = "cycle",
    cycle_momentum: bool = True,
    base_momentum: Any = 0.8,
    max_momentum: Any = 0.9,
) -> Part:
    """Triangles between `base_lr` and `max_lr`, and of the momentum (Adam: beta1) the other way.

    `scale_fn` is a formula as text, of the cycle's number (from 1 on) or, with another `scale_mode` than `cycle`, of
    the step; then `mode` does not count.
    """
    down = step_size_up if step_size_down is None else step_size_down
    require(step_size_up > 0, f"step_size_up: {step_size_up:g} steps are no way up; write at least 1")
    require(
        isinstance(down, int | float) and down >= 0, f"step_size_down: {down!r} is no number of steps; write 0 or more"
    )
    require(
        scale_fn is not None or mode in ("triangular", "triangular2", "exp_range"),
        f"mode: {mode!r} is not known; write triangular, triangular2 or exp_range, or a scale_fn",
    )

    def triangles(base: float, peak: float) -> Schedule:
        if scale_fn is not None:
            by = "cycle" if scale_mode == "cycle" else "iterations"
            return ScaledCyclic(base, peak, step_size_up, down, read_formula(scale_fn, {}, "scale_fn"), by)
        if down > 0:
            return Cyclic(base, peak, step_size_up, None if down == step_size_up else down, mode, gamma)
        scale = {
            "triangular": Constant(1.0),
            "triangular2": Exponential(2.0, 0.5),
            "exp_range": Exponential(1.0, gamma),
        }
        by = "iterations" if mode == "exp_range" else "cycle"
        return ScaledCyclic(base, peak, step_size_up, down, scale[mode], by)

    low, high = group.share("base_lr", base_lr), group.share("max_lr", max_lr)
    momentum = None
    if cycle_momentum:
        _require_momentum(group)
        momentum = triangles(group.pick("max_momentum", max_momentum), group.pick("base_momentum", base_momentum))
    curve = triangles(low, high)
    part = writing(curve, momentum=momentum, length=step_size_up + down)
    if group.fresh:
        return replace(part, initial=low)
    # the constructor writes the `initial_lr` that it finds, and knows its own base rate only from step 1 on
    return replace(part, alone=Link(Join((Constant(group.base), Shift(curve, 1)), (0, 1)), None, None))
