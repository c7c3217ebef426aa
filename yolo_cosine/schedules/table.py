"""A run's schedule as a table: a row for every step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.schedules.build import build_schedule
from yolo_cosine.schedules.curves import Schedule
from yolo_cosine.schedules.run import Group, RunSchedule, standard_groups


@dataclass(frozen=True)
class SchedulePlan:
    """A configuration's schedule with what is needed to read it."""

    name: str
    config: RunConfig
    groups: tuple[Group, ...]
    schedule: RunSchedule
    steps_per_epoch: int

    @classmethod
    def of(cls, config: RunConfig, steps_per_epoch: int, name: str) -> SchedulePlan:
        """The plan of a run whose epochs have `steps_per_epoch` batches."""
        groups = standard_groups(config)
        return cls(name, config, groups, build_schedule(config, groups, steps_per_epoch), steps_per_epoch)

    def base(self, name: str) -> float:
        """The learning rate that a group's schedule is in multiples of."""
        return next(g.lr0 for g in self.groups if g.name == name)

    def distinct(self) -> list[tuple[tuple[str, ...], Schedule]]:
        """Every learning-rate schedule once, with the names of the groups that have it."""
        found: dict[tuple[Schedule, float], list[str]] = {}
        for group in self.groups:
            found.setdefault((self.schedule.lr[group.name], group.lr0), []).append(group.name)
        return [(tuple(names), schedule) for (schedule, _), names in found.items()]

    def lines(self) -> dict[str, list[float]]:
        """Learning rate of every distinct schedule at every step, by the names of its groups."""
        return {
            ", ".join(names): [self.base(names[0]) * schedule(k) for k in range(self.schedule.steps)]
            for names, schedule in self.distinct()
        }


def csv_header(plan: SchedulePlan) -> list[str]:
    """`step,epoch,lr/weight,lr/norm,lr/bias,momentum,accumulate`; groups of some layers follow at the end."""
    first, more = plan.groups[:3], plan.groups[3:]
    return [
        "step",
        "epoch",
        *(f"lr/{g.name}" for g in first),
        "momentum",
        "accumulate",
        *(f"lr/{g.name}" for g in more),
    ]


def csv_rows(plan: SchedulePlan) -> Iterator[str]:
    """A line for every step: learning rates as applied, in full float64."""
    schedule, groups = plan.schedule, [(plan.schedule.lr[g.name], g.lr0) for g in plan.groups]
    for step in range(schedule.steps):
        rates = [repr(lr0 * lr(step)) for lr, lr0 in groups]
        others = [repr(float(schedule.momentum(step))), str(schedule.accumulate(step))]
        yield ",".join([str(step), str(step // plan.steps_per_epoch), *rates[:3], *others, *rates[3:]])
