"""YAML text to plain values: strict, without surprises, and harmless whatever the text holds."""

from __future__ import annotations

import difflib
import itertools
import re
from pathlib import Path
from typing import Any

import yaml

from yolo_cosine.errors import UserError

_CORE = ("null", "bool", "int", "float", "str", "seq", "map", "merge")
_SPARE = 100_000  # values that aliases may add to those that are written out


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's scalars and tags, and without its silent surprises.

    `1e-3` is a number, `off` and `no` are words, and a key that stands twice in one mapping is an error. So are tags
    other than those of the core schema, and aliases that stand for more values than could be meant.
    """

    def refuse_explosion(self, node: yaml.Node) -> None:
        """Refuse aliases of aliases of aliases, a few lines of which stand for billions of values."""
        sizes: dict[int, int] = {}
        total = _size(node, sizes)
        if total > len(sizes) + _SPARE:
            problem = f"its aliases (*name) stand for {total:.2g} values; write out what you mean"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _size(node: yaml.Node, sizes: dict[int, int]) -> int:
    """How many values a node stands for with its aliases written out. `sizes` has what is known, by the node's id."""
    if id(node) not in sizes:
        sizes[id(node)] = 1  # for an alias of itself, which is refused elsewhere
        parts = () if isinstance(node, yaml.ScalarNode) else node.value
        if isinstance(node, yaml.MappingNode):
            parts = itertools.chain.from_iterable(parts)
        sizes[id(node)] += sum(_size(part, sizes) for part in parts)
    return sizes[id(node)]


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
_Loader.yaml_constructors = {
    f"tag:yaml.org,2002:{kind}": construct
    for kind in _CORE
    if (construct := yaml.SafeLoader.yaml_constructors.get(f"tag:yaml.org,2002:{kind}"))
}


def _number(kind: type) -> Any:
    def construct(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Any:
        try:
            return kind(loader.construct_scalar(node)) if kind is int else loader.construct_yaml_float(node)
        except ValueError:  # after a tag that calls it a number, or with ten thousand digits
            text = f"{node.value[:20]}..." if len(node.value) > 20 else node.value
            problem = f"{text!r} is no number, or one of too many digits; write another"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None

    return construct


def _text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    text = loader.construct_scalar(node)
    if "\0" in text:
        problem = "a text holds the null character, which no name may; take the \\0 out"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    if re.search("[\ud800-\udfff]", text):
        problem = "a text holds half a character (\\ud800 to \\udfff), which no file can; write it whole"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return text


def _mapping_without_duplicates(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
    seen = set()
    for key_node, _ in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            problem = "a key is a mapping or a list; put quotes around {{ ... }}"
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        key = key_node.value
        if key in seen:
            problem = f"the key {key!r} stands twice; keep one"
            raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


def _unknown_tag(loader: yaml.SafeLoader, node: yaml.Node) -> None:
    tag = node.tag.replace("tag:yaml.org,2002:", "!!")
    problem = f"the tag {tag} asks for more than plain values, and is not followed; take it out"
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_Loader.add_constructor("tag:yaml.org,2002:int", _number(int))
_Loader.add_constructor("tag:yaml.org,2002:float", _number(float))
_Loader.add_constructor("tag:yaml.org,2002:str", _text)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)
_Loader.add_constructor(None, _unknown_tag)


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML text safely; `source` names it in errors.

    Raises:
        UserError: with line and column, if the text is no YAML.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        loader.refuse_explosion(node)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "not YAML"
        if ";" not in problem:
            problem += "; indent with spaces, not tabs" if "'\\t'" in problem else "; mend it there"
        raise UserError(f"{place}: cannot read the YAML: {problem}") from None
    except RecursionError:
        raise UserError(f"{source}: cannot read the YAML: it is nested too deeply; write it flatter") from None
    except (ArithmeticError, LookupError, ValueError):  # \U80000000 in quotes; !!bool in front of a word
        problem = "an escape (\\U...) is no character, or a value is not what its tag (!!...) says; take it out"
        raise UserError(f"{source}: cannot read the YAML: {problem}") from None


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
    except IsADirectoryError:
        raise UserError(f"{path}: cannot be read: it is a folder; name a YAML file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read: {error}; save it as text, in UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}; name a YAML file") from None
    content = parse_yaml(text, str(path))
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, not a mapping; write `key: value` lines")
    return content
