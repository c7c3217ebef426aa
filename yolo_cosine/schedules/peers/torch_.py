"""PyTorch's schedulers (`torch/optim/lr_scheduler.py` and `SWALR` of 2.13), as closed forms.

An index is the number of `step()` calls so far: the constructor makes step 0, and a call once an epoch or once a batch
is the caller's choice. A minimum (`eta_min`, `min_lr`) is an absolute learning rate that all groups share. Most of these
schedulers move the rate that they find and have no memory of their own; what follows from that is in
`torch_recursion.py`. The cyclic ones are in `torch_cyclic.py`, those made of others in `torch_compose.py`.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from fractions import Fraction
from typing import Any

from yolo_cosine.schedules.compose import Join, Scale, Shift
from yolo_cosine.schedules.curves import (
    Constant,
    Cosine,
    Exponential,
    InvalidSchedule,
    Linear,
    MultiStep,
    Piecewise,
    Polynomial,
    Schedule,
    Step,
    require,
)
from yolo_cosine.schedules.cycles import CosinePeriodic, CosineRestarts
from yolo_cosine.schedules.peers import torch_compose, torch_cyclic  # noqa: F401 (they register their schedulers)
from yolo_cosine.schedules.peers.formula import read_formula
from yolo_cosine.schedules.peers.torch_part import (
    Group,
    Part,
    as_factor,
    failing,
    moving,
    refused,
    scheduler,
    writing,
)
from yolo_cosine.schedules.peers.torch_recursion import Chain, Link, Multiplied, Recursion, Relay
from yolo_cosine.schedules.plateau import Plateau


def _whole(value: float) -> bool:
    return float(value).is_integer()


@scheduler("LambdaLR", "last_epoch", "edit")
def lambda_lr(group: Group, *, lr_lambda: Any = None, T_max: float | None = None, eta_min: float = 0.0) -> Part:
    """The base rate times a function of the step: `lr_lambda` is a formula as text (`0.95 ** epoch`), or a number, or a
    list with one for each group. In place of it, `T_max` and `eta_min` are the cosine of CosineAnnealingLR, written as
    such a function."""
    if (lr_lambda is None) == (T_max is None):
        raise InvalidSchedule(
            "lr_lambda: give it, as in lr_lambda='0.95 ** epoch', or T_max for a cosine, and not both"
        )
    if T_max is not None:
        return writing(_cosine(group, T_max, eta_min), length=T_max)
    formula = _formula(group, lr_lambda)
    if isinstance(formula, Constant):
        return writing(Constant(formula.value * group.base))
    return writing(formula if group.base == 1 else Scale(formula, group.base))


@scheduler("MultiplicativeLR", "last_epoch", "edit")
def multiplicative_lr(group: Group, *, lr_lambda: Any) -> Part:
    """At each step the rate times `lr_lambda` of that step, a formula as in LambdaLR."""
    formula = _formula(group, lr_lambda)
    if isinstance(formula, Constant):
        gamma = formula.value
        later = Link(Exponential(gamma, gamma))  # entered without a constructor, its step 0 counts
        return moving(Exponential(group.base, gamma), group, handed=later, stepped=later)
    product = Multiplied(formula)
    curve = product if group.base == 1 else Scale(product, group.base)
    return Part(curve, product, Multiplied(formula, 0), Multiplied(formula, 0))


def _formula(group: Group, text: Any) -> Schedule:
    if isinstance(text, list | tuple):
        require(
            len(text) == group.count,
            f"lr_lambda: {len(text)} for {group.count} groups; write one, or one for each group",
        )
        text = text[group.position]
    return read_formula(text, group.values, "lr_lambda")


@scheduler("StepLR", "last_epoch", "edit")
def step_lr(group: Group, *, step_size: float, gamma: float = 0.1) -> Part:
    """A factor `gamma` at every multiple of `step_size`."""
    if step_size == 0:
        reason = "step_size: 0 divides the step; write at least 1"
        return moving(failing(Constant(group.base), 1, reason), group, handed=refused(reason))
    every = abs(Fraction(step_size).numerator)  # the first whole step that is a multiple
    return moving(Step(group.base, gamma, every), group)


@scheduler("MultiStepLR", "last_epoch", "edit")
def multistep_lr(group: Group, *, milestones: Any, gamma: float = 0.1) -> Part:
    """A factor `gamma` at each milestone; one that stands twice counts twice."""
    steps = isinstance(milestones, list | tuple) and all(
        isinstance(m, int | float) and not isinstance(m, bool) for m in milestones
    )
    require(steps, f"milestones: {milestones!r} is no list of steps; write one, as in [30, 60]")
    met = tuple(sorted(int(m) for m in milestones if _whole(m) and m >= 0))
    never = [m for m in milestones if not _whole(m) or m < 0]
    curve = MultiStep(group.base, met, gamma)
    passed = sum(m < 0 for m in milestones)  # the closed form counts them, once
    handed = Link(MultiStep(group.base * gamma**passed, met, gamma), 0.0, None)
    notes = (f"milestones {never} are no step that the scheduler is at: they never count",) if never else ()
    return moving(curve, group, handed=handed, notes=notes)


@scheduler("ConstantLR", "last_epoch", "edit")
def constant_lr(group: Group, *, factor: float = 1.0 / 3, total_iters: float = 5) -> Part:
    """`factor` of the base rate, and the base rate from the step `total_iters` on.

    The step must be met for that: with `total_iters` of 0 or between two steps, `factor` stays for ever.
    """
    require(0 <= factor <= 1, f"factor: {factor:g} is not from 0 to 1; write a share of the base rate")
    low = Constant(factor * group.base)
    handed = None if total_iters > 0 else Link(Constant(group.base), 0.0, None)
    if total_iters < 1 or not _whole(total_iters):
        note = f"total_iters={total_iters:g} is no step after the first: the rate stays at factor={factor:g} for ever"
        return moving(low, group, handed=handed, notes=(note,))
    if factor == 0:
        return moving(failing(low, total_iters, "factor: there is no way back from 0; write a number above 0"), group)
    return moving(
        Piecewise((factor * group.base, group.base), (int(total_iters),)), group, handed=handed, length=total_iters
    )


@scheduler("LinearLR", "last_epoch", "edit")
def linear_lr(group: Group, *, start_factor: float = 1.0 / 3, end_factor: float = 1.0, total_iters: float = 5) -> Part:
    """From `start_factor` to `end_factor` of the base rate in `total_iters` steps, then held.

    It moves up to the last whole step, so a fraction stops short of `end_factor`, and 0 stays at `start_factor`.
    """
    require(0 < start_factor <= 1, f"start_factor: {start_factor:g} is not above 0 and up to 1; write a share")
    require(0 <= end_factor <= 1, f"end_factor: {end_factor:g} is not from 0 to 1; write a share of the base rate")
    start, last = start_factor * group.base, max(0, math.floor(total_iters))
    if last == 0:
        handed = None
        if total_iters == 0:
            handed = refused("total_iters: 0 divides the step where SequentialLR hands over; write at least 1")
        elif total_iters < 0:
            handed = Link(Constant(end_factor * group.base), 0.0, None)
        note = f"total_iters={total_iters:g} leaves the rate at start_factor={start_factor:g} for ever"
        return moving(Constant(start), group, handed=handed, notes=(note,))
    reached, notes = end_factor, ()
    if last != total_iters:
        reached = start_factor + (end_factor - start_factor) * last / total_iters
        notes = (f"total_iters={total_iters:g} is no step: the rate stops at {reached:g}, short of {end_factor:g}",)
    return moving(Linear(start, reached * group.base, last), group, length=total_iters, notes=notes)


@scheduler("ExponentialLR", "last_epoch", "edit")
def exponential_lr(group: Group, *, gamma: float) -> Part:
    """A factor `gamma` at every step."""
    later = Link(Exponential(gamma * group.base, gamma), 0.0, group.base)
    return moving(Exponential(group.base, gamma), group, stepped=later)


@scheduler("PolynomialLR", "last_epoch", "edit")
def polynomial_lr(group: Group, *, total_iters: float = 5, power: float = 1.0) -> Part:
    """`(1 - step / total_iters) ** power` of the base rate, then held; 0 at `total_iters`, if that is a step."""
    base, last = group.base, max(0, math.floor(total_iters))
    if last == 0 or power == 0:
        handed, stepped = None, None
        if total_iters == 0:
            handed = stepped = refused("total_iters: 0 divides the step; write at least 1")
        elif total_iters < 0 and power != 0:
            handed = Link(Constant(0.0), 0.0, None) if power > 0 else refused(_no_power(power))
        elif total_iters > 0:
            stepped = Link(Constant(base), 0.0, base * (1 + 1 / total_iters) ** power)
        return moving(Constant(base), group, handed=handed, stepped=stepped)
    curve: Schedule = Polynomial(base, 0.0, total_iters, power)
    if last != total_iters:
        curve = Join((curve, Constant(base * (1 - last / total_iters) ** power)), (0, last))
    elif power < 0:
        curve = failing(curve, last, _no_power(power))
    stepped = Link(curve, 0.0, base * (1 + 1 / total_iters) ** power)
    return moving(curve, group, stepped=stepped, length=total_iters)


def _no_power(power: float) -> str:
    return f"power: 0 to the power of {power:g}, at total_iters, is no number; write a power above 0"


@scheduler("CosineAnnealingLR", "last_epoch", "edit")
def cosine_annealing_lr(group: Group, *, T_max: float, eta_min: float = 0.0) -> Part:
    """From the base rate to `eta_min` at the step `T_max`, back up to the base rate at twice that, and so on."""
    curve = _cosine(group, T_max, eta_min)
    if not isinstance(curve, CosinePeriodic):
        later = refused("T_max: 0 divides the step; write at least 1")
        return moving(curve, group, handed=later, stepped=later)
    note = f"eta_min is the value of step {T_max:g}, and past it the rate rises again"
    way = Link(curve, curve.end, group.base)
    handed: Recursion = Link(curve, curve.end, None)
    if curve.start == curve.end:  # flat alone, and yet what another scheduler changes goes the way of a cosine
        way = Link(replace(curve, start=curve.end + 1), curve.end, curve.end + 1, returns=False)
        handed = Chain((Link(Constant(group.base), 0.0, None), way))
    stepped = replace(way, before=way.schedule(1))
    return Part(curve, way, handed, stepped, length=T_max, notes=(note,))


def _cosine(group: Group, T_max: float, eta_min: float) -> Schedule:
    if T_max == 0:
        return failing(Constant(group.base), 1, "T_max: 0 divides the step; write at least 1")
    return CosinePeriodic(group.base, as_factor(eta_min, group.unit), abs(T_max))


@scheduler("CosineAnnealingWarmRestarts", "last_epoch", "edit")
def cosine_annealing_warm_restarts(
    group: Group, *, T_0: float, T_mult: float = 1, eta_min: float = 0.0, call: str | None = None
) -> Part:
    """Cosines of `T_0`, `T_0 * T_mult`, ... steps; the step of a restart has the base rate, `eta_min` is never reached.

    `call` says how `step` is called, where that is not once an index without an argument: with the text
    `step(epoch + i / iters) after`, as in PyTorch's documentation, an index is a batch, the cycles are in epochs, and
    what is computed after a batch is for the next one, so everything is one batch late. A `last_epoch` finds its place
    in the cycles; PyTorch's own finds it with a `T_mult` of 1 only.
    """
    require(isinstance(T_0, int) and T_0 > 0, f"T_0: {T_0!r} is no length; write a whole number from 1 on")
    require(isinstance(T_mult, int) and T_mult >= 1, f"T_mult: {T_mult!r} is not a whole number from 1 on; write one")
    end = as_factor(eta_min, group.unit)
    if call is None:
        return writing(CosineRestarts(group.base, end, T_0, T_mult))
    match = re.search(r"step\(epoch \+ i ?/ ?\w+\)\W*(after|before)\b", str(call), re.IGNORECASE)
    if match is None:
        raise InvalidSchedule(
            f"call: {call!r} is not understood; write 'step(epoch + i / iters) after' (or before) each batch"
        )
    cycles = CosineRestarts(group.base, end, T_0 * group.need("iters_per_epoch"), T_mult)
    late = match[1].lower() == "after"
    notes = ("step() comes after each batch: every value is one batch late",) if late else ()
    return writing(Shift(cycles, -1) if late else cycles, notes=notes)


@scheduler("SWALR", "last_epoch", "edit")
def swalr(group: Group, *, swa_lr: Any, anneal_epochs: int = 10, anneal_strategy: str = "cos") -> Part:
    """From the rate that it finds to `swa_lr` in `anneal_epochs` steps, then held: for averaging weights."""
    end = group.share("swa_lr", swa_lr)
    require(
        anneal_strategy in ("cos", "linear"), f"anneal_strategy: {anneal_strategy!r} is not known; write cos or linear"
    )
    whole = isinstance(anneal_epochs, int) and anneal_epochs >= 0
    require(whole, f"anneal_epochs: {anneal_epochs!r} is no length; write a whole number from 0 on")
    if anneal_epochs == 0:
        return writing(Constant(end))
    shape = Cosine if anneal_strategy == "cos" else Linear
    way = shape(end + 1.0, end, anneal_epochs)  # any way to `end`: it is entered from the rate that is there
    held = (Link(Constant(end), None, None),)
    return Part(
        shape(group.base, end, anneal_epochs),
        alone=Relay((Link(way, end, end + 1.0), *held), (0, anneal_epochs + 1)),
        handed=Relay((Link(way, end, end + 1.0), *held), (0, anneal_epochs + 1)),
        stepped=Relay((Link(Shift(way, 1), end, end + 1.0), *held), (0, anneal_epochs)),
        length=anneal_epochs,
    )


@scheduler("ReduceLROnPlateau")
def reduce_lr_on_plateau(
    group: Group,
    *,
    metrics: Any,
    mode: str = "min",
    factor: float = 0.1,
    patience: float = 10,
    threshold: float = 1e-4,
    threshold_mode: str = "rel",
    cooldown: float = 0,
    min_lr: Any = 0,
    eps: float = 1e-8,
) -> Part:
    """What follows from `metrics`, of which number `i` is given to `step` after index `i`; then it holds.

    In a run, where the metrics are not known yet, it is the key `plateau`.
    """
    if not isinstance(metrics, list | tuple):
        raise InvalidSchedule(f"metrics: {metrics!r} is no list of numbers; write what step() is called with")
    low, unit = group.share("min_lr", min_lr), group.unit
    plateau = Plateau(mode, factor, patience, threshold, threshold_mode, cooldown, low, eps / unit)
    factors = plateau.replay(metrics)
    return writing(factors if group.base == 1 else Scale(factors, group.base), length=len(metrics))
