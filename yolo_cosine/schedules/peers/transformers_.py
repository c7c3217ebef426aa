"""Hugging Face transformers (5.23): `get_scheduler`, the Trainer's arguments, and the schedules that follow a metric.

The schedules that are functions of the step are in `transformers_steps`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from yolo_cosine.schedules.compose import join
from yolo_cosine.schedules.curves import Constant, InvalidSchedule, InverseSqrt, Linear, Piecewise, require
from yolo_cosine.schedules.native import BUILDERS, NativeGroup, NativeSchedule, Run, call, native
from yolo_cosine.schedules.peers import transformers_steps  # noqa: F401  registers its schedules
from yolo_cosine.schedules.peers.transformers_greedy import Greedy, one_for_each
from yolo_cosine.schedules.plateau import Plateau

# The names that `get_scheduler` takes, the peer's SchedulerType.
_METRIC_TYPES = ("reduce_lr_on_plateau", "greedy")
_TYPES = (
    "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt",
    "cosine_with_min_lr", "cosine_warmup_with_min_lr", "warmup_stable_decay", *_METRIC_TYPES,
)  # fmt: skip


@native("transformers", "get_scheduler")
def get_scheduler(
    run: Run,
    *,
    name: str,
    num_warmup_steps: float | None = None,
    num_training_steps: float | None = None,
    scheduler_specific_kwargs: Mapping[str, Any] | None = None,
) -> NativeSchedule:
    """A schedule by the name that `get_scheduler` knows it by; `num_training_steps` is by default the run's.

    As in the peer, the two constant ones do not look at `scheduler_specific_kwargs`, and those that follow a metric look
    at nothing else (which here holds the `metrics` too).
    """
    if name not in _TYPES:
        raise InvalidSchedule(f"name: {name!r} is no schedule of get_scheduler; write one of {', '.join(_TYPES)}")
    given = {} if name in ("constant", "constant_with_warmup") else dict(scheduler_specific_kwargs or {})
    if name not in _METRIC_TYPES:
        total = run.get("total_iters") if num_training_steps is None else num_training_steps
        given |= {"num_warmup_steps": num_warmup_steps, "num_training_steps": total}
    return call(BUILDERS["transformers"][name], name, given, run)


@native("transformers", "Trainer", "TrainingArguments")
def trainer(
    run: Run,
    *,
    lr_scheduler_type: str = "linear",
    warmup_steps: float = 0,
    max_steps: int = -1,
    lr_scheduler_kwargs: Mapping[str, Any] | None = None,
) -> NativeSchedule:
    """The schedule that the Trainer makes of its arguments; below 1, `warmup_steps` is a share of the run, rounded up.

    `max_steps` below 0 stands for the run's length.
    """
    total = max_steps if max_steps >= 0 else run.need("total_iters")
    require(warmup_steps >= 0, f"warmup_steps: {warmup_steps:g} is below 0; write 0 for none")
    return get_scheduler(
        run,
        name=lr_scheduler_type,
        num_warmup_steps=int(warmup_steps) if warmup_steps >= 1 else math.ceil(total * warmup_steps),
        num_training_steps=total,
        scheduler_specific_kwargs=lr_scheduler_kwargs,
    )


@native("transformers", "reduce_lr_on_plateau", "get_reduce_on_plateau_schedule")
def reduce_lr_on_plateau(
    run: Run,
    *,
    metrics: Sequence[float],
    mode: str = "min",
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: str = "rel",
    cooldown: int = 0,
    min_lr: float | Sequence[float] = 0,
    eps: float = 1e-8,
) -> NativeSchedule:
    """PyTorch's ReduceLROnPlateau over the metrics of a run that is known: `metrics[i]` comes at the end of index `i`."""
    groups = _groups_with_rates(run)
    factors = tuple(
        Plateau(mode, factor, patience, threshold, threshold_mode, cooldown, low / group.lr0, eps / group.lr0).replay(
            metrics
        )
        for group, low in zip(groups, one_for_each("min_lr", min_lr, len(groups)), strict=True)
    )
    return NativeSchedule(groups, factors, clock="epoch", length=len(metrics))


@native("transformers", "greedy", "get_greedy_schedule")
def greedy(
    run: Run,
    *,
    metrics: Sequence[float],
    mode: str = "min",
    factor: float = 0.95,
    patience: int = 10,
    threshold: float = 1e-6,
    threshold_mode: str = "abs",
    cooldown: int = 0,
    warmup: int = 0,
    min_lr: float | Sequence[float] = 1e-3,
    max_lr: float | Sequence[float] = 1.0,
    eps: float = 1e-8,
    verbose: bool = False,
    smooth: bool = False,
    window_size: int = 50,
    reset_start: int = 500,
) -> NativeSchedule:
    """GreedyLR over the metrics of a run that is known: `metrics[i]` comes at the end of index `i`.

    The rate falls by `factor` when the metric has not improved `patience + 1` times in a row, and rises by it when it has
    improved as often.
    """
    groups = _groups_with_rates(run)
    rule = Greedy(
        mode,
        factor,
        patience,
        threshold,
        threshold_mode,
        cooldown,
        warmup,
        one_for_each("min_lr", min_lr, len(groups)),
        one_for_each("max_lr", max_lr, len(groups)),
        eps,
        window_size if smooth else None,
        reset_start,
    )
    history = rule.rates(metrics, [group.lr0 for group in groups])
    factors = tuple(_told([rates[k] / group.lr0 for rates in history]) for k, group in enumerate(groups))
    return NativeSchedule(groups, factors, clock="epoch", length=len(metrics))


def _groups_with_rates(run: Run) -> tuple[NativeGroup, ...]:
    groups = run.groups()
    for group in groups:
        require(group.lr0 > 0, f"lr0: {group.lr0:g} is not above 0, and rates are multiples of it; write one that is")
    return groups


def _told(values: Sequence[float]) -> Piecewise:
    """These values at steps 0, 1, ..., the last for ever."""
    changes = [k for k, (before, after) in enumerate(pairwise(values), start=1) if before != after]
    return Piecewise((values[0], *(values[k] for k in changes)), tuple(changes))


@native("transformers", "adafactor", "get_adafactor_schedule", "AdafactorSchedule")
def adafactor(
    run: Run, *, initial_lr: float = 0.0, warmup_init: bool = False, scale_parameter: bool = True
) -> NativeSchedule:
    """The rate that Adafactor gives itself (`relative_step=True`): at most 0.01, and `1 / sqrt(i + 1)` from 10000 on.

    With `warmup_init` it first rises by 1e-6 at each update. `initial_lr` is only what the peer's scheduler reports before
    the first update; it is not applied. Source: Shazeer and Stern, Adafactor (arXiv 1804.04235).
    """
    rise = Linear(1e-6, 1e-2, 9_999) if warmup_init else Constant(1e-2, 9_999)
    notes = ("Adafactor multiplies this rate by each parameter's root mean square, which is not known here",)
    return NativeSchedule(
        (NativeGroup("all", 1.0),),
        (join(rise, InverseSqrt(1e-2, 10_000)),),
        clock="update",
        length=run.get("total_iters"),
        notes=notes if scale_parameter else (),
    )
