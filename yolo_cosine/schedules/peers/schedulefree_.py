"""schedulefree 1.4.1 (Defazio et al., The Road Less Scheduled, arXiv 2405.15682): what is left of a schedule without one.

The values are the `scheduled_lr` that update `k` uses: a warmup (`(k + 1) / warmup_steps`, so never 0, and 1 at update
`warmup_steps - 1`) or RAdam's rectification, and nothing else; `group["lr"]` itself never changes. The averaging of the
weights, which stands in for a decay, is the optimizer's own affair.

The optimizers' other arguments (betas, r, weight_lr_power, ...) are checked as they check them, but make no difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from yolo_cosine.schedules.compose import Join, Product, Scale, Shift
from yolo_cosine.schedules.curves import Constant, Linear, Schedule, Steps, kind, require
from yolo_cosine.schedules.native import NativeSchedule, Run, native


@kind("schedulefree-rectification")
@dataclass(frozen=True)
class Rectification:
    """RAdam's factor at update `step + 1`: `before` while it is undefined (the first 4 updates for beta2 = 0.999), then
    from near 0 towards 1, for ever.

    Source: Liu et al., On the Variance of the Adaptive Learning Rate and Beyond (arXiv 1908.03265), algorithm 2.
    """

    beta2: float = 0.999
    before: float = 0.0
    steps: Steps = 0

    def __post_init__(self) -> None:
        _check_beta2(self.beta2)

    def __call__(self, step: float) -> float:
        power = self.beta2 ** (step + 1)
        longest = 2 / (1 - self.beta2) - 1
        length = longest - 2 * (step + 1) * power / (1 - power)
        if length <= 4:
            return self.before
        share = (length - 4) * (length - 2) * longest
        return math.sqrt(share / ((longest - 4) * (longest - 2) * length))


@kind("schedulefree-bias-correction")
@dataclass(frozen=True)
class BiasCorrection:
    """`sqrt(1 - beta2 ** (step + 1))`: Adam's correction of its second moment, as a factor of the learning rate.

    Source: Kingma and Ba, Adam (arXiv 1412.6980), the end of section 2.
    """

    beta2: float = 0.999
    steps: Steps = 0

    def __post_init__(self) -> None:
        _check_beta2(self.beta2)

    def __call__(self, step: float) -> float:
        return math.sqrt(1 - self.beta2 ** (step + 1))


@native("schedulefree", "SGDScheduleFree", "SGDScheduleFreeClosure", "SGDScheduleFreeReference")
def sgd(
    run: Run, *, lr=None, momentum=0.9, weight_decay=0.0, warmup_steps=0, r=0.0, weight_lr_power=2.0, foreach=None
) -> NativeSchedule:
    """Schedule-Free SGD. `lr` is by default the run's lr0, here and below, or else the optimizer's 1.0."""
    require(lr is None or lr >= 0, f"lr: {lr} is below 0; write a rate, as in 1.0")
    require(weight_decay >= 0, f"weight_decay: {weight_decay} is below 0; write 0 for none")
    require(0 < momentum < 1, f"momentum: {momentum} is not between 0 and 1, both excluded; try 0.9")
    return _native(run, lr, 1.0, _warmup(warmup_steps))


@native("schedulefree", "AdamWScheduleFree", "AdamWScheduleFreeClosure")
def adamw(
    run: Run, *, lr=None, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, warmup_steps=0, r=0.0, weight_lr_power=2.0,
    foreach=None,
) -> NativeSchedule:  # fmt: skip
    """Schedule-Free AdamW; its own default rate is 0.0025."""
    return _native(run, lr, 0.0025, _warmup(warmup_steps))


@native("schedulefree", "AdamWScheduleFreeReference")
def adamw_reference(
    run: Run, *, lr=None, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, warmup_steps=0, r=0.0, weight_lr_power=2.0,
    decay_at_z=False, foreach=None,
) -> NativeSchedule:  # fmt: skip
    """The same in the form of the paper's equations; `decay_at_z` says where the weights are decayed."""
    return _native(run, lr, 0.0025, _warmup(warmup_steps))


@native("schedulefree", "AdamWScheduleFreePaper")
def adamw_paper(
    run: Run, *, lr=None, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, warmup_steps=0, r=0.0, weight_lr_power=2.0,
    foreach=None,
) -> NativeSchedule:  # fmt: skip
    """The paper's AdamW, which keeps Adam's bias correction in the learning rate."""
    return _native(run, lr, 0.0025, Product((_warmup(warmup_steps), BiasCorrection(betas[1]))))


@native("schedulefree", "RAdamScheduleFree", "RAdamScheduleFreeClosure")
def radam(
    run: Run, *, lr=None, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, r=0.0, weight_lr_power=2.0, foreach=None,
    silent_sgd_phase=True,
) -> NativeSchedule:  # fmt: skip
    """Schedule-Free RAdam: the rectification is its warmup. Its first updates have rate 0 (`silent_sgd_phase`), or 1."""
    return _native(run, lr, 0.0025, Rectification(betas[1], 0.0 if silent_sgd_phase else 1.0))


@native("schedulefree", "ScheduleFreeWrapper", "ScheduleFreeWrapperReference")
def wrapper(run: Run, *, base=None, weight_decay_at_y=0.0, momentum=0.9, weight_lr_power=2.0, r=0.0) -> NativeSchedule:
    """Any optimizer made schedule-free: its own rate, always. A warmup is left to a scheduler of the base optimizer."""
    return _native(run, None, 1.0, Constant(1.0))


def _native(run: Run, lr: float | None, default: float, factor: Schedule) -> NativeSchedule:
    """`factor` of `lr` for every group. Where the run names a rate for each group, those are the groups' own."""
    own = run.get("lr0")
    if not isinstance(own, list | tuple):
        rate = lr if lr is not None else default if own is None else own
        reference = own or rate
        run = Run(run.where, {**run.values, "lr0": reference})
        factor = factor if rate == reference else Scale(factor, rate / reference)
    groups = run.groups()
    return NativeSchedule(groups, (factor,) * len(groups), clock="update")


def _warmup(steps: float) -> Schedule:
    if steps <= 0:
        return Constant(1.0)
    if float(steps).is_integer():
        return Linear(1 / steps, 1.0, steps - 1)
    # the last update of a fractional warmup lies on the line beyond its end
    return Join((Shift(Linear(0.0, 1.0, steps, after="continue"), 1), Constant(1.0)), (0, math.ceil(steps)))


def _check_beta2(beta2: float) -> None:
    require(0 <= beta2 < 1, f"beta2: {beta2} is not from 0 to below 1; try 0.999")
