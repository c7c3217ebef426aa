"""Which runs an ablation has, and which of their steps are the same and so are trained once.

Two runs are one until the first step at which something differs that is applied to the weights. Every run but the first
of its kind begins from the state of another one, put aside after the last step that both have in common (`engine.fork`).
What runs share makes a tree, for if A and B are one until step s, and B and C until t, then so are A and C until the
smaller of the two.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from yolo_cosine.ablation.places import log_file, run_folder, shared_images
from yolo_cosine.ablation.spec import Ablation
from yolo_cosine.config.duration import interval_steps
from yolo_cosine.config.schema import RunConfig, ScheduleConfig
from yolo_cosine.schedules.agree import agree_until
from yolo_cosine.schedules.table import SchedulePlan

Key = tuple[str, int]  # variant and seed

_WORTH = 0.01  # share of a run from which it is worth a fork


@dataclass(frozen=True)
class PlannedRun:
    """A run, and where it begins."""

    variant: str
    seed: int
    folder: Path
    config: RunConfig
    steps: int  # of the whole run
    forks_from: tuple[tuple[Key, int], ...] = ()  # (run, step) from which it may begin, the latest step first
    forks: frozenset[int] = frozenset()  # steps after which others begin from it
    log: Path = Path()  # what its console says goes here

    @property
    def key(self) -> Key:
        return self.variant, self.seed

    @property
    def shared(self) -> int:
        """Steps that it takes over from another run, if all goes as planned."""
        return self.forks_from[0][1] if self.forks_from else 0


@dataclass(frozen=True)
class Plan:
    """All runs of an ablation, in an order in which every one comes after those that it may begin from."""

    runs: tuple[PlannedRun, ...]
    schedules: Mapping[str, SchedulePlan]  # of each variant

    @property
    def steps(self) -> int:
        """Steps of all runs, each by itself."""
        return sum(run.steps for run in self.runs)

    @property
    def steps_to_train(self) -> int:
        """Steps that are trained, those in common once."""
        return sum(run.steps - run.shared for run in self.runs)


def make_plan(
    ablation: Ablation, train_images: Mapping[str, int], end_to_end: Callable[[RunConfig], bool] = lambda config: False
) -> Plan:
    """Find what the runs have in common.

    Args:
        train_images: size of the training split of each variant's data set, by `config.data`.
        end_to_end: whether a configuration's network has a head whose loss depends on how long the run is. Asked only
            where that matters.

    Raises:
        InvalidSchedule: for a schedule that cannot be, naming the variant.
    """
    plans = {
        name: SchedulePlan.of(config, -(-train_images[config.data] // config.batch), name)
        for name, config in ablation.configs.items()
    }
    shares = _shares(list(plans.values()), end_to_end) if ablation.keys.share else {name: [] for name in plans}
    needed: dict[str, set[int]] = {name: set() for name in plans}
    for owners in shares.values():
        for owner, step in owners:
            needed[owner].add(step)
    # the long ones first, that are begun from: others wait for them
    order = sorted(plans, key=lambda name: (len(shares[name]) > 0, -plans[name].schedule.steps))
    runs = [
        PlannedRun(
            name, seed, run_folder(ablation.folder, name, seed),
            _config_of(ablation, name, seed),
            plans[name].schedule.steps,
            tuple(((owner, seed), step) for owner, step in shares[name]),
            frozenset(needed[name]),
            log_file(ablation.folder, name, seed),
        )
        for name in order
        for seed in ablation.seeds
    ]  # fmt: skip
    return Plan(_parents_first(runs), plans)


def _config_of(ablation: Ablation, variant: str, seed: int) -> RunConfig:
    folder = run_folder(ablation.folder, variant, seed)
    labels = {"ablation": ablation.name, "variant": variant}
    own = {"seed": seed, "name": folder.name, "runs": str(folder.parent), "labels": labels}
    config = ablation.configs[variant]
    cache_dir = str(shared_images(ablation.folder, config.cache_dir))
    return config.model_copy(update={**own, "cache_dir": cache_dir})


def _parents_first(runs: Sequence[PlannedRun]) -> tuple[PlannedRun, ...]:
    """The same order, but for runs that would come before one that they begin from."""
    placed: dict[Key, PlannedRun] = {}
    by_key = {run.key: run for run in runs}

    def place(run: PlannedRun) -> None:
        for owner, _ in run.forks_from:
            if owner not in placed:
                place(by_key[owner])
        placed.setdefault(run.key, run)

    for run in runs:
        place(run)
    return tuple(placed.values())


def _shares(plans: Sequence[SchedulePlan], end_to_end: Callable[[RunConfig], bool]) -> dict[str, list[tuple[str, int]]]:
    """For each variant: those that it may begin from and at which step, the latest step first."""
    shares: dict[str, list[tuple[str, int]]] = {}
    done: list[SchedulePlan] = []
    for plan in sorted(plans, key=lambda p: -p.schedule.steps):  # the longest carries the trunk
        common = [(other.name, common_steps(other, plan, end_to_end)) for other in done]
        common = [(name, steps) for name, steps in common if steps > _WORTH * plan.schedule.steps]
        # an owner has trained that step itself, so that its fork holds what it has found
        own = [(name, s) for name, s in common if s > (shares[name][0][1] if shares[name] else 0)]
        owners: dict[int, str] = {}
        for name, step in own:
            owners.setdefault(step, name)
        shares[plan.name] = [(owners[step], step) for step in sorted(owners, reverse=True)]
        done.append(plan)
    return shares


def common_steps(one: SchedulePlan, other: SchedulePlan, end_to_end: Callable[[RunConfig], bool]) -> int:
    """Steps that two runs of one seed have in common, to the last bit; 0 if they begin differently."""
    if _rest(one) != _rest(other):
        return 0
    a, b = one.config, other.config
    if a.epochs != b.epochs and end_to_end(a):
        return 0
    # a run's last step is followed by an evaluation that the longer one need not have
    steps = min(one.schedule.steps - 1, other.schedule.steps - 1) if a.epochs != b.epochs else one.schedule.steps
    free_a, free_b = (max(c.epochs - c.close_mosaic, 0) for c in (a, b))
    if free_a != free_b and a.combines:
        steps = min(steps, min(free_a, free_b) * one.steps_per_epoch)
    return min(steps, agree_until(one, other))


# What makes no difference to a step: it is in the schedule as applied, or looked at by itself, or about files.
_LOOKED_AT = set(ScheduleConfig.model_fields) - {"plateau", "lr_factors"} | {"epochs", "close_mosaic", "eval_every"}
_ABOUT_FILES = {
    "name", "runs", "labels", "seed", "workers", "worker_timeout", "cache", "cache_dir", "tensorboard", "plots",
    "predictions", "trust_weights", "image_resamples",
}  # fmt: skip


def _rest(plan: SchedulePlan) -> str:
    """All else that a step depends on, as text."""
    config = plan.config
    rest = {k: v for k, v in config.model_dump().items() if k not in _LOOKED_AT | _ABOUT_FILES}
    rest["steps_per_epoch"] = plan.steps_per_epoch
    rest["eval_every"] = interval_steps(config.eval_every, plan.steps_per_epoch, plan.schedule.steps)
    # an optimizer is built with it, and Adam keeps it where the schedule does not move it
    rest["nesterov"] = config.momentum > 0
    rest["beta1"] = config.momentum if config.optimizer == "AdamW" and not plan.schedule.beta1 else None
    if config.plateau is not None or config.optimizer == "MuSGD":
        # a rate is multiplied once more, by a plateau's factor or by MuSGD's for the head, and may be rounded otherwise
        rest["lr0"] = config.lr0
    if config.optimizer == "MuSGD" and (config.group_phases or config.preset != "yolo-cosine"):
        # it has groups that the plan does not: they follow the curve where the others have phases of their own, and a
        # peer's schedule may be another one at their rates
        rest["schedule"] = config.model_dump(include=set(ScheduleConfig.model_fields))
    return json.dumps(rest, sort_keys=True, default=str)
