"""What a peer's own schedule looks like from here, and how a peer's module offers its schedules.

A peer's module (`peers/`) writes each schedule as one function whose keyword parameters are the peer's own argument
names, with the peer's own defaults, and registers it with `@native(peer, schedule)`. The function gets the run (`Run`:
the arguments that are not the peer's) and returns a `NativeSchedule`, composed of our curves.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from yolo_cosine.schedules.curves import InvalidSchedule, Schedule


@dataclass(frozen=True)
class NativeGroup:
    """A parameter group of a peer: its name and the learning rate that its factors are of."""

    name: str
    lr0: float


@dataclass(frozen=True)
class NativeSchedule:
    """A peer's schedule, equal to the peer's own code at every index.

    `clock` is what the index counts, 0 first: `step` (a batch), `update` (of the weights) or `epoch`. Groups are in the
    peer's order.
    """

    groups: tuple[NativeGroup, ...]
    factors: tuple[Schedule, ...]  # by group: multiplier of the group's lr0
    clock: str = "step"
    momenta: tuple[Schedule, ...] = ()  # by group, or one for all; none where the peer leaves momentum alone
    accumulation: Schedule | None = None  # batches in an update, whole numbers
    weight_decay: Schedule | None = None  # as the peer gives it, not as a factor
    length: float | None = None  # indices of the nominal run, where the arguments tell
    notes: tuple[str, ...] = ()  # what a reader should know: a trap of the peer that these arguments meet

    def lr(self, index: int, group: int | str = 0) -> float:
        """Learning rate in force at `index` for a group, given by position or name.

        Raises:
            InvalidSchedule: where the peer raises, and for an index below 0.
        """
        k = self._position(group)
        return self.groups[k].lr0 * self.factors[k](_index(index))

    def momentum(self, index: int, group: int | str = 0) -> float:
        """Momentum (Adam: beta1) in force at `index` for a group.

        Raises:
            InvalidSchedule: if the peer has none to schedule, and where the peer raises.
        """
        if not self.momenta:
            raise InvalidSchedule("momentum: this schedule leaves momentum alone; set it in the optimizer")
        k = self._position(group) if len(self.momenta) > 1 else 0
        return self.momenta[k](_index(index))

    def accumulate(self, index: int, group: int | str = 0) -> int:
        """Batches that make an update at `index`, the same for all groups; 1 where the peer does not say."""
        return 1 if self.accumulation is None else round(self.accumulation(_index(index)))

    def _position(self, group: int | str) -> int:
        if isinstance(group, int) and 0 <= group < len(self.groups):
            return group
        names = [g.name for g in self.groups]
        if group in names:
            return names.index(group)
        raise InvalidSchedule(f"group: {group!r} is none of {', '.join(names)}")


def _index(index: int) -> int:
    if index < 0:
        raise InvalidSchedule(f"index: {index} is before the run; indices start at 0")
    return index


@dataclass(frozen=True)
class FromRun:
    """Default of a peer's argument that the run knows: taken from `Run` by this name where the argument is missing."""

    name: str


RUN_STEPS = FromRun("total_iters")
RUN_EPOCHS = FromRun("epochs")
STEPS_PER_EPOCH = FromRun("iters_per_epoch")


@dataclass(frozen=True)
class Run:
    """What a run knows besides the peer's own arguments; `values` may hold more, by the same names.

    Names: `lr0` (a number, or one for each group), `lrf`, `epochs`, `iters_per_epoch`, `total_iters`, `warmup_iters`,
    `warmup_epochs`, `momentum`, `warmup_momentum`, `warmup_bias_lr`, `accumulate`, `optimizer`.
    """

    where: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """A value, or `default` where the run does not say (or says None)."""
        value = self.values.get(name)
        if value is None and name == "total_iters":
            epochs, per_epoch = self.values.get("epochs"), self.values.get("iters_per_epoch")
            value = epochs * per_epoch if epochs and per_epoch else None
        return default if value is None else value

    def need(self, name: str) -> Any:
        """A value that must be there.

        Raises:
            InvalidSchedule: naming what is missing.
        """
        value = self.get(name)
        if value is None:
            raise self.error(f"{name} is missing; the schedule depends on it")
        return value

    def lr0s(self) -> tuple[float, ...]:
        """The groups' base rates, in order; (1.0,) where the run names none.

        Raises:
            InvalidSchedule: if one is no rate.
        """
        lr0 = self.get("lr0", 1.0)
        rates = tuple(lr0) if isinstance(lr0, list | tuple) and lr0 else (lr0,)
        for rate in rates:
            if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate < math.inf:
                raise self.error(f"lr0: {rate!r} is no finite number from 0 on; write one")
        return tuple(map(float, rates))

    def groups(self, *names: str) -> tuple[NativeGroup, ...]:
        """Groups with the run's base rates: these names with one rate for all, or `g0`, `g1`, ... as many as rates."""
        lr0s = self.lr0s()
        if names:
            return tuple(
                NativeGroup(name, lr0s[k] if len(lr0s) == len(names) else lr0s[0]) for k, name in enumerate(names)
            )
        if len(lr0s) == 1:
            return (NativeGroup("all", lr0s[0]),)
        return tuple(NativeGroup(f"g{k}", lr0) for k, lr0 in enumerate(lr0s))

    def error(self, message: str) -> InvalidSchedule:
        """An error that starts with where it happened."""
        return InvalidSchedule(f"{self.where}: {message}")


Builder = Callable[..., NativeSchedule]
BUILDERS: dict[str, dict[str, Builder]] = {}
"""By peer and schedule, the functions of the peers' modules that have been imported."""


def native(peer: str, *schedules: str) -> Callable[[Builder], Builder]:
    """Register a function for schedules of a peer. `*` stands for all names that no other function of the peer has."""

    def register(build: Builder) -> Builder:
        for schedule in schedules:
            BUILDERS.setdefault(peer, {})[schedule] = build
        return build

    return register


def parameters_of(build: Builder) -> dict[str, inspect.Parameter]:
    """The peer's own arguments that a function takes, by name."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    return {n: p for n, p in inspect.signature(build).parameters.items() if p.kind is keyword and n != "schedule"}


def call(build: Builder, schedule: str, arguments: Mapping[str, Any], run: Run) -> NativeSchedule:
    """Call a peer's function with the peer's own arguments, checked against its signature.

    A function that has a parameter `schedule` is told the name it was called by.

    Raises:
        InvalidSchedule: for an unknown argument (with the nearest real one) and a missing one.
    """
    parameters = parameters_of(build)
    for name in arguments:
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(parameters) or 'none'}"
            raise run.error(f"{name}: there is no such argument; {hint}")
    given = dict(arguments)
    for name, parameter in parameters.items():
        if name in given:
            continue
        if isinstance(parameter.default, FromRun):
            value = run.get(parameter.default.name)
            if value is None:
                raise run.error(f"{name} is missing; give it, or the run's {parameter.default.name}")
            given[name] = value
        elif parameter.default is parameter.empty:
            raise run.error(f"{name} is missing; write {name}=...")
    if "schedule" in inspect.signature(build).parameters:
        given["schedule"] = schedule
    try:
        return build(run, **given)
    except InvalidSchedule as error:
        raise error if str(error).startswith(run.where) else run.error(str(error)) from None
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        # a list where a number belongs, or one that is too short; a number that is too large
        shown = ", ".join(f"{name}={value!r}"[:80] for name, value in arguments.items())
        raise run.error(f"an argument has the wrong type or size, of {shown} ({error}); mend it") from None
