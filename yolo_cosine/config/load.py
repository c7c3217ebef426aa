"""YAML and command-line overrides to a checked `RunConfig`, and back."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.errors import UserError

# What people who come from another trainer write, and what it is called here.
_FOREIGN_KEYS = {
    "nbs": "nominal_batch",
    "amp": "precision (auto, bf16, fp16 or fp32)",
    "half": "precision (auto, bf16, fp16 or fp32)",
    "cos_lr": "curve (cosine or linear)",
    "project": "runs",
    "exist_ok": "name (a taken name gets a number, nothing is overwritten)",
    "pretrained": "weights",
    "cfg": "model (the architecture) or weights (a checkpoint)",
    "hyp": "extends (a YAML file to build on)",
    "imgs": "imgsz",
    "img": "imgsz",
    "img_size": "imgsz",
    "batch_size": "batch",
    "learning_rate": "lr0",
    "lr": "lr0",
    "val": "eval_every (1ep, 500it, ...)",
    "val_period": "eval_every (1ep, 500it, ...)",
    "save_json": "predictions",
}


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's scalars and without its silent surprises.

    `1e-3` is a number, `off` and `no` are words, and a key that stands twice in one mapping is an error.
    """


_REPLACED = {f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "timestamp")}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _REPLACED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+.0123456789"),
)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))


def _mapping_without_duplicates(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
    seen = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            problem = "a key is a mapping or a list; put quotes around {{ ... }}"
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        key = key_node.value
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML text safely; `source` names it in errors.

    Raises:
        UserError: with line and column, if the text is no YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        raise UserError(f"{place}: cannot read the YAML: {problem}") from None
    except (ValueError, RecursionError) as error:  # an integer of ten thousand digits, a thousand brackets
        raise UserError(f"{source}: cannot read the YAML: {error}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Raises:
        UserError: if the file is missing, unreadable, no UTF-8, no YAML or no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.y*ml")], n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise UserError(f"{path}: there is no such file{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    content = parse_yaml(text, str(path))
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a mapping; write `key: value` lines")
    return content


def _read_layers(path: Path, chain: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A file's keys over those of the file that it extends."""
    path = path.resolve()
    if path in chain:
        raise UserError(f"{path}: extends: goes in a circle: {' -> '.join(p.name for p in (*chain, path))}")
    try:
        content = read_yaml(path)
    except UserError as error:
        raise UserError(f"{chain[-1]}: extends: {error}" if chain else str(error)) from None
    parent = content.pop("extends", None)
    if parent is not None and not isinstance(parent, str):
        raise UserError(f"{path}: extends: {parent!r} is no file name; name one YAML file")
    content = _with_absolute_paths(content, path.parent, Path.cwd())
    if parent is None:
        return content
    return _merge(_read_layers(path.parent / parent, (*chain, path)), content)


def _with_absolute_paths(content: Mapping[str, Any], *folders: Path) -> dict[str, Any]:
    """Make paths that exist absolute, looked for in `folders` in order, so that the saved configuration means the same
    files from everywhere. A bare word is a name, not a path."""
    result = dict(content)
    for key in ("data", "model", "weights"):
        value = result.get(key)
        if isinstance(value, str) and not re.fullmatch(r"[\w-]*", value):
            found = [folder / value for folder in folders if _exists(folder / value)]
            result[key] = os.path.abspath(found[0]) if found else value
    return result


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a null in it: some other check will say so
        return False


def _merge(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def parse_overrides(arguments: Iterable[str]) -> dict[str, Any]:
    """`["lr0=0.02", "a.b=[1, 2]"]` to a nested mapping; values are read as YAML.

    Raises:
        UserError: if an argument has no `=` or no key.
    """
    overrides: dict[str, Any] = {}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or not key.strip():
            raise UserError(f"command line: {argument!r} is no override; write key=value, as in lr0=0.02")
        nested = parse_yaml(value, f"command line: {key}") if value.strip() else None
        for part in reversed(key.strip().split(".")):
            nested = {part: nested}
        overrides = _merge(overrides, nested)
    return overrides


def validate(content: Mapping[str, Any], source: str, schema: type[BaseModel] = RunConfig) -> Any:
    """Check a mapping against a schema and return it as an instance.

    Raises:
        UserError: listing every mistake with path, value, rule and, for an unknown key, the nearest real one.
    """
    try:
        return schema.model_validate(dict(content))
    except ValidationError as error:
        lines = [f"{source}: {line}" for line in _explain(error, schema)]
        raise UserError("\n".join(lines)) from None


def _explain(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    by_path: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        # pydantic appends the tried member of a union to the path; the key is what the user wrote
        location = [part for part in item["loc"] if isinstance(part, int) or _is_key(part)]
        path = ".".join(str(part) for part in location) or ".".join(map(str, item["loc"])) or "the whole"
        if item["type"] == "extra_forbidden":
            message = f"{path}: {_shown(item['input'])}: there is no such key{_hint(path, schema)}"
        else:
            rule = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
            message = f"{path}: {_shown(item['input'])} {rule}"
        by_path.setdefault(path, []).append(message)
    lines = []
    for messages in by_path.values():
        first, *others = dict.fromkeys(messages)
        rest = [m.split(" ", 1)[1] if " " in m else m for m in others]
        lines.append(first + "".join(f", or {m[m.find('should be') + 10 :]}" for m in rest if "should be" in m))
    return lines


def _is_key(part: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", part)) and part not in {"int", "float", "str", "bool", "none"}


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(value)
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _hint(key: str, schema: type[BaseModel]) -> str:
    if key in _FOREIGN_KEYS:
        return f"; here it is called {_FOREIGN_KEYS[key]}"
    near = difflib.get_close_matches(key, schema.model_fields, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else "; `--keys` lists all of them"


def load_config(path: str | os.PathLike | None, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a config file with everything it extends, apply `key=value` overrides and check the result.

    Args:
        path: the YAML file; None for the defaults alone.
        overrides: `key=value` strings from the command line.

    Raises:
        UserError: naming file, key, value, rule and remedy.
    """
    content = _read_layers(Path(path)) if path is not None else {}
    changes = parse_overrides(overrides)
    source = str(path) if path is not None else "defaults"
    if changes:
        source += " with " + " ".join(overrides)
    config = validate(_merge(content, _with_absolute_paths(changes, Path.cwd())), source)
    if config.name is None:
        stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).stem).lstrip("._-") if path is not None else ""
        config = config.model_copy(update={"name": stem or "run"})
    check_together(config, source)
    return config


def apply_overrides(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """A configuration with `key=value` overrides, checked as a whole.

    Raises:
        UserError: naming key, value, rule and remedy.
    """
    changes = _with_absolute_paths(parse_overrides(overrides), Path.cwd())
    source = "command line"
    changed = validate(_merge(config.model_dump(), changes), source)
    check_together(changed, source)
    return changed


def check_together(config: RunConfig, source: str = "config") -> None:
    """Rules that tie keys to each other.

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
