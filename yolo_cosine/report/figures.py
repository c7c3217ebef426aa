"""The PNG plots of a run, drawn from its `metrics.jsonl` and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from yolo_cosine import events
from yolo_cosine.sinks.drawing import PALETTE, chart_text
from yolo_cosine.sinks.jsonl import Record, read_records

_WIDTH, _DPI = 12.0, 100  # inches and dots an inch: 1200 px
_MOST_CLASSES = 20  # bars in a panel


def write_figures(run_dir: Path) -> list[Path]:
    """Write `plots/lr.png`, `plots/losses.png` and `plots/map.png` into a run's folder.

    A figure without anything to show, as `map.png` of a run that was never evaluated, is not written.

    Returns:
        The files that were written.

    Raises:
        UserError: if `metrics.jsonl` cannot be read.
    """
    run_dir = Path(run_dir)
    records = read_records(run_dir / "metrics.jsonl")
    starts = [r for r in records if r["event"] == "start"]
    if not starts:
        return []
    kinds = {kind: [r for r in records if r["event"] == kind] for kind in ("step", "epoch", "eval")}
    name = chart_text(run_dir.resolve().name, 60)
    figures = {
        "lr.png": lr_figure(starts[-1], kinds["step"], name),
        "losses.png": losses_figure(starts[-1], kinds["step"], kinds["epoch"], name),
        "map.png": map_figure(starts[-1], kinds["eval"], name),
    }
    written = []
    for file, figure in figures.items():
        if figure is not None:
            path = run_dir / "plots" / file
            path.parent.mkdir(exist_ok=True)
            FigureCanvasAgg(figure).print_png(path)
            written.append(path)
    return written


def lr_figure(start: Record, steps: Sequence[Record], name: str, gaps: bool = True) -> Figure | None:
    """Learning rate of every group and momentum, as applied. A short warmup is drawn a second time, stretched.

    `gaps`: break a line where steps are missing, as where early stopping jumps ahead.
    """
    if not steps:
        return None
    pair = _broken if gaps else lambda x, y: (x, y)
    x = _column(steps, "step")
    rates = _same_lines({group: _column(steps, events.LR + group) for group in start["groups"]})
    momentum = _column(steps, events.MOMENTUM)
    main = next(iter(rates.values()))
    # the warmup is over where the first group, the weights, comes to its highest rate
    peak = int(np.argmax(np.nan_to_num(main) >= 0.999 * np.nanmax(main))) if np.isfinite(main).any() else 0
    stretched = 5 <= peak < len(x) / 2
    ceiling = max(float(np.nanmax(line[peak:], initial=0)) for line in rates.values())
    highest = max(float(np.nanmax(line, initial=0)) for line in rates.values())
    dwarfed = highest > 3 * ceiling > 0

    figure = new_figure(6.5, f"Learning rate, {name}")
    panels = figure.subplots(
        2, 2 if stretched else 1, sharex="col", squeeze=False,
        height_ratios=(3, 1), width_ratios=(1, 2) if stretched else None,
    )  # fmt: skip
    for column in panels.T:
        for k, (groups, line) in enumerate(rates.items()):
            style = {"color": PALETTE[k % len(PALETTE)], "linestyle": ("-", "--")[k // len(PALETTE) % 2]}
            # groups share most of their way: the later ones are thinner, so that all can be seen
            width = 1.8 + 1.6 * (len(rates) - 1 - k)
            column[0].plot(*pair(x, line), label=groups, linewidth=width, **style)
        column[1].plot(*pair(x, momentum), color="#555555", linewidth=2)
        column[1].set_xlabel("step")
        column[1].xaxis.set_major_locator(_whole_numbers())
        _epoch_axis(column[0], start["steps_per_epoch"])
    whole = panels[0, -1]
    panels[0, 0].set_ylabel("learning rate")
    panels[1, 0].set_ylabel("momentum")
    if stretched:
        end = x[peak] + (x[peak] - x[0]) * 0.25
        panels[0, 0].set(xlim=(x[0], end), title="warmup, stretched" + (" (log scale)" if dwarfed else ""))
        whole.set_title("whole run")
    if dwarfed:
        # one group begins so high that the others would be flat lines below it
        panels[0, 0].set_yscale("log", nonpositive="mask")
        if stretched:
            whole.set_ylim(0, 1.08 * ceiling)
            peaks = {groups: np.nanmax(line, initial=0) for groups, line in rates.items()}
            over = "; ".join(f"{groups}, up to {top:.3g}" for groups, top in peaks.items() if top > 1.08 * ceiling)
            note = f"cut off in the warmup: {over}"
            whole.text(0.98, 0.95, note, transform=whole.transAxes, ha="right", va="top", color="#555555")
    if not dwarfed or stretched:
        whole.set_ylim(bottom=0)
    clean_legend(figure, whole)
    return figure


def losses_figure(start: Record, steps: Sequence[Record], epochs: Sequence[Record], name: str) -> Figure | None:
    """Each training loss in a panel: the means over the logging intervals, and over the epochs."""
    intervals = [r for r in steps if any(events.LOSS + loss in r for loss in start["losses"])]
    if not intervals and not epochs:
        return None
    across = min(len(start["losses"]), 3)
    down = -(-len(start["losses"]) // across)
    figure = new_figure(4.5 * down, f"Training losses, {name}")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, loss in zip(panels, start["losses"], strict=False):
        axes.plot(
            _column(intervals, "step"), _column(intervals, events.LOSS + loss), color="#9CC4DE", linewidth=1,
            marker="." if len(intervals) < 3 else None, label="mean over the logging interval",
        )  # fmt: skip
        axes.plot(
            _column(epochs, "step"), _column(epochs, events.EPOCH_LOSS + loss), color=PALETTE[0], linewidth=2,
            marker=_marker(epochs), markersize=4, label="mean over the epoch",
        )  # fmt: skip
        axes.set(title=loss.replace("_", " "), xlabel="step")
        axes.xaxis.set_major_locator(_whole_numbers())
        _epoch_axis(axes, start["steps_per_epoch"])
    for axes in panels[len(start["losses"]) :]:
        axes.set_axis_off()
    panels[0].set_ylabel("loss")
    clean_legend(figure, panels[0])
    return figure


def map_figure(start: Record, evaluations: Sequence[Record], name: str) -> Figure | None:
    """mAP, precision and recall over the epochs, the best evaluation marked, and AP of each class in it."""
    if not evaluations:
        return None
    maps = _column(evaluations, events.MAP)
    best = int(np.nanargmax(maps)) if np.isfinite(maps).any() else len(maps) - 1
    per_class = {
        key.removeprefix(events.CLASS_AP): value
        for key, value in evaluations[best].items()
        if key.startswith(events.CLASS_AP) and value is not None
    }
    figure = new_figure(5.5, f"Evaluation, {name}")
    bars = len(per_class) > 1
    panels = figure.subplots(1, 2 if bars else 1, squeeze=False, width_ratios=(3, 2) if bars else None)[0]
    axes, x = panels[0], (_column(evaluations, "step") + 1) / start["steps_per_epoch"]
    lines = {"mAP50-95": events.MAP, "mAP50": events.MAP50, "precision": events.PRECISION, "recall": events.RECALL}
    highest = 0.0
    for k, (label, metric) in enumerate(lines.items()):
        thick = 2.8 if metric == events.MAP else 1.6
        values = _column(evaluations, metric)
        highest = max(highest, np.nanmax(values, initial=0))
        axes.plot(x, values, color=PALETTE[k], linewidth=thick, marker=_marker(evaluations), markersize=4, label=label)
    if np.isfinite(maps[best]):
        axes.plot(
            x[best], maps[best], "*", color=PALETTE[0], markersize=18, markeredgecolor="white", zorder=5, clip_on=False
        )
        axes.set_title(f"best mAP50-95: {maps[best]:.3f} at epoch {x[best]:.4g} (star)")
    axes.set(xlabel="epoch", xlim=(0, x.max() * 1.03), ylim=(0, min(max(1.1 * highest, 0.05), 1)))
    axes.xaxis.set_major_locator(_whole_numbers())
    clean_legend(figure, axes)
    if bars:
        _class_bars(panels[1], per_class)
    return figure


def _class_bars(axes: Axes, per_class: dict[str, float]) -> None:
    ordered = sorted(per_class.items(), key=lambda item: item[1])
    title = "AP50-95 of each class, best evaluation"
    if len(ordered) > _MOST_CLASSES:
        half = _MOST_CLASSES // 2
        title = f"AP50-95, best evaluation: the {half} best and\nthe {half} worst of {len(ordered)} classes"
        ordered = [*ordered[:half], *ordered[-half:]]
        axes.axhline(half - 0.5, color="#777777", linewidth=1, linestyle=":")
    places = np.arange(len(ordered))
    values = np.array([value for _, value in ordered])
    axes.barh(places, values, color="#9CC4DE", height=0.75)
    for place, value in zip(places, values, strict=True):
        axes.annotate(
            f"{value:.3f}", (value, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9
        )
    axes.set_yticks(places, [chart_text(name) for name, _ in ordered])
    lowest = len(ordered) - max(len(ordered), 8)  # room for eight, so that two bars are no walls
    axes.set(
        xlim=(0, max(values.max() * 1.15, 0.05)), ylim=(lowest - 0.6, len(ordered) - 0.4), title=title, xlabel="AP50-95"
    )
    axes.set_axisbelow(True)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def new_figure(height: float, title: str) -> Figure:
    """An empty figure of the width that all have; `height` in inches."""
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
    figure.suptitle(title, fontsize=15)
    return figure


def clean_legend(figure: Figure, axes: Axes) -> None:
    """Put one legend, that of `axes`, below all, and clean up."""
    for each in figure.axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=max(len(labels), 1), frameon=False, fontsize=11)


def _whole_numbers() -> MaxNLocator:
    return MaxNLocator(integer=True, steps=[1, 2, 5, 10])


def _epoch_axis(axes: Axes, steps_per_epoch: int) -> None:
    """A second axis above, with the epochs that are over."""
    above = axes.secondary_xaxis("top", functions=(lambda s: s / steps_per_epoch, lambda e: e * steps_per_epoch))
    above.set_xlabel("epoch", color="#555555")
    above.tick_params(colors="#555555")


def _column(records: Sequence[Record], name: str) -> np.ndarray:
    """(N,) float64, NaN where a record has no number under `name`."""
    return np.array([np.nan if r.get(name) is None else r[name] for r in records], dtype=np.float64)


def _same_lines(lines: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Lines that are equal become one, which carries all their names."""
    merged: list[tuple[list[str], np.ndarray]] = []
    for name, line in lines.items():
        twin = next((names for names, other in merged if np.array_equal(line, other, equal_nan=True)), None)
        if twin is None:
            merged.append(([name], line))
        else:
            twin.append(name)
    return {", ".join(names): line for names, line in merged}


def _broken(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The line with a gap where steps are left out, as where early stopping jumps ahead."""
    jumps = np.flatnonzero(np.diff(x) > 1) + 1
    return np.insert(x, jumps, np.nan), np.insert(y, jumps, np.nan)


def _marker(points: Sequence[Record]) -> str | None:
    return "o" if len(points) <= 40 else None
