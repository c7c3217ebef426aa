"""The lines of an ablation's report over steps and epochs, as Plotly's traces and layouts: plain values.

Colours, and every text that a user chose, are put in by the page's script: a trace carries in `meta` the number of its
variant, its part (`line`, `band`, `seed`, ...), its seed, and the `key` of the choice that shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import stdtrit

from yolo_cosine.events import PRECISION, RECALL
from yolo_cosine.report.ablation_tables import others_of
from yolo_cosine.report.ablation_words import metric_name
from yolo_cosine.sinks.drawing import PALETTE

if TYPE_CHECKING:
    from yolo_cosine.ablation.results import AblationResults, RunResult
    from yolo_cosine.ablation.verdict import Verdict

Chart = dict[str, Any]  # traces, layout, and where there is a choice: keys (key: label), layouts (key: layout)
Line = tuple[np.ndarray, np.ndarray]  # x and y, (N,) float64 each
Readings = dict[tuple[str, int], dict[str, Line]]  # variant and seed: key: what was read

_DASHES = ("solid", "dash", "dot", "dashdot")  # each for as many variants as there are colours
_POINTS = 500  # of a line
_ALL_POINTS = 60_000  # of all means and bands of a chart, and of all its single runs
_DIFFERENCE = "difference"  # to the baseline, in the metric that counts


# --- learning rates ---------------------------------------------------------------------------------------------------


def lr_chart(results: AblationResults) -> Chart:
    """The learning rate of the weights, as applied: a line for each variant, more where its runs had others."""
    traces, n = [], len(results.variants)
    for k, variant in enumerate(results.variants):
        for run in _distinct(results.of(variant)):
            x, y = thin(*_filled(run), _POINTS)
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
    for run in sorted(runs, key=lambda run: -max(run.lr_steps, default=-1)):
        same = (np.allclose(run.lr, np.interp(run.lr_steps, k.lr_steps, k.lr), 1e-3) for k in kept)
        if len(run.lr) and not any(same):
            kept.append(run)
    return kept


def _filled(run: RunResult) -> tuple[np.ndarray, np.ndarray]:
    """The curve with more points on its straight parts, for the pointer to find: those that it has are joined by lines."""
    between = np.round(np.linspace(run.lr_steps[0], run.lr_steps[-1], _POINTS // 2))
    x = np.union1d(run.lr_steps, between)
    return x, np.interp(x, run.lr_steps, run.lr)


# --- curves over the epochs -------------------------------------------------------------------------------------------


def evaluations_chart(results: AblationResults, verdict: Verdict) -> Chart:
    """The metrics over the epochs."""
    return _curves(results, verdict, *_evaluations(results, verdict))


def losses_chart(results: AblationResults, verdict: Verdict) -> Chart:
    """The losses over the epochs."""
    return _curves(results, verdict, *_losses(results))


def _evaluations(results: AblationResults, verdict: Verdict) -> tuple[Readings, dict[str, str]]:
    """What there is of each run's evaluations, and what to call it; after the metric that counts, its difference."""
    names = [results.metric, *others_of(results, verdict), PRECISION, RECALL]
    seen = {name for run in results.runs for e in run.evaluations for name, v in e.scalars.items() if np.isfinite(v)}
    keys = {name: metric_name(name) for name in dict.fromkeys(names) if name in seen}
    readings: Readings = {}
    for run in results.runs:
        x = np.array(
            [(e.step + 1) / run.steps_per_epoch if run.steps_per_epoch else e.epoch + 1 for e in run.evaluations]
        )
        own = {name: (x, np.array([e.scalars.get(name, np.nan) for e in run.evaluations], float)) for name in keys}
        readings[run.variant, run.seed] = own
    for (variant, seed), own in readings.items():
        base = readings.get((results.baseline, seed), {}).get(results.metric)
        if variant != results.baseline and base is not None:
            x, (y, other) = _common([own[results.metric], base])
            own[_DIFFERENCE] = (x, 100 * (y - other))
    if any(_DIFFERENCE in own and len(own[_DIFFERENCE][0]) for own in readings.values()):
        first, *rest = keys.items()
        keys = dict([first, (_DIFFERENCE, f"{first[1]}, points over the baseline"), *rest])
    return readings, keys


def _losses(results: AblationResults) -> tuple[Readings, dict[str, str]]:
    readings = {}
    for run in results.runs:
        x = (np.asarray(run.loss_steps, float) + 1) / (run.steps_per_epoch or 1)
        readings[run.variant, run.seed] = {name: (x, np.asarray(values, float)) for name, values in run.losses.items()}
    names = dict.fromkeys(name for run in results.runs for name in run.losses)
    return readings, {name: name.replace("_", " ") for name in names}


def _curves(results: AblationResults, verdict: Verdict, readings: Readings, keys: Mapping[str, str]) -> Chart:
    """Mean and band over the seeds that count, and every run by itself, which the page shows on demand."""
    counted = {summary.variant: summary.values for summary in verdict.summaries}
    few, most = (
        int(np.clip(_ALL_POINTS / max(lines * len(keys), 1), 60, _POINTS))
        for lines in (len(results.runs), 3 * len(results.variants))
    )
    traces = []
    for k, variant in enumerate(results.variants):
        seeds = counted.get(variant, {})
        for key in keys:
            pairs = counted.get(results.baseline, {}) if key == _DIFFERENCE else seeds
            own = {run.seed: readings[variant, run.seed].get(key) for run in results.of(variant)}
            own = {seed: line for seed, line in own.items() if line and np.isfinite(line[1]).any()}
            those = [line for seed, line in own.items() if seed in seeds and seed in pairs]
            traces += _mean_and_band(those, k, key, results.confidence, most)
            for seed, line in own.items():
                trace = _line(*thin(*line, few), k, "seed", key, seed, width=1, template="%{y:.4g}")
                # a variant of which nothing counts yet is shown by its runs
                trace["meta"] |= {"counts": seed in seeds and seed in pairs, "alone": not those}
                traces.append(trace)
    return {
        "traces": traces,
        "layout": _layout("epoch", ""),
        "keys": dict(keys),
        "layouts": {
            key: {"yaxis": {"title": {"text": label}, "zeroline": key == _DIFFERENCE}} for key, label in keys.items()
        },
    }


def _mean_and_band(lines: Sequence[Line], k: int, key: str, confidence: float, most: int) -> Iterable[dict[str, Any]]:
    """The mean where all runs have a value (elsewhere it would jump as runs end), and its t interval at each point."""
    if not lines:
        return
    x, values = _common(lines)
    there = np.isfinite(values).all(0)
    x, values = x[there], values[:, there]
    n, mean = len(lines), values.mean(0)
    if n > 1 and len(x) > 1:
        half = stdtrit(n - 1, (1 + confidence) / 2) * values.std(0, ddof=1) / np.sqrt(n)
        low, high = thin(x, mean - half, most), thin(x, mean + half, most)
        yield {
            "type": "scatter", "mode": "lines", "fill": "toself", "hoverinfo": "skip",
            "x": plain(np.concatenate((low[0], high[0][::-1])), 5), "y": plain(np.concatenate((low[1], high[1][::-1])), 5),
            "line": {"width": 0}, "meta": {"variant": k, "part": "band", "key": key},
        }  # fmt: skip
    yield _line(*thin(x, mean, most), k, "line", key, width=2.4, template="%{y:.4g}")


def _common(lines: Sequence[Line]) -> tuple[np.ndarray, np.ndarray]:
    """x (N,) that all lines have, and their y (lines, N)."""
    own = [dict(zip(np.round(x, 6).tolist(), y.tolist(), strict=True)) for x, y in lines]
    x = sorted(set(own[0]).intersection(*own[1:]))
    return np.array(x), np.array([[line[at] for at in x] for line in own]).reshape(len(own), len(x))


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


def plain(values: Iterable[float], digits: int = 6) -> list[float | None]:
    """Numbers for JSON; None for what is none."""
    return [float(f"{v:.{digits}g}") if np.isfinite(v) else None for v in np.asarray(values, dtype=np.float64).tolist()]


def _line(
    x: np.ndarray, y: np.ndarray, k: int, part: str, key: str | None = None, seed: int | None = None, *,
    width: float, template: str,
) -> dict[str, Any]:  # fmt: skip
    meta = {"variant": k, "part": part} | ({"key": key} if key else {}) | ({} if seed is None else {"seed": seed})
    mode = "lines+markers" if len(x) == 1 else "lines"
    return {
        "type": "scatter", "mode": mode, "x": plain(x, 5), "y": plain(y, 5), "line": {"width": width, "dash": style(k)},
        "hovertemplate": template, "meta": meta,
    }  # fmt: skip


def _layout(x: str, y: str) -> dict[str, Any]:
    return {
        "height": 380,
        "xaxis": {"title": {"text": x}, "rangemode": "tozero", "unifiedhovertitle": {"text": f"{x} %{{x}}"}},
        "yaxis": {"title": {"text": y}, "automargin": True},
        "hovermode": "x unified",
    }


def style(variant: int) -> str:
    """The dash pattern of a variant: the colours begin anew after the last."""
    return _DASHES[variant // len(PALETTE) % len(_DASHES)]
