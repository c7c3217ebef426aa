"""PyTorch's schedulers that are made of others: SequentialLR and ChainedScheduler."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from yolo_cosine.schedules.compose import Join, Product, Scale
from yolo_cosine.schedules.curves import Constant, InvalidSchedule, Linear, Piecewise, Schedule, require
from yolo_cosine.schedules.cycles import CosinePeriodic
from yolo_cosine.schedules.native import call
from yolo_cosine.schedules.peers.torch_part import PARTS, Group, Part, from_base, redirected, refused, scheduler
from yolo_cosine.schedules.peers.torch_recursion import Chain, Link, Multiplied, Recursion, Relay
from yolo_cosine.schedules.peers.undefined import Undefined


@scheduler("SequentialLR", "last_epoch", "edit")
def sequential_lr(group: Group, *, schedulers: Any, milestones: Any) -> Part:
    """One scheduler after another: number `k` from `milestones[k - 1]` on, where its own count starts at 0.

    `schedulers` are mappings with the `type` and the arguments. At a milestone the next one starts from its own closed
    form, so what the one before has reached does not matter (except to MultiplicativeLR and SWALR, which have none).
    """
    parts, initial = _parts(group, schedulers)
    _check_milestones(milestones, len(parts))
    require(
        not any(isinstance(part.alone, Relay) and part.composite and part.momentum is not None for part in parts),
        "schedulers: a SequentialLR that moves the momentum loses count inside another; write its schedulers into the "
        "one list, or cycle_momentum=False",
    )
    first = bisect_right(milestones, 0)  # the constructor makes step 0 of the scheduler that is in force there
    starts = [0, *(math.ceil(m) for m in milestones[first:])]
    in_force = [k for k in range(len(starts)) if starts[k] not in starts[k + 1 :]]
    kept, starts = [parts[first + k] for k in in_force], [starts[k] for k in in_force]
    met = [float(milestones[first + k - 1]).is_integer() for k in in_force[1:]]
    later = [part.handed if on_time else part.stepped for part, on_time in zip(kept[1:], met, strict=True)]
    reset = Link(Constant(initial), 0.0, None)  # the constructor puts the rate back
    relay = Relay((Chain((reset, _first(kept[0]))), *later), tuple(starts))
    # where a OneCycleLR that came later has changed what the first one starts from, only its movements are right
    moved = initial != group.base and not _writes(parts[first])
    closed = all(met) and not moved and not any(part.composite for part in kept)
    if not closed:
        _require_rate(group)
    notes = _notes(kept, schedulers)
    stepped: Recursion = refused("milestones: one between two steps, in a SequentialLR in another; write whole steps")
    if all(met):  # its clock has gone on by one already
        stepped = Relay((kept[0].stepped, *later), tuple(max(0, start - 1) for start in starts))
    else:
        notes += ("a milestone between two steps is never met: there the next scheduler moves what the last has left",)
    return Part(
        _joined(kept, starts) if closed else relay,
        alone=relay,
        handed=refused(_NOT_IN_SEQUENCE),
        stepped=stepped,
        momentum=_momentum(parts, kept, starts),
        initial=initial if initial != group.base else None,
        composite=True,
        notes=notes,
    )


def _check_milestones(milestones: Any, schedulers: int) -> None:
    steps = isinstance(milestones, list | tuple) and all(isinstance(m, int | float) for m in milestones)
    require(steps, f"milestones: {milestones!r} is no list of steps; write one, as in [5]")
    require(
        len(milestones) == schedulers - 1,
        f"milestones: {len(milestones)} for {schedulers} schedulers; each scheduler but the first has one",
    )
    require(list(milestones) == sorted(milestones), f"milestones: {list(milestones)} are not in order; sort them")


_NOT_IN_SEQUENCE = (
    "schedulers: SequentialLR cannot hand over to a SequentialLR or ChainedScheduler, which have no closed form to start "
    "from; write its schedulers into the one list"
)


def _first(part: Part) -> Recursion:
    """How a part acts whose constructor's step SequentialLR repeats; of those made of others it calls `step`."""
    if part.composite:
        return part.stepped
    return part.handed if _writes(part) else part.alone


def _writes(part: Part) -> bool:
    return isinstance(part.alone, Link) and part.alone.toward is None


def _require_rate(group: Group) -> None:
    require(group.base != 0, "lr0: a group at 0 has nothing that these schedulers together could move; give it a rate")


_SHARED = ("OneCycleLR", "CyclicLR", "SWALR")


def _notes(parts: Sequence[Part], schedulers: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    if sum(written["type"] in _SHARED for written in schedulers) > 1:
        notes += ("in PyTorch these schedulers overwrite each other's values in the group; here each keeps its own",)
    return notes


def _joined(parts: Sequence[Part], starts: Sequence[int]) -> Schedule:
    """Closed forms one after another."""
    pieces = [parts[0].curve]
    for part, start, before in zip(parts[1:], starts[1:], starts, strict=False):
        pieces.append(_entered(part, pieces[-1], start - before))
    return Join(tuple(pieces), tuple(starts)) if len(pieces) > 1 else pieces[0]


def _entered(part: Part, former: Schedule, steps: int) -> Schedule:
    """The values of a scheduler that another one hands over to, after so many steps."""
    if isinstance(part.handed, Chain):
        return part.curve
    if isinstance(part.handed, Link) and part.handed.before is None:
        return part.handed.schedule
    try:
        left = former(steps - 1)
    except InvalidSchedule as error:  # the run does not get here
        return Undefined(str(error))
    if isinstance(part.handed, Relay):  # SWALR: a way to its rate, from wherever
        return replace(part.handed.schedulers[0].schedule, start=left)
    return Scale(part.handed.schedule if isinstance(part.handed, Link) else part.handed, left)


def _momentum(parts: Sequence[Part], kept: Sequence[Part], starts: Sequence[int]) -> Schedule | None:
    """Momentum moves while a scheduler that moves it is in force, and stays between."""
    constructed = [part.momentum for part in parts if part.momentum is not None]
    if not constructed:
        return None
    now: Schedule = Constant(constructed[-1](0))
    pieces: list[Schedule] = []
    for part, start, end in zip(kept, starts, [*starts[1:], math.inf], strict=True):
        pieces.append(now if part.momentum is None else part.momentum)
        if part.momentum is not None and start < end < math.inf:
            try:
                now = Constant(part.momentum(end - start - 1))
            except InvalidSchedule as error:  # the run does not get here
                now = Undefined(str(error))
    return Join(tuple(pieces), tuple(starts)) if len(pieces) > 1 else pieces[0]


@scheduler("ChainedScheduler", "edit")
def chained_scheduler(group: Group, *, schedulers: Any) -> Part:
    """All schedulers at every step, one after another on the same rate.

    Where all of them multiply, that is the product of their curves. A cosine moves towards `eta_min` instead, so
    another scheduler next to it changes what is left of its way, until it turns round.
    """
    parts, initial = _parts(group, schedulers)
    alone = Chain(tuple(part.alone for part in parts))
    curve = parts[0].curve if len(parts) == 1 else _closed(parts)
    if curve is None:
        _require_rate(group)
        curve = from_base(group, alone)
    momenta = [part.momentum for part in parts if part.momentum is not None]
    return Part(
        curve,
        alone=alone,
        handed=refused(_NOT_IN_SEQUENCE),
        stepped=Chain(tuple(part.stepped for part in parts)),
        momentum=momenta[-1] if momenta else None,
        initial=initial if initial != group.base else None,
        composite=True,
        notes=_notes(parts, schedulers),
    )


def _closed(parts: Sequence[Part]) -> Schedule | None:
    """A chain without history, where there is one: a product, or one cosine beside schedulers that come to rest."""
    if any(part.composite for part in parts):
        return None
    cosines = [part for part in parts if isinstance(part.curve, CosinePeriodic) and not _writes(part)]
    others = [part for part in parts if part not in cosines]
    if not all(_multiplies(part) for part in others):
        return None
    product = Product(tuple(part.curve for part in parts))
    if not cosines:
        return product
    rest = max((_rest(part.curve) for part in others), default=0)
    cosine = cosines[0].curve
    if len(cosines) > 1 or not 0 <= rest < cosine.steps or cosine.start == cosine.end:
        return None
    before = product if cosine.end == 0 else Chain(tuple(part.alone for part in parts))
    k = (before(rest) - cosine.end) / (cosine(rest) - cosine.end)
    return redirected(before, cosine, max(1, math.ceil(rest)), k)


def _multiplies(part: Part) -> bool:
    alone = part.alone
    return isinstance(alone, Multiplied) or (
        isinstance(alone, Link) and alone.toward == 0 and not isinstance(part.curve, CosinePeriodic)
    )


def _rest(curve: Schedule) -> float:
    """The step from which a curve is constant; infinity where that is not known."""
    if isinstance(curve, Constant):
        return 0
    if isinstance(curve, Linear):
        return curve.steps
    return curve.boundaries[-1] if isinstance(curve, Piecewise) else math.inf


def _parts(group: Group, schedulers: Any) -> tuple[list[Part], float]:
    """The schedulers as their constructors make them, in order, and the `initial_lr` that they leave."""
    is_list = isinstance(schedulers, Sequence) and not isinstance(schedulers, str)
    require(is_list, f"schedulers: {schedulers!r} is no list; write [{{type: LinearLR, ...}}, ...]")
    require(len(schedulers) > 0, "schedulers: there is none; write at least one")
    parts, base = [], group.base
    for k, written in enumerate(schedulers):
        parts.append(_part(replace(group, base=base, fresh=group.fresh and k == 0), written, k))
        base = base if parts[-1].initial is None else parts[-1].initial
    return parts, base


def _part(group: Group, written: Any, k: int) -> Part:
    where = f"schedulers[{k}]"
    if not isinstance(written, Mapping) or not isinstance(written.get("type"), str):
        raise InvalidSchedule(f"{where}: {written!r} has no type; write {{type: LinearLR, total_iters: 5}}")
    name = written["type"]
    if name == "ReduceLROnPlateau":
        raise InvalidSchedule(
            f"{where}: ReduceLROnPlateau needs a metric and goes with no other scheduler; use it alone"
        )
    if name not in PARTS:
        raise InvalidSchedule(f"{where}: {name!r} is no scheduler; there are {', '.join(sorted(PARTS))}")
    arguments = {key: value for key, value in written.items() if key != "type"}
    return call(PARTS[name], name, arguments, replace(group, where=f"{where}: {name}"))
