"""timm 1.0.31: the scheduler factory (`timm/scheduler/scheduler_factory.py`) over its classes (`timm_schedulers.py`).

The factory's defaults differ from the classes': `cycle_decay` is 0.1 and not 1, `warmup_lr` 1e-5 and not 0, and
`warmup_prefix` is False for step and multistep too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from yolo_cosine.schedules.curves import require
from yolo_cosine.schedules.native import NativeSchedule, Run, native
from yolo_cosine.schedules.peers.timm_build import check_choice
from yolo_cosine.schedules.peers.timm_schedulers import cosine, cycle_length, multistep, plateau, poly, step, tanh, wsd

_NAMES = ("cosine", "tanh", "step", "constant", "multistep", "plateau", "poly", "wsd", "rsqrt", "none")


@native("timm", "create_scheduler_v2")
def create_scheduler_v2(
    run: Run, *, sched="cosine", num_epochs=None, decay_epochs=None, decay_milestones=(90, 180, 270), cooldown_epochs=0,
    patience_epochs=10, decay_rate=0.1, min_lr=0.0, warmup_lr=1e-5, warmup_epochs=0, warmup_prefix=False, noise=None,
    noise_pct=0.67, noise_std=1.0, noise_seed=42, cycle_mul=1.0, cycle_decay=0.1, cycle_limit=1, k_decay=1.0,
    decay_fn=None, stable_timescale=None, plateau_mode="max", step_on_epochs=True, updates_per_epoch=None,
    metrics=None, lr_scale=None, call=None, returned_num_epochs=None,
) -> NativeSchedule:  # fmt: skip
    """A scheduler by name, with all lengths in epochs; the index is the epoch, or with `step_on_epochs=False` the update.

    `num_epochs` and `updates_per_epoch` are by default the run's (timm: 300 and none). `metrics` are what a plateau
    will be told, an epoch each. A recorded call may carry its own name (`call`) and the number of epochs that it
    returned, which is checked.
    """
    check_choice("sched", sched, _NAMES)
    num_epochs = run.get("epochs", 300) if num_epochs is None else num_epochs
    fixed = sched in ("wsd", "rsqrt")
    if decay_epochs is None:
        decay_epochs = 0.2 if fixed else 90
    updates = 1
    if not step_on_epochs:
        updates = run.get("iters_per_epoch", 0) if updates_per_epoch is None else updates_per_epoch
        require(updates > 0, f"updates_per_epoch: {updates} is not above 0, and step_on_epochs=False counts updates")
    t_initial, warmup_t, decay_t = num_epochs * updates, warmup_epochs * updates, decay_epochs * updates
    cycles = {"cycle_mul": cycle_mul, "cycle_decay": cycle_decay, "cycle_limit": cycle_limit, "lr_min": min_lr}
    warmup = {"warmup_t": warmup_t, "warmup_lr_init": warmup_lr, "warmup_prefix": warmup_prefix}
    common = {
        "noise_range_t": _noise_range(noise, t_initial), "noise_pct": noise_pct, "noise_std": noise_std,
        "noise_seed": noise_seed, "lr_scale": lr_scale,
    }  # fmt: skip
    clock = {"t_in_epochs": step_on_epochs}

    length = num_epochs * updates + (warmup_t if warmup_prefix else 0)
    if sched in ("cosine", "tanh", "poly"):
        arguments = {"t_initial": t_initial} | cycles | warmup | common | clock
        if sched == "cosine":
            native_schedule = cosine(run, k_decay=k_decay, **arguments)
        elif sched == "tanh":
            native_schedule = tanh(run, **arguments)
        else:
            native_schedule = poly(run, power=decay_rate, k_decay=k_decay, **arguments)
        length = cycle_length(t_initial, cycle_mul, cycle_limit, warmup_t, warmup_prefix) + cooldown_epochs * updates
    elif sched == "step":
        native_schedule = step(run, decay_t=decay_t, decay_rate=decay_rate, **warmup, **common, **clock)
    elif sched == "multistep":
        milestones = [m * updates for m in decay_milestones]
        native_schedule = multistep(run, decay_t=milestones, decay_rate=decay_rate, **warmup, **common, **clock)
    elif sched == "plateau":
        require(step_on_epochs, "step_on_epochs: a plateau is looked for once an epoch; write step_on_epochs=True")
        warmup.pop("warmup_prefix")
        native_schedule = plateau(
            run, decay_rate=decay_rate, patience_t=patience_epochs, lr_min=min_lr, mode=plateau_mode, metrics=metrics,
            **warmup, **common,
        )  # fmt: skip
    elif fixed:
        t_initial = t_initial if warmup_prefix else t_initial - warmup_t
        decay_t = round(decay_epochs * t_initial if 0 < decay_epochs < 1 else decay_t)
        require(
            0 < decay_t <= t_initial,
            f"decay_epochs: a decay of {decay_t} is not above 0 and at most the stable phase and the decay together, "
            f"{t_initial}; write a share of them below 1, as in 0.2, or train longer",
        )
        warmup.pop("warmup_prefix")
        native_schedule = wsd(
            run, t_initial=t_initial, decay_t=decay_t, lr_min=min_lr, **warmup, **common, **clock,
            stable_fn="rsqrt" if sched == "rsqrt" else "constant",
            stable_timescale=None if stable_timescale is None else stable_timescale * updates,
            decay_fn=decay_fn or ("linear" if sched == "rsqrt" else "1-sqrt"),
        )  # fmt: skip
        length = native_schedule.length + cooldown_epochs * updates
    else:
        # `none` is no scheduler at all, so without a warmup or an lr_scale; `constant` has both
        arguments = {"lr_scale": 1.0} if sched == "none" else warmup | common
        native_schedule = step(run, decay_t=1, decay_rate=1.0, **arguments, **clock)
    epochs = length // updates if updates > 1 else length
    require(
        returned_num_epochs in (None, epochs),
        f"returned_num_epochs: {returned_num_epochs} is not what these arguments give, {epochs}; correct one of them",
    )
    return replace(native_schedule, length=length)


@native("timm", "create_scheduler")
def create_scheduler(
    run: Run, *, sched, epochs=None, decay_epochs=30, decay_milestones=(30, 60), warmup_epochs=5, cooldown_epochs=0,
    patience_epochs=10, decay_rate=0.1, min_lr=0.0, warmup_lr=1e-5, warmup_prefix=False, lr_noise=None,
    lr_noise_pct=0.67, lr_noise_std=1.0, seed=42, lr_cycle_mul=1.0, lr_cycle_decay=0.1, lr_cycle_limit=1,
    lr_k_decay=1.0, lr_decay_fn=None, lr_stable_timescale=None, eval_metric="top1", sched_on_updates=False,
    updates_per_epoch=None, metrics=None, lr_scale=None,
) -> NativeSchedule:  # fmt: skip
    """The factory with the argument names of timm's training script; `epochs` is by default the run's (timm: 100).

    A plateau waits for less of an `eval_metric` that is called a loss, and for more of any other.
    """
    return create_scheduler_v2(
        run, sched=sched, num_epochs=run.get("epochs", 100) if epochs is None else epochs, decay_epochs=decay_epochs,
        decay_milestones=decay_milestones, cooldown_epochs=cooldown_epochs, patience_epochs=patience_epochs,
        decay_rate=decay_rate, min_lr=min_lr, warmup_lr=warmup_lr, warmup_epochs=warmup_epochs,
        warmup_prefix=warmup_prefix, noise=lr_noise, noise_pct=lr_noise_pct, noise_std=lr_noise_std, noise_seed=seed,
        cycle_mul=lr_cycle_mul, cycle_decay=lr_cycle_decay, cycle_limit=lr_cycle_limit, k_decay=lr_k_decay,
        decay_fn=lr_decay_fn, stable_timescale=lr_stable_timescale,
        plateau_mode="min" if "loss" in eval_metric else "max", step_on_epochs=not sched_on_updates,
        updates_per_epoch=updates_per_epoch, metrics=metrics, lr_scale=lr_scale,
    )  # fmt: skip


def _noise_range(noise, t_initial):
    """Shares of the schedule's length as times; one share has no end."""
    if noise is None:
        return None
    if not isinstance(noise, Sequence):
        return noise * t_initial
    times = [share * t_initial for share in noise]
    return times[0] if len(times) == 1 else times
