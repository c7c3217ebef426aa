"""How the program says that it cannot go on, and what it cannot use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def some_of(items: Sequence[T], words: Callable[[T], str] = str, most: int = 3, separator: str = ", ") -> str:
    """The first `most` of many, in words: `a, b, c and 4 more`. `words` is asked for those that are shown only."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return separator.join(words(item) for item in items[:most]) + more


def first_line(error: BaseException) -> str:
    """What an error says first; PyTorch's go on for pages."""
    return str(error).strip().partition("\n")[0]


class UserError(Exception):
    """A mistake in a config, a data set, a file or a command line.

    The message names the place, the value, the rule and the remedy. Entry points print it without a traceback and
    exit with code 2.
    """


class TrainingFailed(Exception):
    """Training cannot go on, and not for a mistake in the input; the message says where, with what values, and what to try.

    Entry points print it without a traceback and exit with code 1.
    """


class Interrupted(KeyboardInterrupt):
    """A signal ended the run; the message says how to go on. Entry points print it and exit with 128 + its number."""

    def __init__(self, number: int, text: str, agreed: bool = False):
        super().__init__(text)
        self.code = 128 + int(number)
        self.agreed = agreed  # by all processes of the run: none of them has failed
