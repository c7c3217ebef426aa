"""YAML and command-line overrides to a checked `RunConfig`, and back."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from yolo_cosine.config.explain import validate
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.config.yaml_text import parse_yaml, read_yaml
from yolo_cosine.errors import UserError


def read_layers(path: Path, chain: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file's keys over those of the file that it extends.

    Raises:
        UserError: if a file cannot be read, or files extend each other in a circle.
    """
    path = Path(os.path.realpath(path))  # Path.resolve fails where a link leads to itself
    if path in chain:
        raise UserError(f"{path}: extends: goes in a circle: {' -> '.join(p.name for p in (*chain, path))}")
    try:
        content = read_yaml(path)
    except UserError as error:
        raise UserError(f"{chain[-1]}: extends: {error}" if chain else str(error)) from None
    return layered(content, path, (*chain, path))


def layered(content: Mapping[str, Any], path: Path, chain: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Keys that stand in the file `path`, over those of the file that they extend.

    Args:
        chain: the files that led here.

    Raises:
        UserError: as `read_layers` does.
    """
    own = dict(content)
    parent = own.pop("extends", None)
    if parent is not None and not isinstance(parent, str):
        raise UserError(f"{path}: extends: {parent!r} is no file name; name one YAML file")
    own = with_absolute_paths(own, path.parent, Path.cwd())
    return own if parent is None else merge(read_layers(path.parent / parent, chain), own)


def with_absolute_paths(content: Mapping[str, Any], *folders: Path) -> dict[str, Any]:
    """Make paths that exist absolute, looked for in `folders` in order, so that the saved configuration means the same
    files from everywhere. A bare word is a name, not a path."""
    result = dict(content)
    for key in ("data", "model", "weights"):
        value = result.get(key)
        if isinstance(value, str) and not re.fullmatch(r"[\w-]*", value):
            found = [folder / value for folder in folders if os.path.exists(folder / value)]
            result[key] = os.path.abspath(found[0]) if found else value
    return result


def merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `top` over those of `base`, within nested mappings too."""
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def parse_overrides(arguments: Iterable[str]) -> dict[str, Any]:
    """`["lr0=0.02", "a.b=[1, 2]"]` to a nested mapping; values are read as YAML.

    Raises:
        UserError: if an argument has no `=` or no key.
    """
    overrides: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise UserError(f"command line: {argument!r} is no override; write key=value, as in lr0=0.02")
        if parts == ["extends"]:
            raise UserError(f"command line: {argument}: a file extends another; name {value} as the configuration")
        nested = parse_yaml(value, f"command line: {key}") if value.strip() else None
        overrides = merge(overrides, nested_keys(parts, nested))
    return overrides


def nested_keys(parts: Sequence[str], value: Any) -> Any:
    """`{"a": {"b": value}}` for the parts of `a.b`."""
    for part in reversed(parts):
        value = {part: value}
    return value


def load_config(
    path: str | os.PathLike | None, overrides: Iterable[str] = (), *, auto_batch: bool = False
) -> RunConfig:
    """Read a config file with everything it extends, apply `key=value` overrides and check the result.

    Args:
        path: the YAML file; None for the defaults alone.
        overrides: `key=value` strings from the command line.
        auto_batch: whether the caller can find a batch that is not a number.

    Raises:
        UserError: naming file, key, value, rule and remedy.
    """
    content = read_layers(Path(path)) if path is not None else {}
    changes = parse_overrides(overrides)
    source = str(path) if path is not None else "defaults"
    if changes:
        source += " with " + " ".join(overrides)
    config = validate(merge(content, with_absolute_paths(changes, Path.cwd())), source)
    if config.name is None:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).stem).lstrip("._-") if path is not None else ""
        config = config.model_copy(update={"name": stem[:200] or "run"})
    check_together(config, source, auto_batch)
    return config


def apply_overrides(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """A configuration with `key=value` overrides, checked as a whole.

    Raises:
        UserError: naming key, value, rule and remedy.
    """
    changes = with_absolute_paths(parse_overrides(overrides), Path.cwd())
    source = "command line"
    changed = validate(merge(config.model_dump(), changes), source)
    check_together(changed, source)
    return changed


def check_together(config: RunConfig, source: str = "config", auto_batch: bool = False) -> None:
    """Rules that tie keys to each other.

    Args:
        auto_batch: whether `batch` may be other than a number.

    Raises:
        UserError: naming the keys, their values, the rule and the remedy.
    """
    if (
        config.warmup_epochs > 0
        and config.warmup_epochs >= config.epochs
        and config.preset == "yolo-cosine"
        and config.phases is None
    ):
        relation = "is longer than" if config.warmup_epochs > config.epochs else "takes up all of"
        raise UserError(
            f"{source}: warmup_epochs: {config.warmup_epochs:g} {relation} epochs={config.epochs}; "
            "shorten the warmup or train longer"
        )
    if isinstance(config.batch, str) and not auto_batch:
        raise UserError(
            f"{source}: batch: {config.batch} is found when a run begins on a GPU (yolo_cosine.train --cfg); write a number here"
        )
    if config.model.endswith(".pt"):
        raise UserError(
            f"{source}: model: {config.model!r} is a checkpoint; name its architecture here "
            f"(model: {Path(config.model).stem}.yaml) and the checkpoint in weights: {config.model}"
        )


def dump_config(config: RunConfig) -> str:
    """The resolved configuration as YAML; loading it gives the same configuration."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)


def json_schema() -> dict[str, Any]:
    """JSON Schema of a config file, for editors that complete and check YAML."""
    schema = RunConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "yolo-cosine run"
    schema["properties"]["extends"] = {"type": "string", "description": "A YAML file whose keys this one builds on."}
    return schema
