"""The chart of a schedule that has not been run yet, of one configuration or of several over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from yolo_cosine import events
from yolo_cosine.errors import UserError
from yolo_cosine.report.figures import clean_legend, lr_figure, new_figure
from yolo_cosine.sinks.drawing import PALETTE, chart_text

_MOST_POINTS = 4000  # of a line


class Plan(Protocol):
    """What a chart needs of a plan (`schedules.table.SchedulePlan`)."""

    name: str
    steps_per_epoch: int
    groups: Sequence[Any]
    schedule: Any

    def lines(self) -> Mapping[str, Sequence[float]]: ...


def write_preview_figure(path: Path, plans: Sequence[Plan]) -> None:
    """Draw learning rates and momentum over the run into a PNG.

    Raises:
        UserError: if the file cannot be written.
    """
    figure = _single(plans[0]) if len(plans) == 1 else _overlaid(plans)
    try:
        FigureCanvasAgg(figure).print_png(path)
    except OSError as error:
        raise UserError(f"--png: {path} cannot be written: {error.strerror}; name another file") from None


def _single(plan: Plan) -> Figure:
    """The figure that a run will leave behind, from the schedule instead of the record."""
    schedule = plan.schedule
    steps = [
        {
            "step": k,
            **{events.LR + g.name: g.lr0 * schedule.lr[g.name](k) for g in plan.groups},
            events.MOMENTUM: schedule.momentum(k),
        }
        for k in _points(schedule.steps)
    ]
    start = {"groups": [g.name for g in plan.groups], "steps_per_epoch": plan.steps_per_epoch}
    return lr_figure(start, steps, chart_text(plan.name, 60), gaps=False)


def _overlaid(plans: Sequence[Plan]) -> Figure:
    """Learning rate of every plan, groups of their own thin and dashed, and momentum; over epochs."""
    figure = new_figure(7, "Schedules")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top = 0.0
    for k, plan in enumerate(plans):
        colour = PALETTE[k % len(PALETTE)]
        at = _points(plan.schedule.steps)
        x = np.array(at) / plan.steps_per_epoch
        for n, (groups, line) in enumerate(plan.lines().items()):
            y = np.array(line)[at]
            top = max(top, y.max()) if n == 0 else top
            label = chart_text(plan.name, 40) if n == 0 else f"{chart_text(plan.name, 30)}: {groups}"
            style = {"linewidth": 2.2} if n == 0 else {"linewidth": 1.1, "linestyle": "--"}
            above.plot(x, y, color=colour, label=label, **style)
        below.plot(x, [plan.schedule.momentum(s) for s in at], color=colour, linewidth=1.6)
    above.set(ylabel="learning rate", ylim=(0, 1.08 * top or 1))
    below.set(ylabel="momentum", xlabel="epoch")
    clean_legend(figure, above)
    return figure


def _points(steps: int) -> list[int]:
    """At most some thousand steps, the last among them."""
    stride = max(1, steps // _MOST_POINTS)
    return sorted({*range(0, steps, stride), steps - 1})
