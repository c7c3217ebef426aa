"""MMEngine's parameter schedulers (`mmengine/optim/scheduler/param_scheduler.py` of 0.10.7), and MMDetection's, as rules.

Each function takes the scheduler's own arguments, in the scheduler's own steps, and gives a rule for the whole window
`begin <= t < end`, or, where that is easier, rules for stretches of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from yolo_cosine.schedules.compose import Join, Shift
from yolo_cosine.schedules.curves import (
    Constant,
    Cosine,
    Exponential,
    Linear,
    MultiStep,
    Piecewise,
    Polynomial,
    Power,
    Schedule,
    Step,
    require,
)
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.peers.mmengine_rules import Rule
from yolo_cosine.schedules.peers.mmengine_scope import INF, Scope, Stretch
from yolo_cosine.schedules.peers.undefined import Undefined
from yolo_cosine.schedules.plateau import Plateau

Scheduler = Callable[..., "Rule | list[Stretch]"]
SCHEDULERS: dict[str, Scheduler] = {}
"""By MMEngine's name without LR, Momentum or ParamScheduler."""


def _scheduler(name: str) -> Callable[[Scheduler], Scheduler]:
    def register(build: Scheduler) -> Scheduler:
        SCHEDULERS[name] = build
        return build

    return register


def _share(name: str, value: float) -> float:
    require(0 <= value <= 1, f"{name}: {value} is not from 0 to 1; write a share of the value")
    return value


@_scheduler("Constant")
def constant(scope: Scope, *, factor: float = 1 / 3) -> Rule:
    """`factor` times the value, which is released at the window's last step; without an end, never."""
    _share("factor", factor)
    if scope.total == 0:
        scope.notes.append("a constant of one step is released in that step; MMEngine itself would never release it")
        return Rule(Constant(1.0))
    if scope.last != scope.total:
        return Rule(Constant(factor))
    if factor == 0:
        return Rule(
            Join((Constant(0.0), Undefined("factor: 0 cannot be undone; write a share above 0")), (0, scope.last))
        )
    return Rule(Piecewise((factor, 1.0), (scope.last,)))


@_scheduler("Linear")
def linear(scope: Scope, *, start_factor: float = 1 / 3, end_factor: float = 1.0) -> Rule:
    """From `start_factor` times the value to `end_factor` times it at the window's last step."""
    start, end = _share("start_factor", start_factor), _share("end_factor", end_factor)
    if scope.total == 0:
        scope.notes.append(
            "a line of one step is at its end in that step; MMEngine itself would never leave start_factor"
        )
        return Rule(Constant(end))
    if scope.total < 0:  # between two epochs
        return Rule(Constant(start))
    if start == 0:
        nothing = Undefined("start_factor: 0 times a value has no way back; write a small share, as in 0.001")
        return Rule(Join((Constant(0.0), nothing), (0, 1)))
    return Rule(Linear(start, end, scope.total, "hold" if scope.last <= scope.total else "continue"))


@_scheduler("Exponential")
def exponential(scope: Scope, *, gamma: float) -> Rule:
    """Times `gamma` at every step but the first."""
    return Rule(Exponential(1.0, gamma))


@_scheduler("Step")
def step(scope: Scope, *, step_size: float, gamma: float = 0.1) -> Rule:
    """Times `gamma` at every step that is a multiple of `step_size`, but for the first."""
    size = Fraction(abs(step_size) * scope.per_epoch).numerator  # the first whole multiple of a fraction
    if size == 0:
        return Rule(Join((Constant(1.0), Undefined("step_size: 0 steps are no period; write at least 1")), (0, 1)))
    return Rule(Step(1.0, gamma, size))


@_scheduler("MultiStep")
def multi_step(scope: Scope, *, milestones: Sequence[float], gamma: float = 0.1) -> Rule:
    """Times `gamma` at each milestone, counted from the window's begin; one between two steps is never met."""
    steps = sorted(m * scope.per_epoch for m in milestones)
    met = tuple(int(m) for m in steps if 0 <= m <= scope.last and float(m).is_integer())
    return Rule(MultiStep(1.0, met, gamma))


@_scheduler("CosineAnnealing")
def cosine_annealing(
    scope: Scope, *, T_max: float | None = None, eta_min: float | None = None, eta_min_ratio: float | None = None
) -> Rule:
    """Half a cosine down to `eta_min` in `T_max` steps, by default the window; past it, back to the initial value."""
    low = 0.0 if eta_min is None and eta_min_ratio is None else scope.lowest(eta_min, eta_min_ratio)
    period = (T_max or 0) * scope.per_epoch or scope.end - scope.begin
    require(period > 0, f"T_max: {T_max} is not above 0; write the steps from the highest value to the lowest")
    # between two steps the lowest point is passed, not met, and the way back is that of the recursion
    again = scope.base if float(period).is_integer() else None
    return Rule(CosinePeriodic(1.0, 0.0, period), towards=low, again=again)


@_scheduler("CosineRestart")
def cosine_restart(
    scope: Scope,
    *,
    periods: Sequence[float],
    restart_weights: Sequence[float] = (1,),
    eta_min: float | None = None,
    eta_min_ratio: float | None = None,
) -> list[Stretch]:
    """Cosines from the initial value times a weight towards `eta_min`; after the last one its last value is held."""
    low = scope.lowest(eta_min, eta_min_ratio)
    require(
        len(periods) == len(restart_weights),
        f"restart_weights: {len(restart_weights)} for {len(periods)} periods; write one for each",
    )
    stretches, begin = [], 0.0
    for number, weight in zip(periods, restart_weights, strict=True):
        period = number * scope.per_epoch
        require(period >= 0, f"periods: {number} is below 0; write the length of a cosine")
        late = math.ceil(begin) - begin  # the cosine begins between two steps, the first of which is this much later
        first, begin = math.ceil(begin), begin + period
        if math.ceil(begin) == first:
            continue
        if late:
            scope.notes.append(
                f"the period of {number} begins between two steps, so that MMEngine does not restart there"
            )
            before = (1 + math.cos(math.pi * (late - 1) / period)) / 2
            rule = Rule(Shift(CosinePeriodic(1 / before, 0.0, period), late), towards=low)
        else:
            rule = Rule(CosinePeriodic(1.0, 0.0, period), towards=low, reset=scope.base * weight)
        stretches.append(Stretch(rule, first, math.ceil(begin)))
    return stretches


@_scheduler("Poly")
def poly(scope: Scope, *, eta_min: float = 0, power: float = 1.0) -> Rule:
    """A polynomial down to `eta_min` at the window's last step."""
    total = scope.total
    if total <= 0 or power == 0:
        return Rule(Constant(1.0))
    shape: Schedule = Polynomial(1.0, 0.0, total, power, "hold" if scope.last <= total else "continue")
    if power < 0 and total <= scope.last < math.inf and float(total).is_integer():
        shape = Join((shape, Undefined(f"power: {power} of 0 is no number; write a power above 0")), (0, total))
    return Rule(shape, towards=eta_min / scope.unit)


@_scheduler("OneCycle")
def one_cycle(
    scope: Scope,
    *,
    eta_max: float | Sequence[float] = 0,
    total_steps: int | None = None,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Rule:
    """Up to `eta_max` at step `pct_start * total - 1`, and down to the minimum at `total - 1`; one more step goes on.

    Whatever value is there does not matter.
    """
    require(
        total_steps is None or (total_steps > 0 and isinstance(total_steps * scope.per_epoch, int)),
        f"total_steps: {total_steps!r} is no whole number above 0; write the length of the cycle",
    )
    total = scope.end - scope.begin if total_steps is None else total_steps * scope.per_epoch
    require(
        isinstance(pct_start, float) and 0 <= pct_start <= 1,
        f"pct_start: {pct_start!r} is no fraction from 0 to 1, as in 0.3 or 1.0",
    )
    require(anneal_strategy in ("cos", "linear"), f"anneal_strategy: {anneal_strategy!r} is neither 'cos' nor 'linear'")
    high = scope.of_group("eta_max", eta_max)
    start = high / div_factor
    phases = [(pct_start * total - 1, start, high), (total - 1, high, start / final_div_factor)]
    if three_phase:
        phases[1:] = [(2 * pct_start * total - 2, high, start), (total - 1, start, start / final_div_factor)]
    pieces: list[Schedule] = []
    starts: list[float] = []
    begin, free = 0.0, 0  # where a phase begins, often between two steps, and the first step that no phase has yet
    for k, (end, a, b) in enumerate(phases):
        last = k == len(phases) - 1
        # a phase may take over where the one before it arrives, if that is at a step
        takes_over = begin == free - 1 and end > begin and pieces and not isinstance(pieces[-1], Undefined)
        enter = free - 1 if takes_over else free
        if enter <= total and (last or end >= free):
            pieces.append(_way(anneal_strategy, a, b, end - begin, enter - begin, last))
            starts.append(enter)
            free = math.floor(end) + 1
        begin = end
    over = Undefined(f"total_steps: the cycle of {total} steps is over; end the run, or the window, there")
    return Rule(Join((*pieces, over), (*starts, total + 1)), how="value")


def _way(strategy: str, start: float, end: float, span: float, at: float, last: bool) -> Schedule:
    """One phase of a cycle over `span` steps, entered `at` steps after its start."""
    if span == 0:
        return Undefined("pct_start: a phase of the cycle has no steps, which divides by zero; write another share")
    if span < 0:  # only the one step past the end is left
        share = at / span if strategy == "linear" else (1 - math.cos(math.pi * at / span)) / 2
        return Constant(start + (end - start) * share)
    if strategy == "linear":
        curve: Schedule = Linear(start, end, span, "continue" if last else "hold")
    else:
        curve = (CosinePeriodic if last else Cosine)(start, end, span)
    return Shift(curve, at) if at else curve


@_scheduler("QuadraticWarmup")
def quadratic_warmup(scope: Scope) -> Rule:
    """`((t + 1) / (end - begin)) ** 2` times the initial value. Source: `mmdet/engine/schedulers/quadratic_warmup.py`."""
    require(scope.end < INF, "end: is missing; write the steps of the warmup")
    length = scope.end - scope.begin
    shape: Schedule = Shift(Power(0.0, scope.base, length, 2.0), 1)
    if scope.last + 1 > length:  # a length that is no whole number is overshot
        shape = Join((shape, Constant(scope.base * ((scope.last + 1) / length) ** 2)), (0, scope.last))
    return Rule(shape, how="difference")


@_scheduler("ReduceOnPlateau")
def reduce_on_plateau(
    scope: Scope,
    *,
    monitor: str = "loss",
    rule: str = "less",
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_rule: str = "rel",
    cooldown: int = 0,
    min_value: float | Sequence[float] = 0.0,
    eps: float = 1e-8,
) -> list[Stretch]:
    """Times `factor` after more than `patience` epochs in which the metric did not get better.

    The epochs' metrics must be known: `metrics`, a number each, or a mapping that has `monitor`.
    """
    require(rule in ("less", "greater"), f"rule: {rule!r} is neither 'less' nor 'greater'")
    require(threshold >= 0, f"threshold: {threshold} is below 0; write 0 for any improvement")
    require(
        scope.metrics is not None,
        "metrics: missing; the schedule follows them, so give metrics=[...], one for each epoch",
    )
    plateau = Plateau("min" if rule == "less" else "max", factor, patience, threshold, threshold_rule, cooldown)
    # when to lower does not depend on how far the last time went: any factor will do to find out
    plateau = replace(plateau, factor=0.5, eps=0.0)
    state, lowered = plateau.start(), []
    # MMEngine counts an epoch before it looks at its metric, so the first one is number 1
    for epoch, metric in enumerate(scope.metrics, start=1):
        if scope.begin <= epoch < scope.end:
            before, state = state, plateau.observe(state, _monitored(metric, monitor))
            if state.factor < before.factor:
                lowered.append(epoch)
    floor = scope.of_group("min_value", min_value)
    return [Stretch(Rule(MultiStep(1.0, tuple(lowered), factor), floor=floor, least=eps / scope.unit))]


def _monitored(metric: float | Mapping[str, float], monitor: str) -> float:
    if not isinstance(metric, Mapping):
        return metric
    require(monitor in metric, f"monitor: {monitor!r} is none of the metrics {', '.join(metric)}; name one of them")
    return metric[monitor]
