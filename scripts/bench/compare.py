"""Two groups of seeds: means, and how far apart they may truly be. Pure: figures in, figures out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from yolo_cosine import events
from yolo_cosine.ablation.stats import mean_interval, paired

CONFIDENCE = 0.95
WEIGHTS = ("best", "last")
METRICS = (events.MAP, events.MAP50)

Scores = Mapping[str, Mapping[int, Mapping[str, Mapping[str, float]]]]  # trainer, seed, weights, metric


def welch_interval(
    a: Sequence[float], b: Sequence[float], confidence: float = CONFIDENCE
) -> tuple[float, float, float]:
    """Mean(a) - mean(b) and the t interval of the true difference of independent groups, NaN where one has one value.

    The spreads need not be the same (B. L. Welch, Biometrika 34 (1947)): t with the degrees of freedom of Welch and
    Satterthwaite.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    difference = float(x.mean() - y.mean())
    if min(len(x), len(y)) < 2:
        return difference, math.nan, math.nan
    u, v = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    if u + v == 0:
        return difference, difference, difference
    freedom = (u + v) ** 2 / (u**2 / (len(x) - 1) + v**2 / (len(y) - 1))
    half = float(special.stdtrit(freedom, (1 + confidence) / 2) * math.sqrt(u + v))
    return difference, difference - half, difference + half


def compare(scores: Scores) -> dict[str, Any]:
    """Of best and last weights, and of each metric: both means, and the difference ours - Ultralytics.

    The seeds of the two trainers have nothing in common but their numbers (each makes its own weights and order of
    them), so the interval that holds is the unpaired one; the paired one is given for seeds that both have.
    """
    return {weights: {metric: _compared(scores, weights, metric) for metric in METRICS} for weights in WEIGHTS}


def _compared(scores: Scores, weights: str, metric: str) -> dict[str, Any]:
    columns = {name: {seed: row[weights][metric] for seed, row in rows.items()} for name, rows in scores.items()}
    found: dict[str, Any] = {}
    for name, column in columns.items():
        if column:
            mean, low, high = mean_interval(list(column.values()), CONFIDENCE)
            found[name] = {"n": len(column), **_named(mean, low, high)}
    ours, theirs = columns.get("ours", {}), columns.get("ultralytics", {})
    if ours and theirs:
        found["unpaired"] = _named(*welch_interval(list(ours.values()), list(theirs.values())))
    both = sorted(ours.keys() & theirs.keys())
    if both:
        pairs = paired([ours[seed] - theirs[seed] for seed in both], CONFIDENCE)
        found["paired"] = {"n": pairs.n, "mean": pairs.mean, "low": pairs.low, "high": pairs.high, "p": pairs.p}
    return found


def _named(mean: float, low: float, high: float) -> dict[str, float | None]:
    return {"mean": mean, **{key: None if math.isnan(v) else v for key, v in (("low", low), ("high", high))}}


def report(scores: Scores, comparison: Mapping[str, Any]) -> str:
    """The scores of each seed and what follows from them, for people."""
    seeds = sorted({seed for rows in scores.values() for seed in rows})
    lines = []
    for weights in WEIGHTS:
        for metric in METRICS:
            name = metric.removeprefix("metrics/")
            lines.append(
                f"{name} of {weights}.pt"
                + "".join(f"{f'seed {seed}':>10}" for seed in seeds)
                + "      mean (95% interval)"
            )
            found = comparison[weights][metric]
            for trainer, rows in scores.items():
                cells = "".join(f"{rows[s][weights][metric]:10.4f}" if s in rows else " " * 10 for s in seeds)
                lines.append(f"  {trainer:<{len(name) + len(weights) + 5}}{cells}      {_said(found.get(trainer))}")
            for kind in ("unpaired", "paired"):
                if kind in found:
                    lines.append(f"  ours - ultralytics, {kind}: {_said(found[kind], '+')}")
            lines.append("")
    return "\n".join(lines).rstrip()


def _said(found: Mapping[str, Any] | None, sign: str = "") -> str:
    if found is None:
        return "none yet"
    if found["low"] is None:
        return f"{found['mean']:{sign}.4f} (too few for an interval)"
    return f"{found['mean']:{sign}.4f} ({found['low']:{sign}.4f} to {found['high']:{sign}.4f})"
