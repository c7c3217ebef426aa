"""A curve written as an expression: `0.95 ** epoch`, `lambda x: (1 - x / 100) * 0.99 + 0.01`."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from yolo_cosine.schedules.curves import Constant, InvalidSchedule, Schedule, Steps, kind

_BINARY = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_COMPARE = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}  # fmt: skip
_UNARY = {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_}
_FUNCTIONS = {"abs": abs, "min": min, "max": max, "round": round, "int": int, "float": float, "pow": pow} | {
    name: getattr(math, name)
    for name in ("ceil", "cos", "exp", "floor", "log", "log2", "log10", "sin", "sqrt", "tan", "tanh")
}
_CONSTANTS = {"pi": math.pi, "e": math.e}


@kind("formula")
@dataclass(frozen=True)
class Formula:
    """The value of `text` at every step: numbers, `step`, arithmetic, comparisons, `a if b else c` and the functions of
    `math`. Nothing else is run."""

    text: str
    steps: Steps = 0

    def __post_init__(self) -> None:
        unknown = names_in(_tree(self.text)) - {"step"}
        if unknown:
            raise InvalidSchedule(f"text: {self.text!r} has {', '.join(sorted(unknown))}; write numbers and step")

    def __call__(self, step: float) -> float:
        try:
            value = _value(_tree(self.text), float(step))
        except (ArithmeticError, ValueError, TypeError) as error:
            raise InvalidSchedule(f"text: {self.text!r} has no value at step {step:g}: {error}") from None
        if isinstance(value, complex):
            raise InvalidSchedule(f"text: {self.text!r} is no real number at step {step:g}")
        return float(value)


def read_formula(text: Any, names: Mapping[str, Any], where: str) -> Schedule:
    """A formula of the step from a number or a text; a text may be a Python `lambda` of one argument.

    Args:
        text: what is written.
        names: numbers that the text may call by name. One other name may stand in it, for the step.
        where: the argument's name, for messages.

    Raises:
        InvalidSchedule: for text that is no formula, or has two names or more that are not known.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        return Constant(float(text))
    if not isinstance(text, str):
        raise InvalidSchedule(f"{where}: {text!r} is no formula; write it as text, as in '0.95 ** epoch'")
    tree = _parsed(text, where)
    variable = None
    if isinstance(tree, ast.Lambda):
        if len(tree.args.args) != 1:
            raise InvalidSchedule(f"{where}: {text!r} is no function of one argument, the step")
        variable, tree = tree.args.args[0].arg, tree.body
    known = {n: v for n, v in names.items() if isinstance(v, int | float) and n != variable}
    free = names_in(tree) - set(known)
    if len(free) > 1 or (variable and free - {variable}):
        raise InvalidSchedule(f"{where}: {text!r} has the names {', '.join(sorted(free))}; write numbers and one step")
    named = {n: ast.parse(repr(v), mode="eval").body for n, v in known.items()} | {n: ast.Name("step") for n in free}
    formula = Formula(ast.unparse(_Renamed(named).visit(tree)))
    return formula if free else Constant(formula(0))


class _Renamed(ast.NodeTransformer):
    def __init__(self, names: Mapping[str, ast.expr]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.names.get(node.id, node)

    def visit_Call(self, node: ast.Call) -> ast.expr:  # the function's own name stays
        node.args = [self.visit(argument) for argument in node.args]
        return node


def names_in(tree: ast.expr) -> set[str]:
    """The names in an expression, but for functions and pi. A bare `e` is a name: people call the epoch so."""
    functions = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    modules = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names = (n for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in functions | modules)
    return {node.id for node in names} - {"pi"}


@lru_cache(maxsize=256)
def _tree(text: str) -> ast.expr:
    tree = _parsed(text, "text")
    if isinstance(tree, ast.Lambda):
        raise InvalidSchedule(f"text: {text!r} is a lambda; write its expression only, with step for its argument")
    return tree


def _parsed(text: str, where: str) -> ast.expr:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        _check(tree.body if isinstance(tree, ast.Lambda) else tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InvalidSchedule(f"{where}: {text!r} is no formula: {error}; write one, as in 0.95 ** step") from None
    return tree


def _check(node: ast.expr, depth: int = 0) -> None:
    """Refuse, with ValueError, all that `_value` does not know."""
    if depth > 100:
        raise ValueError("it is nested too deeply")
    parts: list[ast.expr] = []
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        parts = [node.operand]
    elif isinstance(node, ast.Compare) and all(type(op) in _COMPARE for op in node.ops):
        parts = [node.left, *node.comparators]
    elif isinstance(node, ast.BoolOp):
        parts = node.values
    elif isinstance(node, ast.IfExp):
        parts = [node.test, node.body, node.orelse]
    elif isinstance(node, ast.Call) and _name(node.func) in _FUNCTIONS and not node.keywords:
        parts = node.args
    elif not (isinstance(node, ast.Name) or _is_number(node) or _is_constant(node)):
        raise ValueError(f"{ast.unparse(node)} is not allowed in it")
    for part in parts:
        _check(part, depth + 1)


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float)


def _is_constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and _name(node) in _CONSTANTS


def _name(node: ast.expr) -> str | None:
    """`cos` for both `cos` and `math.cos`."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("math", "np"):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def _value(node: ast.expr, step: float) -> Any:
    """All numbers are floats, so that no power can grow without end."""
    match node:
        case ast.Constant():
            return float(node.value)
        case ast.BinOp():
            return _BINARY[type(node.op)](_value(node.left, step), _value(node.right, step))
        case ast.UnaryOp():
            return _UNARY[type(node.op)](_value(node.operand, step))
        case ast.IfExp():
            return _value(node.body if _value(node.test, step) else node.orelse, step)
        case ast.BoolOp():
            values = (_value(part, step) for part in node.values)
            return all(values) if isinstance(node.op, ast.And) else any(values)
        case ast.Compare():
            values = [_value(part, step) for part in (node.left, *node.comparators)]
            return all(_COMPARE[type(op)](a, b) for op, a, b in zip(node.ops, values, values[1:], strict=False))
        case ast.Call():
            return float(_FUNCTIONS[_name(node.func)](*(_value(argument, step) for argument in node.args)))
        case ast.Attribute():
            return _CONSTANTS[node.attr]
        case _:
            return math.pi if node.id == "pi" else step
