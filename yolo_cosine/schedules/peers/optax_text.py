"""The pieces of optax's `join_schedules` as text: `linear(0->0.1,10)`, `cosine_decay(0.1,50,alpha=0.02)`.

A piece is a call as one would write it in Python, with optax's arguments in optax's order; `optax.` in front and
`_schedule` at the end may be left out, and `a->b` stands for `a,b`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from yolo_cosine.schedules.curves import InvalidSchedule


@dataclass(frozen=True)
class Piece:
    """A schedule that is named and not built yet."""

    name: str
    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)


def read_piece(written: Any) -> Piece:
    """A piece from text, from a mapping with `type` and the arguments, or from a Piece.

    Raises:
        InvalidSchedule: for text that is no call, and for a mapping without a type.
    """
    if isinstance(written, Piece):
        return written
    if isinstance(written, Mapping):
        if not isinstance(written.get("type"), str):
            raise InvalidSchedule(f"{dict(written)} has no type; write {{type: linear_schedule, init_value: 0.0, ...}}")
        return Piece(written["type"], named={name: value for name, value in written.items() if name != "type"})
    if isinstance(written, str):
        try:
            return _call(ast.parse(written.replace("->", ",").strip(), mode="eval").body)
        except (SyntaxError, ValueError, TypeError, RecursionError):
            pass
    raise InvalidSchedule(f"{written!r} is no schedule; write a call like linear(0->0.1,10), or a mapping with a type")


def _call(node: ast.AST) -> Piece:
    if not isinstance(node, ast.Call) or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError("not a call")
    name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func
    return Piece(
        name.id if isinstance(name, ast.Name) else str(name),
        tuple(_value(argument) for argument in node.args),
        {keyword.arg: _value(keyword.value) for keyword in node.keywords},
    )


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.List | ast.Tuple):  # of schedules, in join_schedules
        return [_call(item) if isinstance(item, ast.Call) else _value(item) for item in node.elts]
    if isinstance(node, ast.Name):  # a word without quotes, as in piecewise_interpolate(linear, ...)
        return node.id
    return ast.literal_eval(node)
