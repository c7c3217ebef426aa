"""The keys of a configuration in words, for people and for editors."""

from __future__ import annotations

import json
import textwrap

from yolo_cosine.config.load import json_schema
from yolo_cosine.config.schema import RunConfig


def describe_keys() -> str:
    """A line or two for each key: its name, its default and what it means."""
    lines = []
    for name, field in RunConfig.model_fields.items():
        head = f"{name} = {'null' if field.default is None else json.dumps(field.default)}"
        lines.append(head)
        lines.extend(textwrap.wrap(field.description or "", 96, initial_indent="    ", subsequent_indent="    "))
    return "\n".join(lines)


def schema_text() -> str:
    """The JSON Schema of a configuration file, as text."""
    return json.dumps(json_schema(), indent=2)
