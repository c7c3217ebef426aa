"""The charts of an ablation as Plotly's traces and layouts, plain values.

Colours, and every text that a user chose, are put in by the page's script: a trace carries in `meta` the number of its
variant, its part (`line`, `band`, `seed`, ...), its seed, and the `key` of the choice that shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtrit

from yolo_cosine.events import COCO_METRICS, PRECISION, RECALL
from yolo_cosine.report.ablation_tables import others_of
from yolo_cosine.report.ablation_words import costs, metric_name
from yolo_cosine.sinks.drawing import PALETTE

if TYPE_CHECKING:
    from yolo_cosine.ablation.results import AblationResults, RunResult
    from yolo_cosine.ablation.verdict import Verdict

Chart = dict[str, Any]  # traces, layout, and where there is a choice: keys (key: label), layouts (key: layout)
Series = dict[str, tuple[np.ndarray, np.ndarray]]  # key: x and y, (N,) float64 each

DASHES = ("solid", "dash", "dot", "dashdot")  # each for as many variants as there are colours
_POINTS = 500  # of a line
_ALL_POINTS = 60_000  # of the single seeds' lines of a chart, together
_ROW, _MARGIN = 34, 76  # height of a row and of all around them, pixels


def ablation_charts(results: AblationResults, verdict: Verdict) -> dict[str, Chart]:
    """All charts that have something to show, by name, in the order of the page."""
    charts = {
        "lr": _lr(results),
        "curves": _curves(results, verdict, _evaluations(results, verdict), _metric_keys(results, verdict)),
        "losses": _curves(results, verdict, _losses, _loss_keys(results)),
        "finals": _finals(results, verdict),
        "classes": _classes(results, verdict),
        "cost": _cost(results),
    }
    return {name: chart for name, chart in charts.items() if chart["traces"]}


def style(variant: int) -> str:
    """The dash pattern of a variant: the colours begin anew after the last."""
    return DASHES[variant // len(PALETTE) % len(DASHES)]


# --- learning rates ---------------------------------------------------------------------------------------------------


def _lr(results: AblationResults) -> Chart:
    traces, n = [], len(results.variants)
    for k, variant in enumerate(results.variants):
        for run in _distinct(results.of(variant)):
            x, y = thin(*_broken(run.lr_steps, run.lr), _POINTS)
            # variants share most of their way: the later ones are thinner, so that all can be seen
            width = 2 + (1.4 * (n - 1 - k) if n <= 5 else 0)
            traces.append(_line(x / (run.steps_per_epoch or 1), y, k, "line", width=width, template="%{y:.4g}"))
    unit = "epoch" if all(run.steps_per_epoch for run in results.runs if len(run.lr)) else "step"
    return {
        "traces": traces,
        "layout": _layout(unit, "learning rate of the weights"),
        "keys": {"linear": "linear scale", "log": "logarithmic scale"},
        "layouts": {
            "linear": {"yaxis": {"type": "linear", "rangemode": "tozero"}},
            "log": {"yaxis": {"type": "log", "exponentformat": "power", "dtick": 1}},
        },
    }


def _distinct(runs: Sequence[RunResult]) -> list[RunResult]:
    """Of runs whose rates agree as far as both go, the longest: one, where the seed has no part in the schedule."""
    kept: list[RunResult] = []
    for run in sorted(runs, key=lambda run: -len(run.lr)):
        n = len(run.lr)
        same = (np.array_equal(run.lr_steps, k.lr_steps[:n]) and np.allclose(run.lr, k.lr[:n], 1e-6) for k in kept)
        if n and not any(same):
            kept.append(run)
    return kept


def _broken(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The line with a gap where steps are left out, as where early stopping jumps ahead."""
    usual = np.median(np.diff(x)) if len(x) > 1 else 1
    jumps = np.flatnonzero(np.diff(x) > 1.5 * usual) + 1
    return np.insert(np.asarray(x, float), jumps, np.nan), np.insert(np.asarray(y, float), jumps, np.nan)


# --- curves over the epochs -------------------------------------------------------------------------------------------


def _metric_keys(results: AblationResults, verdict: Verdict) -> dict[str, str]:
    names = [results.metric, *others_of(results, verdict), PRECISION, RECALL]
    seen = {name for run in results.runs for e in run.evaluations for name, v in e.scalars.items() if np.isfinite(v)}
    return {name: metric_name(name) for name in dict.fromkeys(names) if name in seen}


def _loss_keys(results: AblationResults) -> dict[str, str]:
    return {name: name.replace("_", " ") for name in dict.fromkeys(name for run in results.runs for name in run.losses)}


def _evaluations(results: AblationResults, verdict: Verdict) -> Callable[[RunResult], Series]:
    names = _metric_keys(results, verdict)

    def series(run: RunResult) -> Series:
        x = np.array([(e.step + 1) / run.steps_per_epoch if run.steps_per_epoch else e.epoch + 1 for e in run.evaluations])
        return {m: (x, np.array([e.scalars.get(m, np.nan) for e in run.evaluations], float)) for m in names}

    return series


def _losses(run: RunResult) -> Series:
    x = (np.asarray(run.loss_steps, float) + 1) / (run.steps_per_epoch or 1)
    return {name: (x, np.asarray(values, float)) for name, values in run.losses.items()}


def _curves(
    results: AblationResults, verdict: Verdict, series: Callable[[RunResult], Series], keys: Mapping[str, str]
) -> Chart:
    """Mean and band over the seeds that count, and every run by itself, which the page shows on demand."""
    counted = {summary.variant: summary.values for summary in verdict.summaries}
    most = int(np.clip(_ALL_POINTS / max(len(results.runs) * len(keys), 1), 60, _POINTS))
    traces = []
    for k, variant in enumerate(results.variants):
        runs = [(run, series(run)) for run in results.of(variant)]
        for key in keys:
            lines = [(run, *own[key]) for run, own in runs if key in own and np.isfinite(own[key][1]).any()]
            those = [(x, y) for run, x, y in lines if run.seed in counted.get(variant, ())]
            traces += _mean_and_band(those, k, key, results.confidence)
            for run, x, y in lines:
                counts = run.seed in counted.get(variant, ())
                trace = _line(*thin(x, y, most), k, "seed", key, run.seed, width=1, template="%{y:.4g}")
                # a variant of which nothing counts yet is shown by its runs
                trace["meta"] |= {"counts": counts, "alone": not those}
                traces.append(trace)
    return {
        "traces": traces,
        "layout": _layout("epoch", ""),
        "keys": dict(keys),
        "layouts": {key: {"yaxis": {"title": {"text": label}}} for key, label in keys.items()},
    }


def _mean_and_band(
    lines: Sequence[tuple[np.ndarray, np.ndarray]], k: int, key: str, confidence: float
) -> Iterable[dict[str, Any]]:
    """The mean where all runs have a value (elsewhere it would jump as runs end), and its t interval at each point."""
    if not lines:
        return
    own = [dict(zip(np.round(x, 6).tolist(), y.tolist(), strict=True)) for x, y in lines]
    x = np.array(sorted(set(own[0]).intersection(*own[1:])))
    values = np.array([[line[at] for at in x.tolist()] for line in own]).reshape(len(own), len(x))
    there = np.isfinite(values).all(0)
    x, values = x[there], values[:, there]
    n, mean = len(lines), values.mean(0)
    if n > 1 and len(x) > 1:
        half = stdtrit(n - 1, (1 + confidence) / 2) * values.std(0, ddof=1) / np.sqrt(n)
        low, high = thin(x, mean - half, _POINTS), thin(x, mean + half, _POINTS)
        yield {
            "type": "scatter", "mode": "lines", "fill": "toself", "hoverinfo": "skip",
            "x": plain(np.concatenate((low[0], high[0][::-1]))), "y": plain(np.concatenate((low[1], high[1][::-1]))),
            "line": {"width": 0}, "meta": {"variant": k, "part": "band", "key": key},
        }  # fmt: skip
    yield _line(*thin(x, mean, _POINTS), k, "line", key, width=2.4, template="%{y:.4g}")


# --- final values, classes, cost --------------------------------------------------------------------------------------


def _finals(results: AblationResults, verdict: Verdict) -> Chart:
    """A row for each variant: its runs' values, joined by seed, with mean and interval below them."""
    own = {summary.variant: summary for summary in verdict.summaries}
    rows = [name for name in results.variants if name in own]
    traces = []
    for seed in results.seeds:
        path = [(own[name].values[seed], k) for k, name in enumerate(rows) if seed in own[name].values]
        if len(path) > 1:
            x, y = zip(*path, strict=True)
            traces.append(
                {
                    "type": "scatter", "mode": "lines", "x": plain(x), "y": list(y), "hoverinfo": "skip",
                    "line": {"width": 1}, "meta": {"part": "pair", "seed": seed},
                }  # fmt: skip
            )
    for k, name in enumerate(rows):
        summary, variant = own[name], results.variants.index(name)
        seeds = list(summary.values)
        traces.append(
            {
                "type": "scatter", "mode": "markers", "x": plain(list(summary.values.values())), "y": [k] * len(seeds),
                "text": [f"seed {seed}" for seed in seeds], "hovertemplate": "%{text}: %{x:.4f}",
                "marker": {"size": 9, "opacity": 0.8}, "meta": {"variant": variant, "part": "points"},
            }  # fmt: skip
        )
        mean = {
            "type": "scatter", "mode": "markers", "x": plain([summary.mean]), "y": [k + 0.27],
            "hovertemplate": "mean %{x:.4f}", "marker": {"size": 9, "symbol": "diamond"},
            "meta": {"variant": variant, "part": "mean"},
        }  # fmt: skip
        if np.isfinite([summary.low, summary.high]).all():
            mean["error_x"] = _error([summary.mean], [summary.low], [summary.high])
            mean["hovertemplate"] += f", interval {summary.low:.4f} to {summary.high:.4f}"
        traces.append(mean)
    return {"traces": traces, "layout": _rows_layout(rows, f"{metric_name(results.metric)}, one point for each seed")}


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
                "type": "scatter", "mode": "markers", "x": plain(means), "y": list(range(len(rows))),
                "error_x": _error(means, *zip(*ends, strict=True)), "marker": {"size": 8},
                "hovertemplate": "%{x:+.2f} points", "meta": {"variant": k, "part": "points", "key": str(k)},
            }  # fmt: skip
        )
        keys[str(k)] = variant
        layouts[str(k)] = _rows_layout([name for name, _ in rows], "points of AP50-95 over the baseline", row=22)
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
            "type": "bar", "orientation": "h", "x": plain(values), "y": list(range(len(rows))), "width": 0.6,
            "hovertemplate": f"%{{x:{',.0f' if key == 'steps' else ',.1f'}}} {label}", "meta": {"part": part, "key": key},
        }  # fmt: skip
        for key, part, label, values in parts
        if any(values)
    ]
    return {
        "traces": traces,
        "layout": {**_rows_layout(rows, ""), "barmode": "stack"},
        "keys": {"steps": "steps", "time": "time"},
        "layouts": {
            "steps": {"xaxis": {"title": {"text": "steps of all seeds: solid trained, pale taken over"}}},
            "time": {"xaxis": {"title": {"text": "minutes of all seeds, training and evaluation"}}},
        },
    }


# --- pieces -----------------------------------------------------------------------------------------------------------


def thin(x: np.ndarray, y: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """A line (N,) of at most `most` >= 4 points: both ends, and of each part between the lowest and the highest.

    A gap (NaN) stays one.
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(x) <= most:
        return x, y
    kept = {0, len(x) - 1}
    for part in np.array_split(np.arange(1, len(x) - 1), max((most - 2) // 3, 1)):
        here, gaps = part[np.isfinite(y[part])], part[~np.isfinite(y[part])]
        kept.update(gaps[:1].tolist())
        if len(here):
            kept.update((int(here[np.argmin(y[here])]), int(here[np.argmax(y[here])])))
    order = sorted(kept)
    return x[order], y[order]


def plain(values: Iterable[float]) -> list[float | int | None]:
    """Numbers for JSON, six digits each; None for what is none."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in np.asarray(values, dtype=np.float64).tolist()]


def _line(
    x: np.ndarray, y: np.ndarray, k: int, part: str, key: str | None = None, seed: int | None = None, *,
    width: float, template: str,
) -> dict[str, Any]:  # fmt: skip
    meta = {"variant": k, "part": part} | ({"key": key} if key else {}) | ({} if seed is None else {"seed": seed})
    mode = "lines+markers" if len(x) == 1 else "lines"
    return {
        "type": "scatter", "mode": mode, "x": plain(x), "y": plain(y), "line": {"width": width, "dash": style(k)},
        "hovertemplate": template, "meta": meta,
    }  # fmt: skip


def _error(middle: Sequence[float], low: Sequence[float], high: Sequence[float]) -> dict[str, Any]:
    middle, low, high = (np.asarray(values, dtype=np.float64) for values in (middle, low, high))
    return {
        "type": "data", "symmetric": False, "array": plain(high - middle), "arrayminus": plain(middle - low),
        "thickness": 1.5, "width": 4,
    }  # fmt: skip


def _layout(x: str, y: str) -> dict[str, Any]:
    return {
        "height": 380,
        "xaxis": {"title": {"text": x}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": y}, "automargin": True},
        "hovermode": "x unified",
    }


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
