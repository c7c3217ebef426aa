"""Plain values against a schema, and every mistake in words: path, value, rule and remedy."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

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
_TYPES = {"int", "float", "str", "bool", "none"}


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


def group_of(field: FieldInfo) -> type[BaseModel] | None:
    """The keys that a key has of its own, if it is a mapping of known keys or a list of such."""
    types = (field.annotation, *get_args(field.annotation))
    return next((t for t in types if isinstance(t, type) and issubclass(t, BaseModel)), None)


def _explain(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    by_path: dict[str, list[str]] = {}
    remedies: dict[str, str] = {}
    for item in error.errors(include_url=False):
        unknown = item["type"] in ("extra_forbidden", "invalid_key")
        location = [part for part in item["loc"][:-1] if _is_key(part)]
        location += [part for part in item["loc"][-1:] if unknown or _is_key(part)]
        path = ".".join(map(str, location or item["loc"])) or "the whole"
        remedies[path] = ""
        if unknown:
            message = f"{path}: {_shown(item['input'])}: there is no such key{_hint(item['loc'], schema)}"
        elif item["type"] == "missing":
            message = f"{path}: missing; write `{location[-1]}: ...`"
        else:
            rule = item["msg"].removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")
            message = f"{path}: {_shown(item['input'])} {rule.partition(' or instance of')[0]}"
            remedies[path] = _remedy(location, schema)
        by_path.setdefault(path, []).append(message)
    lines = []
    for path, messages in by_path.items():
        first, *others = dict.fromkeys(messages)
        rest = [m.split(" ", 1)[1] if " " in m else m for m in others]
        line = first + "".join(f", or {m[m.find('should be') + 10 :]}" for m in rest if "should be" in m)
        lines.append(line if ";" in line else line + remedies[path])
    return lines


def _is_key(part: int | str) -> bool:
    """Whether it is a part of what the user wrote, and no member of a union that was tried on it."""
    return isinstance(part, int) or (bool(re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", part)) and part not in _TYPES)


def _keys_at(location: Sequence[int | str], schema: type[BaseModel]) -> Mapping[str, FieldInfo]:
    """The known keys of the mapping that the last part of a path is a key of; none where any key may be."""
    keys: Mapping[str, FieldInfo] = schema.model_fields
    for part in location[:-1]:
        if isinstance(part, str):
            group = group_of(keys[part]) if part in keys else None
            keys = group.model_fields if group else {}
    return keys


def _remedy(location: Sequence[int | str], schema: type[BaseModel]) -> str:
    """What may be written instead, where the rule alone does not say."""
    keys = _keys_at(location, schema)
    field = keys.get(location[-1]) if location else None
    if field is None:
        return ""
    if (group := group_of(field)) is not None:
        return f"; write {location[-1]}: {{{', '.join(f'{name}: ...' for name in group.model_fields)}}}"
    return f"; by default it is {json.dumps(field.default)}" if isinstance(field.default, str | int | float) else ""


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 200 else f"{value[:197]}...")
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _hint(location: Sequence[int | str], schema: type[BaseModel]) -> str:
    """What an unknown key was probably meant to be."""
    *parents, key = (str(part) for part in location)
    if not parents and key in _FOREIGN_KEYS:
        return f"; here it is called {_FOREIGN_KEYS[key]}"
    outer, dot, inner = key.partition(".")
    if dot and outer in schema.model_fields:
        return f"; in a file it is written {outer}: {{{inner}: ...}}"
    keys = list(_keys_at(location, schema))
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {'.'.join((*parents, near[0]))}?"
    return (
        "; `--keys` lists all of them" if schema is RunConfig and not parents else f"; the keys are {', '.join(keys)}"
    )
