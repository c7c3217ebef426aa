"""How the program says that it cannot go on."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in a config, a data set, a file or a command line.

    The message names the place, the value, the rule and the remedy. Entry points print it without a traceback and
    exit with code 2.
    """


class TrainingFailed(Exception):
    """Training cannot go on, and not for a mistake in the input; the message says where, with what values, and what to try.

    Entry points print it without a traceback and exit with code 1.
    """
