"""The chart of a learning-rate range test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg

from yolo_cosine.errors import UserError
from yolo_cosine.report.figures import clean_legend, new_figure
from yolo_cosine.sinks.drawing import PALETTE, chart_text


def write_lr_range_figure(path: Path, points: Sequence[Any], suggestion: Any, name: str) -> None:
    """Draw loss over learning rate, raw and smoothed, with what was read from it.

    Args:
        points: with `lr`, `loss` and `smoothed` each (`engine.lr_range.Point`).
        suggestion: with `lr`, `lowest` and `exploded` (`engine.lr_range.Suggestion`).

    Raises:
        UserError: if the file cannot be written.
    """
    figure = new_figure(5.5, f"Loss over learning rate, {chart_text(name, 60)}")
    axes = figure.subplots()
    rates = [p.lr for p in points]
    axes.plot(rates, [p.loss for p in points], color="#9CC4DE", linewidth=1, label="loss of an update")
    axes.plot(rates, [p.smoothed for p in points], color=PALETTE[0], linewidth=2.2, label="smoothed")
    marks = {"suggestion": suggestion.lr, "lowest loss": suggestion.lowest, "exploded": suggestion.exploded}
    for k, (label, lr) in enumerate(marks.items()):
        if lr is not None:
            axes.axvline(lr, color=PALETTE[1 + k], linestyle=("-", "--", ":")[k], label=f"{label}: {lr:.2g}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    top = sorted(p.loss for p in points)[int(0.97 * (len(points) - 1))]
    axes.set_ylim(0, 1.15 * top)
    clean_legend(figure, axes)
    try:
        FigureCanvasAgg(figure).print_png(path)
    except OSError as error:
        raise UserError(f"--png: {path} cannot be written: {error.strerror}; name another file") from None
