"""What PyTorch's schedulers have in common: the groups, the two ways to act on a rate, and how they are registered."""

from __future__ import annotations

import functools
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from yolo_cosine.schedules.compose import Join, Product, Shift
from yolo_cosine.schedules.curves import Constant, InvalidSchedule, Piecewise, Schedule, Steps, kind, require
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.native import NativeGroup, NativeSchedule, Run, native
from yolo_cosine.schedules.peers.torch_recursion import Chain, Edited, Link, Recursion
from yolo_cosine.schedules.peers.undefined import Undefined


@kind("until")
@dataclass(frozen=True)
class Until:
    """Another schedule up to and with the step `last`; asking for a later one raises InvalidSchedule with `reason`."""

    schedule: Schedule
    last: Steps
    reason: str

    @property
    def steps(self) -> Steps:
        return self.schedule.steps

    def __call__(self, step: float) -> float:
        require(step <= self.last, self.reason)
        return self.schedule(step)


@dataclass(frozen=True)
class Group(Run):
    """A parameter group as a scheduler's constructor finds it."""

    position: int = 0
    count: int = 1
    unit: float = 1.0  # learning rate that the factors are of
    base: float = 1.0  # the group's `initial_lr`, as a factor
    fresh: bool = True  # no scheduler has been constructed on it yet

    def pick(self, name: str, value: Any) -> float:
        """This group's number of an argument that is one number, or a list with one for each group."""
        if isinstance(value, list | tuple):
            require(
                len(value) == self.count,
                f"{name}: {len(value)} values for {self.count} groups; write one number, or one for each group",
            )
            value = value[self.position]
        return number(name, value)

    def share(self, name: str, value: Any) -> float:
        """This group's learning rate of an argument, as a factor."""
        return as_factor(self.pick(name, value), self.unit)


def as_factor(rate: float, unit: float) -> float:
    """`rate / unit` with 15 digits, because people read it: 0.01 / 0.1 is 0.09999999999999999."""
    return float(f"{rate / unit:.15g}")


def number(name: str, value: Any) -> float:
    """A finite number, or InvalidSchedule that names the argument."""
    finite = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    require(finite, f"{name}: {value!r} is no finite number; write one")
    return value


@dataclass(frozen=True)
class Part:
    """What one scheduler does to one group: alone, and where others act on the group too."""

    curve: Schedule  # its values when it is alone
    alone: Recursion  # the same as a movement of the rate
    handed: Recursion  # as the next of a SequentialLR, which sets its clock to 0 and asks for its closed form
    stepped: Recursion  # where its clock goes from -1 to 0 by `step()`, which no constructor does
    momentum: Schedule | None = None
    initial: float | None = None  # what it leaves as the group's `initial_lr`, if anything
    composite: bool = False  # made of other schedulers
    length: float | None = None
    notes: tuple[str, ...] = ()


def moving(
    curve: Schedule,
    group: Group,
    toward: float = 0.0,
    *,
    handed: Recursion | None = None,
    stepped: Recursion | None = None,
    length: float | None = None,
    notes: tuple[str, ...] = (),
) -> Part:
    """A recursive scheduler: it moves the rate that it finds."""
    alone = Link(curve, toward, group.base)
    handed = Link(curve, toward, None) if handed is None else handed
    return Part(curve, alone, handed, alone if stepped is None else stepped, length=length, notes=notes)


def writing(curve: Schedule, **rest: Any) -> Part:
    """A scheduler that writes its own value, whatever the rate is; `rest` are fields of Part."""
    link = Link(curve, None, None)
    return Part(curve, link, link, link, **rest)


def from_base(group: Group, *recursions: Recursion) -> Recursion:
    """Movements one after another that begin at the group's base rate, where that is not 1."""
    if group.base != 1:
        recursions = (Link(Constant(group.base), 0.0, None), *recursions)
    return Chain(recursions) if len(recursions) > 1 else recursions[0]


def failing(curve: Schedule, index: float, reason: str) -> Schedule:
    """A curve up to the index at which PyTorch raises."""
    return Until(curve, index - 1, reason) if index > 0 else Undefined(reason)


def refused(reason: str) -> Recursion:
    """A scheduler that raises as soon as it is asked."""
    return Link(Undefined(reason), None, None)


PARTS: dict[str, Callable[..., Part]] = {}
"""By the name of the scheduler: (group, the scheduler's own arguments) to its part."""


def scheduler(name: str, *extras: str) -> Callable[[Callable[..., Part]], Callable[..., Part]]:
    """Register a scheduler of PyTorch, written for one group. Parameters that are annotated `float` take numbers.

    `extras` are the arguments that all schedulers have, and this one too: `last_epoch` (-1, or the last epoch of a run
    that is resumed: index 0 is the step after it), and `edit`: the rates were changed by hand, `{epoch: 9, factor: 0.5}`
    at the end of epoch 9 and before `step()`.
    """
    default = {"last_epoch": -1, "edit": None}

    def register(make: Callable[..., Part]) -> Callable[..., Part]:
        group, *own = inspect.signature(make).parameters.values()
        numbers = [p.name for p in own if p.annotation == "float"]

        @functools.wraps(make)
        def part(group: Group, **arguments: Any) -> Part:
            for key in numbers:
                if key in arguments:
                    number(key, arguments[key])
            return make(group, **arguments)

        @functools.wraps(make)
        def build(run: Run, last_epoch: int = -1, edit: Any = None, **arguments: Any) -> NativeSchedule:
            return _native(run, part, arguments, last_epoch, edit)

        keyword = inspect.Parameter.KEYWORD_ONLY
        added = [inspect.Parameter(extra, keyword, default=default[extra]) for extra in extras]
        build.__signature__ = inspect.Signature([group.replace(name="run"), *own, *added])
        native("torch", name)(build)
        PARTS[name] = part
        return part

    return register


# Where the run does not say: what most set for SGD, and AdamW's beta1.
_USUAL_MOMENTUM = 0.9


def _native(run: Run, part: Callable[..., Part], arguments: Mapping[str, Any], last_epoch: int, edit: Any) -> Any:
    whole = isinstance(last_epoch, int) and last_epoch >= -1
    require(whole, f"last_epoch: {last_epoch!r} is no epoch; write -1 for a start, or the last epoch that was run")
    groups = _groups(run, arguments)
    parts = [part(group, **arguments) for group in groups]
    if edit is not None:
        parts = [_edited(part, group, *_read_edit(edit)) for part, group in zip(parts, groups, strict=True)]

    for part in parts:
        part.curve(0)  # what raises at step 0 raises in the constructor

    def resumed(curve: Schedule) -> Schedule:
        return curve if last_epoch == -1 else Shift(curve, last_epoch + 1)

    momenta = tuple(resumed(part.momentum) for part in parts if part.momentum is not None)
    if not arguments.get("cycle_momentum", True):  # it was told to leave the optimizer's own momentum alone
        momenta = (Constant(float(run.get("momentum", _USUAL_MOMENTUM))),) * len(parts)
    names = ["all"] if len(groups) == 1 else [f"g{k}" for k in range(len(groups))]
    return NativeSchedule(
        tuple(NativeGroup(name, group.unit) for name, group in zip(names, groups, strict=True)),
        tuple(resumed(part.curve) for part in parts),
        momenta=momenta if len(momenta) == len(parts) else (),
        length=parts[0].length,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


# Arguments that may be a list with one number for each group.
_BY_GROUP = ("lr_lambda", "base_lr", "max_lr", "min_lr", "swa_lr", "base_momentum", "max_momentum")


def _groups(run: Run, arguments: Mapping[str, Any]) -> list[Group]:
    """As many as the run has rates, or, where it has one for all, as the arguments have values."""
    lr0s = run.lr0s()
    if not isinstance(run.get("lr0"), list | tuple):
        lr0s = lr0s * max(1, _listed(arguments))
    return [
        Group(run.where, run.values, k, len(lr0s), lr0 or 1.0, 1.0 if lr0 else 0.0)  # 0 has no multiples
        for k, lr0 in enumerate(lr0s)
    ]


def _listed(arguments: Mapping[str, Any]) -> int:
    counts = [len(arguments[name]) for name in _BY_GROUP if isinstance(arguments.get(name), list | tuple)]
    children = arguments.get("schedulers")
    for child in children if isinstance(children, list | tuple) else ():
        counts.append(_listed(child) if isinstance(child, Mapping) else 0)
    return max(counts, default=0)


_EDIT = re.compile(
    r"(?P<verb>halved|doubled|multiplied by (?P<by>[\d.e+-]+)|divided by (?P<over>[\d.e+-]+))\b.*"
    r"end of epoch (?P<epoch>\d+).*before (scheduler\.)?step",
    re.DOTALL,
)


def _read_edit(edit: Any) -> tuple[int, float]:
    """The step whose value is the first to show it, and the factor."""
    if isinstance(edit, Mapping) and set(edit) == {"epoch", "factor"}:
        return int(number("edit.epoch", edit["epoch"])) + 1, number("edit.factor", edit["factor"])
    match = _EDIT.search(edit) if isinstance(edit, str) else None
    if match is None:
        raise InvalidSchedule(f"edit: {edit!r} is not understood; write {{epoch: 9, factor: 0.5}}")
    if match["by"] or match["over"]:
        factor = float(match["by"] or match["over"])
        return int(match["epoch"]) + 1, factor if match["by"] else 1 / factor
    return int(match["epoch"]) + 1, 0.5 if match["verb"] == "halved" else 2.0


def _edited(part: Part, group: Group, at: int, factor: float) -> Part:
    """A part after a change of the rate by hand: lost where the scheduler writes, kept where it moves."""
    if isinstance(part.alone, Link) and part.alone.toward is None:
        return replace(part, notes=(*part.notes, "the scheduler writes its own value: a change by hand is lost"))
    link, curve = part.alone, part.curve
    kept = "the scheduler moves the rate that it finds: a change by hand stays"
    if isinstance(curve, CosinePeriodic) and isinstance(link, Link) and curve(at - 1) != curve.end:
        k = (factor * curve(at - 1) - curve.end) / (curve(at - 1) - curve.end)
        changed, kept = redirected(curve, curve, at, k), f"{kept} until a cosine has come down"
    elif isinstance(link, Link) and link.toward == 0 and not isinstance(curve, CosinePeriodic):
        changed = Product((curve, Piecewise((1.0, factor), (at,))))
    else:
        changed = Edited(from_base(group, part.alone), at, factor)
    return replace(part, curve=changed, notes=(*part.notes, kept))


def redirected(before: Schedule, cosine: CosinePeriodic, at: int, k: float) -> Schedule:
    """`before` up to the step `at`, then the recursive cosine whose distance to its end is `k` times what it was.

    At its end the distance is 0 whatever `k` is, and the way back up is that of the cosine that nobody touched.
    """
    changed = replace(cosine, start=cosine.end + (cosine.start - cosine.end) * k)
    pieces, starts = [before, Shift(changed, at)], [0, at]
    if float(cosine.steps).is_integer():  # a T_max between two steps is never met
        turn = cosine.steps * (2 * math.ceil((at / cosine.steps - 1) / 2) + 1)
        pieces.append(Shift(cosine, turn))
        starts.append(int(turn))
    return Join(tuple(pieces), tuple(starts))
