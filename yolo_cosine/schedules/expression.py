"""Schedules as plain data: the composed form of the YAML, read and written.

A list of phases, one after another, is a schedule over a whole run:

    phases:
      - {curve: linear, start: 0, end: 1, for: 3ep}
      - {curve: cosine, end: 0.01, for: rest}

`curve` is a kind (`curves.py`, `cycles.py`, `compose.py`), the other keys are its arguments; `for` is the length of the
phase: `3ep`, `500it`, `5%` of the run, or, once, `rest`. `start` (or `value`) is by default where the phase before ended.
A phase's `end` is reached at the first step of the next phase, and by the last phase at the last step of the run.

A curve may have a `period` of its own: one that is longer than its phase is cut off on the way, and one that is shorter
must say what follows, `then: hold`, `rise` (a cosine comes back the way it went), `continue` or `restart`.

Combinators take schedules in the same notation, as in
`{curve: clip, low: 0.1, schedule: {curve: exponential, gamma: 0.9, every: 1ep}, for: rest}`, or a list of phases of
their own, `{curve: repeat, times: 3, schedule: {phases: [...]}, for: rest}`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import itertools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from yolo_cosine.config.duration import parse_duration, shown_number
from yolo_cosine.schedules import cycles
from yolo_cosine.schedules.compose import Join, Repeat, join
from yolo_cosine.schedules.curves import KINDS, Cosine, InvalidSchedule, Schedule, Steps
from yolo_cosine.schedules.presets import import_all

# What may follow a period that is over, where the curve has no `after` of its own.
_THEN = {"cosine": ("hold", "rise", "restart"), "cosine-periodic": ()}
# Combinators whose parts last as long as they do.
_SAME_LENGTH = {"scale", "clip", "noise", "product", "ramp-into", "rounded"}


@dataclass(frozen=True)
class Clock:
    """What turns durations into steps."""

    steps_per_epoch: int
    steps: int  # of the run


def read_phases(phases: Any, clock: Clock, where: str, start: float = 1.0) -> Schedule:
    """The schedule of a list of phases, which together last `clock.steps`.

    Args:
        phases: the list, as YAML gives it.
        clock: the run.
        where: the list's name in messages, as in `phases`.
        start: where the first phase starts if it does not say.

    Raises:
        InvalidSchedule: naming the phase, the key, its value, the rule and the remedy.
    """
    return _read_list(phases, clock, where, start, clock.steps)


def write_phases(schedule: Schedule) -> list[dict[str, Any]]:
    """The list of phases that `read_phases` turns into `schedule` again, for a run that is long enough."""
    return _write_list(schedule, top=True)


def _read_list(phases: Any, clock: Clock, where: str, start: float, total: Steps | None) -> Schedule:
    if not isinstance(phases, Sequence) or isinstance(phases, str) or not phases:
        raise InvalidSchedule(
            f"{where}: {phases!r} is no list of phases; write at least one, as - {{curve: cosine, ...}}"
        )
    names = [f"{where}.{k}" for k in range(len(phases))]
    for name, phase in zip(names, phases, strict=True):
        if not isinstance(phase, Mapping):
            raise InvalidSchedule(f"{name}: {phase!r} is no phase; write {{curve: ..., for: ...}}")
    bounds = _bounds([phase.get("for") for phase in phases], clock, names, where, total)
    pieces: list[Schedule] = []
    for k, (name, phase) in enumerate(zip(names, phases, strict=True)):
        length, last = bounds[k + 1] - bounds[k], total is not None and k == len(phases) - 1
        # at its own last step a run's last phase is to be at its end, every other one a step later
        span = max(length - 1, 0) if last else length
        piece = _read_one({n: v for n, v in phase.items() if n != "for"}, clock, name, span, start, length)
        pieces.append(piece)
        with contextlib.suppress(InvalidSchedule):  # a peer's schedule may have no value there
            start = piece(length)
    return Join(tuple(pieces), tuple(bounds[:-1])) if len(pieces) > 1 else pieces[0]


def _bounds(lengths: list[Any], clock: Clock, names: list[str], where: str, total: Steps | None) -> list[int]:
    """Steps at which the phases start, and the end of the last. Boundaries are rounded, not lengths, so that shares
    which add up to the whole do so in steps too."""
    rest = [k for k, text in enumerate(lengths) if text == "rest"]
    for k, text in enumerate(lengths):
        if text is None:
            raise InvalidSchedule(f"{names[k]}.for: missing; write the phase's length (3ep, 500it, 5%, or rest)")
    if len(rest) > 1:
        raise InvalidSchedule(
            f"{names[rest[1]]}.for: rest stands for what the others leave, and {names[rest[0]]} takes it already; give "
            "one of them a length"
        )
    if rest and total is None:
        raise InvalidSchedule(f"{names[rest[0]]}.for: rest has no meaning inside a part; give it a length")
    exact = [
        0.0 if text == "rest" else _duration(text, clock, f"{n}.for") for n, text in zip(names, lengths, strict=True)
    ]
    for k, length in enumerate(exact):
        if length <= 0 and k not in rest:
            raise InvalidSchedule(f"{names[k]}.for: {lengths[k]} is no time at all; leave the phase out")
    whole = math.fsum(exact)
    if total is not None:
        spelled = f"{whole:g} steps ({whole / clock.steps_per_epoch:g} epochs)"
        run = f"the run's {total:g} ({total / clock.steps_per_epoch:g} epochs)"
        if rest and whole >= total:
            raise InvalidSchedule(
                f"{names[rest[0]]}.for: rest is nothing: the other phases take {spelled} of {run}; shorten one of them, "
                "or train longer"
            )
        if not rest and abs(whole - total) > 0.5 + 1e-9 * total:
            relation = "more than" if whole > total else "less than"
            raise InvalidSchedule(
                f"{where}: the phases take {spelled}, {relation} {run}; change a length, or write for: rest in one phase"
            )
        if rest:
            exact[rest[0]] = total - whole
    bounds = [0]
    reached = 0.0
    for length in exact:
        reached += length
        bounds.append(round(reached))
    if total is not None:
        bounds[-1] = round(total)
    for k, name in enumerate(names):
        if bounds[k + 1] == bounds[k]:
            raise InvalidSchedule(f"{name}.for: {lengths[k]} is less than a step of this run; write at least 1it")
    return bounds


def _duration(text: Any, clock: Clock, where: str, whole: bool = True) -> float:
    if isinstance(text, int | float) and not isinstance(text, bool):
        shown = shown_number(text)
        raise InvalidSchedule(f"{where}: {shown} has no unit; write {shown}ep for epochs or {shown}it for steps")
    if not isinstance(text, str):
        raise InvalidSchedule(f"{where}: {text!r} is not a duration; write 3ep, 500it or 5%")
    # a boundary may be anywhere, a length is neither negative nor a part of a step
    sign = -1 if not whole and text.startswith("-") else 1
    try:
        return sign * parse_duration(text.removeprefix("-") if sign < 0 else text, whole).exact(
            clock.steps_per_epoch, clock.steps
        )
    except ValueError as error:
        raise InvalidSchedule(f"{where}: {text!r} {error}") from None


def _read_one(
    data: Any, clock: Clock, where: str, span: Steps | None, start: float | None, length: Steps | None
) -> Schedule:
    """One curve or combinator. `span` is how long it takes to its end, `length` how long it is in force, where known."""
    if not isinstance(data, Mapping):
        raise InvalidSchedule(f"{where}: {data!r} is no schedule; write {{curve: ...}} or {{phases: [...]}}")
    arguments = dict(data)
    if "phases" in arguments:
        phases = arguments.pop("phases")
        if arguments:
            raise InvalidSchedule(f"{where}.{next(iter(arguments))}: does not go with phases; put it into one of them")
        return _read_list(phases, clock, f"{where}.phases", 1.0 if start is None else start, None)
    name = arguments.pop("curve", None)
    if name is None:
        raise InvalidSchedule(f"{where}.curve: missing; name one of {', '.join(_public_kinds())}")
    cls = _kind(name, f"{where}.curve")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    has_end = _has_end(cls)
    then, period = arguments.pop("then", None), arguments.pop("period", None)
    choices = _choices(name, hints) if has_end else ()
    _check_then(name, then, choices, f"{where}.then")
    if period is not None and not has_end:
        raise InvalidSchedule(f"{where}.period: {period}: {name} has no end to reach, so no period; leave it out")
    allowed = [n for n in fields if n not in {"after", "steps"}] + (["period", "then"] if has_end else [])
    for key in arguments:
        if key not in allowed:
            near = difflib.get_close_matches(str(key), allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(allowed)}"
            raise InvalidSchedule(f"{where}.{key}: {name} has no such argument; {hint}")

    inner = (span, start, length) if name in _SAME_LENGTH else (None, start, None)
    values: dict[str, Any] = {}
    for field_name, field in fields.items():
        if field_name in arguments:
            place = f"{where}.{field_name}"
            values[field_name] = _convert(arguments[field_name], hints[field_name], clock, place, inner)
        elif field_name in {"start", "value"} and field.default is dataclasses.MISSING and start is not None:
            values[field_name] = start
        elif field_name == "steps":
            values[field_name] = 0 if length is None else length
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InvalidSchedule(f"{where}.{field_name}: missing; {name} needs it")
    if has_end:
        values["steps"] = _period(period, then, choices, clock, where, span, length)
    try:
        piece = cls(**values)
        if has_end and then == "rise":
            return cycles.CosinePeriodic(piece.start, piece.end, piece.steps)
        if has_end and then == "continue":
            return dataclasses.replace(piece, after="continue")
        return Repeat(piece) if has_end and then == "restart" else piece
    except InvalidSchedule as error:
        raise InvalidSchedule(f"{where}.{error}") from None


def _period(
    period: Any,
    then: str | None,
    choices: Sequence[str],
    clock: Clock,
    where: str,
    span: Steps | None,
    length: Steps | None,
) -> Steps:
    if period is None:
        if span is None:
            raise InvalidSchedule(
                f"{where}.period: missing; say how long the curve takes to its end, as in period: 10ep"
            )
        return span
    steps = _duration(period, clock, f"{where}.period", whole=False)
    if steps <= 0:
        raise InvalidSchedule(f"{where}.period: {period} is no time at all; write at least 1it")
    if length is not None and steps < span and then is None and choices:
        raise InvalidSchedule(
            f"{where}.period: {period} ({steps:g} steps) is shorter than its phase ({length:g} steps); say what follows: "
            f"then: {' or '.join([', '.join(choices[:-1]), choices[-1]])}"
        )
    return steps


def _choices(name: str, hints: Mapping[str, Any]) -> tuple[str, ...]:
    if name in _THEN:
        return _THEN[name]
    return ("hold", *(c for c in typing.get_args(hints.get("after")) if c != "hold"), "restart")


def _check_then(name: str, then: Any, choices: Sequence[str], where: str) -> None:
    if then is None or then in choices:
        return
    rule = f"{name} has {', '.join(choices)}" if choices else f"nothing follows after {name}, which has no end"
    raise InvalidSchedule(f"{where}: {then!r}: {rule}")


def _kind(name: Any, where: str) -> type:
    if isinstance(name, str) and name not in KINDS:
        import_all()  # some kinds belong to one peer only
    if not isinstance(name, str) or name not in KINDS:
        near = difflib.get_close_matches(str(name), KINDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_public_kinds())}"
        raise InvalidSchedule(f"{where}: {name!r} is no curve; {hint}")
    return KINDS[name]


def _public_kinds() -> list[str]:
    return sorted(n for n, cls in KINDS.items() if ".peers." not in cls.__module__)


def _convert(value: Any, hint: Any, clock: Clock, where: str, inner: tuple) -> Any:
    """A YAML value as the type that a field asks for."""
    options = _options(hint)
    if value is None and type(None) in options:
        return None
    problems = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _convert_to(value, option, clock, where, inner)
        except InvalidSchedule as error:
            problems.append(error)
    raise problems[-1] if isinstance(value, list) else problems[0]


def _options(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _convert_to(value: Any, hint: Any, clock: Clock, where: str, inner: tuple) -> Any:
    if hint is Steps:
        return _whole_if_it_is(_duration(value, clock, where, whole=False))
    if hint is Schedule:
        span, start, length = inner
        return _read_one(value, clock, where, span, start, length)
    origin = typing.get_origin(hint)
    if origin is Literal:
        if value in typing.get_args(hint):
            return value
        raise InvalidSchedule(f"{where}: {value!r} is none of {', '.join(map(str, typing.get_args(hint)))}")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InvalidSchedule(f"{where}: {value!r} is no list; write [..., ...]")
        item = typing.get_args(hint)[0]
        return tuple(_convert(v, item, clock, f"{where}.{k}", inner) for k, v in enumerate(value))
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf:
        with contextlib.suppress(OverflowError):  # a whole number that is larger than any float
            return float(value)
    if hint is str and isinstance(value, str):
        return value
    named = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a word"}
    raise InvalidSchedule(f"{where}: {value!r} is not {named.get(hint, hint)}")


def _whole_if_it_is(value: float) -> float:
    return int(value) if float(value).is_integer() else value


def _write_list(schedule: Schedule, top: bool) -> list[dict[str, Any]]:
    pieces, starts = (schedule.pieces, schedule.starts) if isinstance(schedule, Join) else ((schedule,), (0,))
    lengths = [b - a for a, b in itertools.pairwise(starts)]
    if starts[0] != 0 or any(not float(n).is_integer() or n < 1 for n in lengths):
        return [{**_write(schedule, None), "for": "rest"}]  # boundaries between two steps
    phases = [{**_write(p, n), "for": _steps(n)} for p, n in zip(pieces, lengths, strict=False)]
    if top:
        return [*phases, {**_write(pieces[-1], None), "for": "rest"}]
    return [*phases, {**_write(pieces[-1], pieces[-1].steps), "for": _steps(pieces[-1].steps)}]


def _write(schedule: Schedule, length: Steps | None) -> dict[str, Any]:
    """A curve or combinator as plain data; a period that equals `length` need not be said."""
    if isinstance(schedule, Repeat) and not schedule.times and _has_end(type(schedule.schedule)):
        return {**_write(schedule.schedule, None), "then": "restart"}
    if isinstance(schedule, cycles.CosinePeriodic):
        return {**_write(Cosine(schedule.start, schedule.end, schedule.steps), None), "then": "rise"}
    hints = typing.get_type_hints(type(schedule))
    data: dict[str, Any] = {"curve": schedule.kind}
    has_end = _has_end(type(schedule))
    for field in dataclasses.fields(schedule):
        value = getattr(schedule, field.name)
        if field.name in {"after", "steps"} or (field.default is not dataclasses.MISSING and value == field.default):
            continue
        data[field.name] = _plain(value, hints[field.name])
    if isinstance(schedule, Repeat) and _lacks_length(schedule.schedule):
        data["schedule"] = {"phases": _write_list(schedule.schedule, top=False)}
    after = getattr(schedule, "after", "hold")
    if has_end and schedule.steps != length:
        data["period"] = _steps(schedule.steps)
    if has_end and (schedule.steps != length or after != "hold"):
        data["then"] = after
    return data


def _plain(value: Any, hint: Any) -> Any:
    options = _options(hint)
    if isinstance(value, tuple):
        items = [typing.get_args(o)[0] for o in options if typing.get_origin(o) is tuple]
        return [_plain(v, items[0]) for v in value]
    if Steps in options and value is not None:
        return _steps(value)
    if Schedule in options and value is not None:
        return {"phases": _write_list(value, top=False)} if _is_plain_join(value) else _write(value, None)
    return value


def _has_end(cls: type) -> bool:
    """Whether a kind goes from a start to an end, and so has a period."""
    steps = {f.name: f.default for f in dataclasses.fields(cls) if f.name in {"start", "end", "steps"}}
    return len(steps) == 3 and steps["steps"] is dataclasses.MISSING


def _lacks_length(schedule: Schedule) -> bool:
    """Whether its arguments do not say how long it is: an endless curve, or a combinator of one."""
    fields = dataclasses.fields(schedule)
    if schedule.kind not in _SAME_LENGTH:
        return any(f.name == "steps" and f.default is not dataclasses.MISSING for f in fields)
    values = (getattr(schedule, f.name) for f in fields)
    parts = itertools.chain.from_iterable(v if isinstance(v, tuple) else (v,) for v in values)
    return any(_lacks_length(part) for part in parts if callable(part))


def _is_plain_join(schedule: Schedule) -> bool:
    """Whether phases can say it: every piece, the last one too, has a length of whole steps."""
    if not isinstance(schedule, Join) or schedule != join(*schedule.pieces):
        return False
    return all(float(piece.steps).is_integer() and piece.steps >= 1 for piece in schedule.pieces)


def _steps(value: float) -> str:
    return f"{Decimal(repr(_whole_if_it_is(value))):f}it"  # durations have no exponent
