"""What an ablation compares: a base configuration, variants of it, seeds, a metric and a baseline."""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field

from yolo_cosine import events
from yolo_cosine.config.explain import validate
from yolo_cosine.config.load import (
    check_together,
    layered,
    merge,
    nested_keys,
    parse_overrides,
    read_layers,
    with_absolute_paths,
)
from yolo_cosine.config.schema import KeyGroup, RunConfig
from yolo_cosine.config.yaml_text import read_yaml
from yolo_cosine.errors import UserError, some_of

METRICS = {name.partition("/")[2]: name for name in events.COCO_METRICS}
# What the runs of an ablation have by default: the report has the plots, and tells the interval over the images.
_DEFAULTS = {"plots": False, "image_resamples": 1000}
# What an ablation sets for its runs by itself.
_OWN = {
    "seed": "write it in seeds", "name": "a run's folder is <variant>/seed<k>", "runs": "write it for the ablation",
    "labels": "an ablation labels its runs", "extensions": "a run of an ablation is made in one piece",
}  # fmt: skip


class AblationKeys(KeyGroup):
    """All keys of an ablation's file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=120)] | None = Field(
        None, description="Folder of the ablation below `runs`; by default the file's name."
    )
    runs: Annotated[str, Field(min_length=1)] = Field("runs", description="Folder that holds the ablation's folder.")
    base: Annotated[str, Field(min_length=1)] | dict[str, Any] = Field(
        {}, description="The configuration that the variants are variants of: a run's YAML file, or its keys."
    )
    set: dict[str, Any] = Field({}, description="Keys for all runs, over those of the base.")
    variants: dict[str, dict[str, Any] | None] = Field(
        {},
        description="What is compared: a name, and the keys that make the variant. `extends` reads them from a file.",
    )
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {},
        description="Keys with lists of values; every combination is a variant (of each of `variants`, if there are any).",
    )
    seeds: Annotated[int, Field(ge=1, le=1000)] | list[Annotated[int, Field(ge=0, lt=2**32)]] = Field(
        3, description="How many seeds (0, 1, ...), or which."
    )
    metric: str = Field("mAP50-95", description="What counts: one of COCO's twelve, as mAP50 or mAP-small.")
    select: Literal["last", "best"] = Field(
        "last",
        description="Whose evaluation counts: the one at the end of a run, or the best of a run, a maximum that favours "
        "the variant whose evaluations scatter more.",
    )
    baseline: str | None = Field(
        None, description="The variant that the others are compared with; by default the first."
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(0.95, description="Of intervals, and 1 - level of tests.")
    marked: Literal["leave out", "include"] = Field(
        "leave out", description="What becomes of runs that something happened to (a rewind, an early stop, ...)."
    )
    share: bool = Field(True, description="Train what runs have in common once. The result is the same without.")
    executor: Literal["local", "ray"] = Field("local", description="Where runs are trained: here, or on a Ray cluster.")
    parallel: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="Runs at a time. auto: on the CPU one for each core; on GPUs as many as train the most, measured.",
    )
    threads: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="Threads of a run on the CPU. auto: the cores, shared among the runs at a time."
    )


@dataclass(frozen=True)
class Ablation:
    """An ablation, resolved: every variant has its whole configuration."""

    name: str
    folder: Path
    metric: str  # as "metrics/mAP50-95"
    select: Literal["last", "best"]
    baseline: str
    seeds: tuple[int, ...]
    variants: Mapping[str, Mapping[str, Any]]  # the keys that make each
    configs: Mapping[str, RunConfig]  # of the first seed
    keys: AblationKeys

    @property
    def confidence(self) -> float:
        return self.keys.confidence

    @property
    def marked(self) -> str:
        return self.keys.marked

    def with_threads(self, threads: int) -> Ablation:
        """The same, with the number of threads written down: bits depend on it."""
        return dataclasses.replace(self, keys=self.keys.model_copy(update={"threads": threads}))

    def source(self) -> str:
        """The resolved specification as YAML: loading it gives the same ablation."""
        keys = self.keys.model_dump()
        own = {"name": self.name, "variants": {k: dict(v) for k, v in self.variants.items()}, "grid": {}}
        return yaml.safe_dump(
            {**keys, **own, "baseline": self.baseline, "seeds": list(self.seeds)}, sort_keys=False, allow_unicode=True
        )


def load_ablation(path: str | os.PathLike, overrides: Iterable[str] = (), folder: Path | None = None) -> Ablation:
    """Read an ablation's file, apply `key=value` overrides and check every variant as a run's configuration is checked.

    Args:
        folder: where the ablation lies, if it is there already.

    Raises:
        UserError: naming file, key, value, rule and remedy.
    """
    path = Path(path)
    changes = parse_overrides(overrides)
    content = read_yaml(path)
    source = str(path) + (f" with {' '.join(overrides)}" if changes else "")
    if isinstance(content.get("base"), str) and isinstance(changes.get("base"), Mapping):
        raise UserError(
            f"{source}: base: is a file, and its keys cannot be overridden; write set.KEY=value for all runs"
        )
    content = merge(content, changes)
    keys: AblationKeys = validate(content, source, AblationKeys)
    base = _base(keys, path, source)
    variants = _variants(keys, path, source)
    configs = {}
    for name, own in variants.items():
        configs[name] = _run_config(merge(base, own), f"{source}: variants.{name}")
    _check_distinct(configs, source)
    baseline = next(iter(variants)) if keys.baseline is None else keys.baseline
    if baseline not in variants:
        raise UserError(f"{source}: baseline: {baseline!r} is no variant{_nearest(baseline, variants)}")
    metric = METRICS.get(keys.metric.removeprefix("metrics/"))
    if metric is None:
        raise UserError(f"{source}: metric: {keys.metric!r} is not known{_nearest(keys.metric, METRICS)}")
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")[:100]
    name = keys.name or stem or "ablation"
    # base and set are written out, so that the saved file needs no other
    resolved = keys.model_copy(update={"base": _plain(base), "set": {}, "name": name})
    return Ablation(
        name=name, folder=folder or Path(keys.runs) / name, metric=metric, select=keys.select, baseline=baseline,
        seeds=_seeds(keys, source), variants=variants, configs=configs, keys=resolved,
    )  # fmt: skip


def _base(keys: AblationKeys, path: Path, source: str) -> dict[str, Any]:
    base = read_layers(path.parent / keys.base) if isinstance(keys.base, str) else layered(keys.base, path)
    base = merge({**_DEFAULTS, **base}, with_absolute_paths(keys.set, path.parent, Path.cwd()))
    _refuse_own(keys.set, f"{source}: set")
    _refuse_own(base, f"{source}: base", ("seed", "name", "runs"))  # a run's file may well have these
    return {key: value for key, value in base.items() if key not in {"seed", "name", "runs"}}


def _variants(keys: AblationKeys, path: Path, source: str) -> dict[str, dict[str, Any]]:
    """The keys of every variant: the named ones, the grid, or the grid of each named one."""
    named = {name: layered(own or {}, path) for name, own in keys.variants.items()}
    for name, own in named.items():
        if not name.strip():
            raise UserError(f"{source}: variants: a variant has an empty name; give it one")
        _refuse_own(own, f"{source}: variants.{name}")
    _refuse_own([key.partition(".")[0] for key in keys.grid], f"{source}: grid")
    result = {}
    for name, own in (named or {"": {}}).items():
        for values in itertools.product(*keys.grid.values()):
            cell: dict[str, Any] = {}
            for key, value in zip(keys.grid, values, strict=True):
                cell = merge(cell, nested_keys(key.split("."), value))
            words = " ".join(f"{key}={_short(value)}" for key, value in zip(keys.grid, values, strict=True))
            variant = " ".join(part for part in (name, words) if part)
            same = sum(
                other == variant or other.startswith(f"{variant} #") for other in result
            )  # shortened to the same
            cell = with_absolute_paths(cell, path.parent, Path.cwd())
            result[f"{variant} #{same + 1}" if same else variant] = merge(own, cell)
    if len(result) < 2:
        raise UserError(
            f"{source}: variants: there {'is one' if any(result) else 'are none'}, and a comparison needs two; add "
            "variants: {NAME: {key: value}, ...} or grid: {key: [value, value]}"
        )
    return result


def _refuse_own(keys: Iterable[str], place: str, allowed: Iterable[str] = ()) -> None:
    for key in keys:
        if key in _OWN and key not in allowed:
            raise UserError(f"{place}.{key}: is not for a variant to say; {_OWN[key]}")


def _run_config(content: Mapping[str, Any], source: str) -> RunConfig:
    config = validate(content, source)
    check_together(config, source)
    if config.time is not None:
        raise UserError(
            f"{source}: time: {config.time} makes the length of a run depend on how fast it was, and runs of different "
            "lengths cannot be compared; write epochs instead"
        )
    return config


def _check_distinct(configs: Mapping[str, RunConfig], source: str) -> None:
    seen: dict[str, str] = {}
    for name, config in configs.items():
        text = json.dumps(config.model_dump(), sort_keys=True, default=str)
        if text in seen:
            raise UserError(
                f"{source}: variants: {seen[text]!r} and {name!r} are the same configuration; change one or leave it out"
            )
        seen[text] = name


def _seeds(keys: AblationKeys, source: str) -> tuple[int, ...]:
    if isinstance(keys.seeds, int):
        return tuple(range(keys.seeds))
    twice = sorted({s for s in keys.seeds if keys.seeds.count(s) > 1})
    if twice or not keys.seeds:
        what = f"{some_of(twice)} stand(s) there more than once" if twice else "there are none"
        raise UserError(f"{source}: seeds: {what}; write each once, as in [0, 1, 2]")
    return tuple(keys.seeds)


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; there are {some_of(list(names), most=20)}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:37] + "..."


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
