"""The schedule of a run, as a value."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.schedules.curves import Constant, InvalidSchedule, Schedule
from yolo_cosine.schedules.plateau import Plateau


@dataclass(frozen=True)
class Group:
    """A parameter group: what it holds and the learning rate that its multipliers are of."""

    name: str  # weight, norm, bias, muon, with the prefix head_, or with the suffix of some layers
    kind: str  # weight, norm, bias or muon
    lr0: float
    factor: float = 1.0  # of `lr_factors`, on top of the schedule


@dataclass(frozen=True)
class RunSchedule:
    """What is applied at every step `0..steps-1` of a run. A step is one batch.

    An update of the weights closes when `accumulate(step)` batches have come in since the last one; it uses the
    learning rates, momentum and weight decay of the step at which it closes. All of these are pure functions of the
    step but for `plateau`, whose state (the trainer keeps it) gives one more factor to every learning rate.
    """

    steps: int
    lr: Mapping[str, Schedule]  # group name: multiplier of the group's lr0
    momentum: Schedule
    accumulate: Schedule  # whole numbers
    weight_decay: Schedule = Constant(1.0)  # noqa: RUF009 (an immutable value): multiplier of the group's weight decay
    beta1: bool = False  # whether Adam's beta1 follows the momentum; it has no warmup in the YOLO family
    plateau: Plateau | None = None
    notes: tuple[str, ...] = ()  # what a user should be told


def nominal_accumulation(config: RunConfig) -> int:
    """Batches in an update: `nominal_batch / batch`, rounded half to even, at least 1."""
    return max(1, round(config.nominal_batch / config.batch))


@dataclass(frozen=True)
class LayerRange:
    """Layers with a factor of their own, `layers 0-9` in `lr_factors`."""

    first: int
    last: int
    factor: float

    @property
    def suffix(self) -> str:
        """What the names of its groups end with, as in `weight_layers_0-9`."""
        return f"_layers_{self.first}-{self.last}"


_KINDS = ("weight", "norm", "bias", "muon")
_LAYERS = re.compile(r"layers? (\d+)(?:-(\d+))?")


def layer_ranges(config: RunConfig) -> tuple[LayerRange, ...]:
    """The layers that `lr_factors` names, in order.

    Raises:
        InvalidSchedule: for a key that is neither a kind of group nor a range of layers, or ranges that overlap.
    """
    ranges = []
    for key, factor in config.lr_factors.items():
        match = _LAYERS.fullmatch(key)
        if match is None and key not in _KINDS:
            raise InvalidSchedule(
                f"lr_factors.{key}: is neither a group ({', '.join(_KINDS)}) nor layers, as in layers 0-9; write one of them"
            )
        if match is not None:
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first:
                raise InvalidSchedule(f"lr_factors.{key}: the last layer is before the first; exchange them")
            ranges.append(LayerRange(first, last, factor))
    ranges.sort(key=lambda r: r.first)
    for one, other in itertools.pairwise(ranges):
        if other.first <= one.last:
            raise InvalidSchedule(
                f"lr_factors: layers {one.first}-{one.last} and {other.first}-{other.last} overlap; a layer has one factor"
            )
    return tuple(ranges)


def make_group(
    config: RunConfig, kind: str, prefix: str = "", layers: LayerRange | None = None, boost: float = 1
) -> Group:
    """A group of parameters of one kind, in all layers or in a range of them, with its factors."""
    factor = config.lr_factors.get(kind, 1.0) * (layers.factor if layers else 1.0)
    return Group(f"{prefix}{kind}{layers.suffix if layers else ''}", kind, config.lr0 * boost, factor)


def standard_groups(config: RunConfig) -> tuple[Group, ...]:
    """The groups that a network's parameters fall into, where there is no network to look at."""
    places = (None, *layer_ranges(config))
    return tuple(make_group(config, kind, layers=layers) for layers in places for kind in _KINDS[:3])
