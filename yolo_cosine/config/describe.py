"""The keys of a configuration in words, for people and for editors."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

from pydantic import BaseModel

from yolo_cosine.config.explain import group_of
from yolo_cosine.config.load import json_schema
from yolo_cosine.config.schema import RunConfig


def describe_keys(schema: type[BaseModel] = RunConfig) -> str:
    """A line or two for each key: its name, its default and what it means."""
    return "\n".join(_describe(schema))


def _describe(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in schema.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from _describe(type(field.default), f"{prefix}{name}.")
            continue
        yield f"{prefix}{name} = {'null' if field.default is None else json.dumps(field.default)}"
        yield from textwrap.wrap(field.description or "", 96, initial_indent="    ", subsequent_indent="    ")
        if field.default is None and (group := group_of(field)) is not None:
            yield from _describe(group, f"{prefix}{name}.")


def schema_text() -> str:
    """The JSON Schema of a configuration file, as text."""
    return json.dumps(json_schema(), indent=2)
