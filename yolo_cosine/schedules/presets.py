"""Other people's schedules by their own names and arguments: `from_native`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from yolo_cosine.schedules.curves import InvalidSchedule
from yolo_cosine.schedules.native import BUILDERS, NativeSchedule, Run, call, parameters_of

# Peer: the module of `peers/` that knows it.
_MODULES = {
    "torch": "torch_",
    "lightning": "lightning_",
    "transformers": "transformers_",
    "timm": "timm_",
    "mmengine": "mmengine_",
    "fvcore": "fvcore_",
    "detectron2": "fvcore_",
    "optax": "optax_",
    "keras": "keras_",
    "ultralytics": "ultralytics_",
    "yolov5": "yolov5",
    "yolov4": "yolov4",
    "darknet": "darknet",
    "yolox": "yolox",
    "libreyolo": "libreyolo",
    "rtmdet": "mmengine_",
    "mtl_yolo": "mtl_yolo",
    "torchtitan": "torchtitan_",
    "nanochat": "nanochat",
    "schedulefree": "schedulefree_",
    "pytorch_optimizer": "pytorch_optimizer_",
}
_ALIASES = {"pytorch": "torch", "mmdetection": "mmengine", "huggingface": "transformers", "hf": "transformers"}


def peers() -> tuple[str, ...]:
    """The peers whose schedules are known, by name."""
    return tuple(sorted(_MODULES))


def schedules_of(peer: str) -> tuple[str, ...]:
    """The names of a peer's schedules.

    Raises:
        InvalidSchedule: for an unknown peer, with the nearest known one.
    """
    return tuple(name for name in _builders(peer) if name != "*")


def from_native(
    peer: str, schedule: str, native: Mapping[str, Any], common: Mapping[str, Any] | None = None
) -> NativeSchedule:
    """A peer's schedule from the peer's own arguments.

    Args:
        peer: `torch`, `transformers`, `timm`, ... (`peers()` lists them).
        schedule: the peer's own name, as in `CosineAnnealingLR` or `cosine_with_restarts`.
        native: the peer's own argument names and values. Arguments that have a default in the peer may be left out.
        common: what the run knows: `lr0` (a number, or a list for several groups), `epochs`, `iters_per_epoch`,
            `total_iters`, `momentum`, ...; see `Run`.

    Returns:
        An object with `lr(index, group)`, `momentum(index, group)` and `accumulate(index)`.

    Raises:
        InvalidSchedule: for an unknown peer, schedule or argument, and where the peer raises.
    """
    builders = _builders(peer)
    build = builders.get(schedule) or builders.get("*")
    if build is None:
        raise InvalidSchedule(f"{peer}: {schedule!r} is no schedule of it{_nearest(schedule, schedules_of(peer))}")
    return call(build, schedule, native, Run(f"{peer}.{schedule}", dict(common or {})))


def _builders(peer: str) -> dict:
    peer = _ALIASES.get(peer, peer)
    if peer not in _MODULES:
        raise InvalidSchedule(f"peer: {peer!r} is not known{_nearest(peer, [*_MODULES, *_ALIASES])}")
    import_module(f"yolo_cosine.schedules.peers.{_MODULES[peer]}")
    return BUILDERS[peer]


def _nearest(name: str, names) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(names))}"


def import_all() -> None:
    """Import every peer's module, so that the kinds of schedule that only one peer has can be named."""
    for name in sorted(set(_MODULES.values())):
        import_module(f"yolo_cosine.schedules.peers.{name}")


def argument_names(peer: str, schedule: str) -> tuple[str, ...]:
    """The names of the arguments that a peer's schedule has."""
    builders = _builders(peer)
    build = builders.get(schedule) or builders.get("*")
    return () if build is None else tuple(parameters_of(build))
