"""What every parser owes to whatever it is given: an object, or a `UserError` that says where and what, in a few words.

Each test here feeds one parser with valid input that was spoiled: values dropped, exchanged or replaced by anything, text
cut, bytes flipped. Whatever a longer search has found stands there as an `@example`.
"""

from __future__ import annotations

import copy
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from yolo_cosine.errors import UserError

# a slow machine is not a fault; what never ends is (`in_time`)
FUZZ = settings(deadline=None, suppress_health_check=list(HealthCheck))

# Words with a meaning somewhere. No slash: a parser that is told to list the whole disk rightly does so.
WORDS = st.sampled_from(
    ["", " ", "0", "1", "-1", "1e400", "nan", "inf", "3ep", "500it", "5%", "rest", "cosine", "..", ".", "~", "~nobody", "a.jpg",
     "images", "${X}", "${X:-.}", "\0", "\n", "\ud800", "\u2028", "x" * 300, "9" * 5000, "None", "true", "{", "%s", "{0}"]
)  # fmt: skip
TEXT = WORDS | st.text(st.characters(blacklist_characters="/"), max_size=6)
NUMBERS = (
    st.sampled_from([0, 1, -1, 2, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, 0.5, -0.0, 1e-320, 1e308]) | st.floats()
)
SCALARS = st.none() | st.booleans() | st.integers(-3, 99) | NUMBERS | TEXT
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6
)


@contextmanager
def in_time(seconds: float = 5) -> Iterator[None]:
    """Fail where more processor time than this is taken: what is that slow would not end."""

    def stop(*_: object) -> None:
        raise AssertionError(f"takes more than {seconds} seconds")

    if not hasattr(signal, "SIGPROF"):  # Windows
        yield
        return
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def outcome(work: Callable[[], Any], source: str | tuple[str, ...], lines: int = 20) -> Any:
    """The result of a parser, or None for a `UserError` in a few lines that name the source (one of them). Any other
    exception goes through, and fails the test."""
    try:
        with in_time():
            return work()
    except UserError as error:
        said = str(error)
        assert 1 <= len(said.splitlines()) <= lines and len(said) < 20_000, said[:2000]
        assert any(name in said for name in ((source,) if isinstance(source, str) else source)), said
        return None


@st.composite
def spoiled_tree(draw: st.DrawFn, tree: Any, junk: st.SearchStrategy = ANYTHING) -> Any:
    """A copy of plain data (lists, mappings, scalars) with one to three places dropped, replaced, exchanged or doubled."""
    top = {"top": copy.deepcopy(tree)}
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(top))
        parent, key = draw(st.sampled_from(places))
        how = draw(st.sampled_from(["replace", "replace", "drop", "other", "add"]))
        if how == "drop" and parent is not top:
            del parent[key]
        elif how == "other":
            source, its = draw(st.sampled_from(places))
            parent[key] = copy.deepcopy(source[its])
        elif how == "add" and isinstance(parent[key], list):
            parent[key].insert(0, copy.deepcopy(draw(st.sampled_from(parent[key]) if parent[key] else junk)))
        elif how == "add" and isinstance(parent[key], dict):
            parent[key][draw(TEXT)] = draw(junk)
        else:
            parent[key] = draw(junk)
    return top["top"]


def _places(parent: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in the data, as (its list or mapping, its key there)."""
    for key, value in list(parent.items() if isinstance(parent, dict) else enumerate(parent)):
        yield parent, key
        if isinstance(value, dict | list):
            yield from _places(value)


@st.composite
def spoiled_bytes(draw: st.DrawFn, text: str) -> bytes:
    """The text in UTF-8, as it is or cut off, with bytes flipped, or with something put in between."""
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    how = draw(st.sampled_from(["", "", "cut", "flip", "insert", "swap"]))
    at = draw(st.integers(0, max(0, len(data) - 1)))
    if how == "cut":
        return bytes(data[:at])
    if how == "flip" and data:
        for _ in range(draw(st.integers(1, 3))):
            data[at] ^= 1 << draw(st.integers(0, 7))
            at = draw(st.integers(0, len(data) - 1))
    elif how == "insert":
        data[at:at] = draw(st.binary(max_size=4) | WORDS.map(lambda word: word.encode("utf-8", "replace")))
    elif how == "swap":
        data = data[at:] + data[:at]
    return bytes(data)
