"""The one exception for what a user can mend."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in a config, a data set, a file or a command line.

    The message names the place, the value, the rule and the remedy. Entry points print it without a traceback and
    exit with code 2.
    """
