"""The charts of an ablation's report, and of them those with a row for each variant or class.

They are Plotly's traces and layouts as plain values; what the page's script adds is said in `ablation_curves`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo_cosine.report.ablation_curves import Chart, evaluations_chart, losses_chart, lr_chart, plain
from yolo_cosine.report.ablation_words import costs, metric_name

if TYPE_CHECKING:
    from yolo_cosine.ablation.results import AblationResults
    from yolo_cosine.ablation.verdict import Verdict

_ROW, _MARGIN = 34, 90  # height of a row and of all around them, pixels


def ablation_charts(results: AblationResults, verdict: Verdict) -> dict[str, Chart]:
    """All charts that have something to show, by name, in the order of the page."""
    charts = {
        "lr": lr_chart(results),
        "curves": evaluations_chart(results, verdict),
        "losses": losses_chart(results, verdict),
        "finals": _finals(results, verdict),
        "classes": _classes(results, verdict),
        "cost": _cost(results),
    }
    return {name: chart for name, chart in charts.items() if chart["traces"]}


# --- final values, classes, cost --------------------------------------------------------------------------------------


def _finals(results: AblationResults, verdict: Verdict) -> Chart:
    """A row for each variant: its runs' values, joined by seed, with mean and interval below them."""
    own = {summary.variant: summary for summary in verdict.summaries if summary.n}
    rows = [name for name in results.variants if name in own]
    traces = []
    for seed in results.seeds:
        path = [(own[name].values[seed], k) for k, name in enumerate(rows) if seed in own[name].values]
        if len(path) > 1:
            x, y = zip(*path, strict=True)
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": plain(x),
                    "y": list(y),
                    "hoverinfo": "skip",
                    "line": {"width": 1},
                    "meta": {"part": "pair", "seed": seed},
                }
            )
    for k, name in enumerate(rows):
        summary, variant = own[name], results.variants.index(name)
        seeds = list(summary.values)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": plain(list(summary.values.values())),
                "y": [k] * len(seeds),
                "text": [f"seed {seed}" for seed in seeds],
                "hovertemplate": "%{text}: %{x:.4f}",
                "marker": {"size": 9, "opacity": 0.8},
                "meta": {"variant": variant, "part": "points"},
            }
        )
        mean = {
            "type": "scatter",
            "mode": "markers",
            "x": plain([summary.mean]),
            "y": [k + 0.27],
            "hovertemplate": "mean %{x:.4f}",
            "marker": {"size": 9, "symbol": "diamond"},
            "meta": {"variant": variant, "part": "mean"},
        }
        if np.isfinite([summary.low, summary.high]).all():
            mean["error_x"] = _error([summary.mean], [summary.low], [summary.high])
            mean["hovertemplate"] += f", interval {summary.low:.4f} to {summary.high:.4f}"
        traces.append(mean)
    return {
        "traces": traces,
        "layout": _rows_layout(rows, metric_name(results.metric), row=46),
    }


def _classes(results: AblationResults, verdict: Verdict) -> Chart:
    """Difference to the baseline of each class, the largest gain on top; a variant at a time."""
    traces, keys, layouts = [], {}, {}
    for k, variant in enumerate(results.variants):
        rows = [
            (name, comparison.paired)
            for name, comparisons in verdict.classes.items()
            for comparison in comparisons
            if comparison.variant == variant and comparison.paired is not None
        ]
        if not rows:
            continue
        rows.sort(key=lambda row: -row[1].mean)
        means = [100 * pair.mean for _, pair in rows]
        ends = [[100 * (pair.mean if end is None else end) for end in (pair.low, pair.high)] for _, pair in rows]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": plain(means),
                "y": list(range(len(rows))),
                "error_x": _error(means, *zip(*ends, strict=True)),
                "marker": {"size": 8},
                "hovertemplate": "%{x:+.2f} points",
                "meta": {"variant": k, "part": "points", "key": str(k)},
            }
        )
        keys[str(k)] = variant
        layouts[str(k)] = _rows_layout([name for name, _ in rows], "points over the baseline", row=22)
        layouts[str(k)]["xaxis"] |= {"zeroline": True, "zerolinewidth": 2}
    return {"traces": traces, "layout": {}, "keys": keys, "layouts": layouts}


def _cost(results: AblationResults) -> Chart:
    own = costs(results)
    rows = [cost.variant for cost in own]
    parts = (
        ("steps", "trained", "trained by itself", [cost.trained for cost in own]),
        ("steps", "shared", "taken over", [cost.shared for cost in own]),
        ("time", "trained", "minutes", [cost.seconds / 60 for cost in own]),
    )
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "x": plain(values),
            "y": list(range(len(rows))),
            "width": 0.6,
            "hovertemplate": f"%{{x:{',.0f' if key == 'steps' else ',.1f'}}} {label}",
            "meta": {"part": part, "key": key},
        }
        for key, part, label, values in parts
        if any(values)
    ]
    return {
        "traces": traces,
        "layout": {**_rows_layout(rows, ""), "barmode": "stack"},
        "keys": {"steps": "steps", "time": "time"},
        "layouts": {
            "steps": {"xaxis": {"title": {"text": "steps, all seeds"}}},
            "time": {"xaxis": {"title": {"text": "minutes, all seeds"}}},
        },
    }


# --- pieces -----------------------------------------------------------------------------------------------------------


def _error(middle: Sequence[float], low: Sequence[float], high: Sequence[float]) -> dict[str, Any]:
    middle, low, high = (np.asarray(values, dtype=np.float64) for values in (middle, low, high))
    return {
        "type": "data", "symmetric": False, "array": plain(high - middle), "arrayminus": plain(middle - low),
        "thickness": 1.5, "width": 4,
    }  # fmt: skip


def _rows_layout(rows: Sequence[str], title: str, row: int = _ROW) -> dict[str, Any]:
    """A layout with a named row for each entry, the first on top. The names are raw: the script makes them harmless."""
    return {
        "height": _MARGIN + row * max(len(rows), 2),
        "xaxis": {"title": {"text": title}, "automargin": True},
        "yaxis": {
            "tickmode": "array", "tickvals": list(range(len(rows))), "ticktext": list(rows), "automargin": True,
            "range": [len(rows) - 0.4, -0.6], "fixedrange": True, "showgrid": False, "zeroline": False,
        },
        "hovermode": "closest",
    }  # fmt: skip
