"""What an optimizer that was made elsewhere has: its groups, as a schedule wants to know them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from torch import optim

from yolo_cosine.config.load import check_together, load_config
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.run import Group, layer_ranges

# What others call the kinds of groups.
_KINDS = {"weight": "weight", "conv": "weight", "bn": "norm", "norm": "norm", "bias": "bias", "muon": "muon"}


def config_for(schedule: str | os.PathLike | RunConfig, **of_the_run: object) -> RunConfig:
    """A configuration of which only the schedule counts; the rest is said by the run that it is for.

    Args:
        schedule: a YAML file, or what was read from one.
        of_the_run: keys that the run decides, as in `epochs=100`.

    Raises:
        UserError: naming file, key, value, rule and remedy.
    """
    config = schedule if isinstance(schedule, RunConfig) else load_config(schedule)
    config = config.model_copy(update=of_the_run)
    if layer_ranges(config):
        raise InvalidSchedule(
            "lr_factors: names layers, and this optimizer's groups do not tell theirs; give the layers groups with "
            "learning rates of their own, or leave the key out"
        )
    check_together(config, "config" if isinstance(schedule, RunConfig) else str(schedule))
    return config


def groups_of(
    optimizer: optim.Optimizer, config: RunConfig, lr0s: Sequence[float], prefixes: Sequence[str] = ()
) -> tuple[Group, ...]:
    """The optimizer's groups, in its order, with base rates `lr0s` and the factors that `config` has for their kinds.

    A group's kind is read from its `name` or `param_group` (weight, bn, bias, ...); without one it is a weight's.
    `prefixes` come before the names of the groups.
    """
    names: list[str] = []
    groups = []
    for k, (settings, lr0) in enumerate(zip(optimizer.param_groups, lr0s, strict=True)):
        said = str(settings.get("name") or settings.get("param_group") or "weight")
        kind = next((_KINDS[word] for word in re.findall("[a-z]+", said.lower()) if word in _KINDS), "weight")
        name = (prefixes[k] if prefixes else "") + (kind if said in _KINDS else said)
        if name in names:
            name = f"{name}_{k}"  # the schedule tells groups apart by their names
        names.append(name)
        groups.append(Group(name, kind, lr0, config.lr_factors.get(kind, 1.0)))
    return tuple(groups)
