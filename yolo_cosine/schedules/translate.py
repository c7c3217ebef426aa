"""A peer's schedule as the YAML of a run: what `preview --from` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from yolo_cosine.schedules.compose import EpochWise, Scale
from yolo_cosine.schedules.curves import InvalidSchedule, Schedule
from yolo_cosine.schedules.expression import write_phases
from yolo_cosine.schedules.native import NativeSchedule
from yolo_cosine.schedules.presets import argument_names, from_native, schedules_of

# What the run knows and the peer does not have to be told.
_COMMON = (
    "lr0", "lrf", "epochs", "iters_per_epoch", "total_iters", "warmup_iters", "warmup_epochs", "momentum",
    "warmup_momentum", "warmup_bias_lr", "accumulate", "optimizer",
)  # fmt: skip
# Our group for a peer's; the first of the peer's gives the phases of all others.
_OURS = {"weight": "weight", "conv": "weight", "bn": "norm", "norm": "norm", "bias": "bias"}


def translate(name: str, arguments: Mapping[str, Any]) -> str:
    """YAML that trains with a peer's schedule.

    Args:
        name: `peer.schedule`, as in `transformers.cosine`.
        arguments: the peer's own, and what the run knows (`lr0`, `epochs`, `iters_per_epoch`, ...).

    Raises:
        InvalidSchedule: for an unknown peer, schedule or argument, and where the peer raises.
    """
    peer, dot, schedule = name.partition(".")
    if not dot:
        raise InvalidSchedule(f"--from: {name!r} names no schedule; {peer} has {', '.join(schedules_of(peer))}")
    own = argument_names(peer, schedule)
    native = {k: v for k, v in arguments.items() if k in own or k not in _COMMON}
    common = {k: v for k, v in arguments.items() if k in _COMMON}
    found = from_native(peer, schedule, native, common)
    try:
        return _header(name, native, found) + _body(found, common)
    except ArithmeticError as error:
        raise InvalidSchedule(f"{name}: a number is too large to count with ({error}); write a smaller one") from None


def _header(name: str, native: Mapping[str, Any], found: NativeSchedule) -> str:
    arguments = yaml.safe_dump(dict(native), default_flow_style=True, sort_keys=False, width=10_000).strip()
    lines = [f"{name}, at every {found.clock} what the peer's own code applies. By the peer's own names it is"]
    lines += [f"  preset: {name}", f"  preset_args: {arguments}"]
    lines += list(found.notes)
    return "".join(f"# {line}\n" for line in lines)


def _body(found: NativeSchedule, common: Mapping[str, Any]) -> str:
    per_epoch = common.get("iters_per_epoch")
    named = {_OURS[g.name]: k for k, g in enumerate(found.groups) if g.name in _OURS}
    main = named.get("weight", 0)
    lr0 = found.groups[main].lr0
    if lr0 == 0:
        raise InvalidSchedule("--from: the base rate is 0, and the phases are multiples of it; write lr0=... above 0")
    body: dict[str, Any] = {"lr0": lr0}
    comments = []
    if found.clock == "epoch" and not per_epoch:
        comments.append("One it is an epoch of the peer here: add iters_per_epoch=... for steps.")

    def clocked(schedule: Schedule) -> Schedule:
        return EpochWise(schedule, per_epoch) if found.clock == "epoch" and per_epoch else schedule

    def in_ours(k: int) -> Schedule:
        """A group's schedule in multiples of the one lr0 that there is here."""
        ratio = found.groups[k].lr0 / lr0
        return clocked(found.factors[k] if ratio == 1 else Scale(found.factors[k], ratio))

    body["phases"] = write_phases(in_ours(main))
    others = {ours: write_phases(in_ours(k)) for ours, k in named.items() if k != main and in_ours(k) != in_ours(main)}
    if others:
        body["group_phases"] = others
    if not named and any(factor != found.factors[0] for factor in found.factors):
        rates = ", ".join(f"{g.name} (lr0={g.lr0:g})" for g in found.groups)
        comments.append(f"The groups {rates} differ by more than their lr0; these are the phases of the first.")
    if found.momenta:
        body["momentum_phases"] = write_phases(clocked(found.momenta[main if len(found.momenta) > 1 else 0]))
    if found.accumulation is not None:
        steady = found.accumulation(10**9)
        comments.append(
            f"The peer accumulates {steady:g} batches in an update in the end; here nominal_batch / batch says how many."
        )
    text = yaml.safe_dump(body, default_flow_style=None, sort_keys=False, width=120)
    return "".join(f"# {line}\n" for line in comments) + text
