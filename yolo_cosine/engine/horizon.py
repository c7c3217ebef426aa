"""How long a run with a time budget can be."""

from __future__ import annotations

import math


def fitting_epochs(
    done: int, *, budget: float, elapsed: float, epoch: float, evaluation: float, per_evaluation: float
) -> int:
    """The most epochs that a run of `budget` seconds can have, at least one more than are done.

    Args:
        done: epochs trained so far, with their evaluations.
        elapsed: seconds that the run took so far.
        epoch: seconds of an epoch of training.
        evaluation: seconds of an evaluation. One more is kept in reserve, for what is written at the end.
        per_evaluation: epochs from one evaluation to the next.
    """
    left = budget - elapsed - evaluation
    return done + max(1, math.floor(left / (epoch + evaluation / per_evaluation)))
