"""What the numbers of an ablation allow to say.

Every variant is compared with the baseline over the seeds where the runs of both count. In the metric that counts a
difference is claimed where Holm's adjusted p of the paired t-test, over the variants, is below 1 - confidence; in the other
metrics and the classes nothing is claimed. The sentences are made in `words`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from yolo_cosine.ablation import words
from yolo_cosine.ablation.results import AblationResults, RunResult
from yolo_cosine.ablation.stats import Paired, holm, mean_interval, paired
from yolo_cosine.events import CLASS_AP, COCO_METRICS

OTHERS = COCO_METRICS[:6]  # the mAPs: over all IoUs, at 0.5, at 0.75, of small, medium and large objects


@dataclass(frozen=True)
class Comparison:
    """A variant against the baseline in one metric."""

    variant: str
    baseline: str
    metric: str
    seeds: tuple[int, ...]  # the pairs
    variant_values: tuple[float, ...]
    baseline_values: tuple[float, ...]
    paired: Paired | None  # None where there is no pair
    p_adjusted: float | None  # Holm's, over the variants; None with fewer than two pairs
    sentence: str  # in words, no more than the numbers hold


@dataclass(frozen=True)
class Summary:
    """A variant by itself in the metric that counts."""

    variant: str
    n: int
    mean: float
    sd: float  # between seeds, n - 1; NaN for one
    low: float  # of the mean, t; NaN for one
    high: float
    values: Mapping[int, float]  # seed: value, of the runs that count


@dataclass(frozen=True)
class LeftOut:
    """A run that does not count."""

    variant: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Verdict:
    """Everything that the report says in figures and words."""

    headline: str  # one sentence
    sentences: tuple[str, ...]  # one for each variant but the baseline
    metric: str
    summaries: tuple[Summary, ...]  # the best mean first
    comparisons: tuple[Comparison, ...]  # in the metric that counts, in the order of the variants
    others: Mapping[str, tuple[Comparison, ...]]  # other metric (sizes, mAP50, ...): the same, without a claim
    classes: Mapping[str, tuple[Comparison, ...]]  # class name: the same
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]  # on power, on what kind of spread was measured, on what was left out


def decide(results: AblationResults) -> Verdict:
    """The verdict on an ablation. No state of it is an error: what cannot be said, as with one seed, is said to be so."""
    left_out = tuple(
        LeftOut(run.variant, run.seed, reason) for run in results.runs if (reason := why_left_out(run, results))
    )
    out = {(run.variant, run.seed) for run in left_out}
    counted = [run for run in results.runs if (run.variant, run.seed) not in out]
    baseline = results.baseline
    comparisons = _tell(_compare(results, counted, results.metric), results)
    others = {metric: _compare(results, counted, metric) for metric in OTHERS if metric != results.metric}
    names = dict.fromkeys(name for run in counted for name in run.chosen.per_class)
    classes = {name: _compare(results, counted, CLASS_AP + name) for name in names}
    summaries = [_summary(variant, counted, results) for variant in dict.fromkeys((baseline, *results.variants))]
    verdict = Verdict(
        headline=words.headline(comparisons, baseline, any(run.variant == baseline for run in counted)),
        sentences=tuple(c.sentence for c in comparisons),
        metric=results.metric,
        summaries=tuple(sorted(summaries, key=lambda s: (math.isnan(s.mean), -s.mean))),  # without a value: last
        comparisons=comparisons,
        others={metric: told for metric, told in others.items() if any(c.paired for c in told)},
        classes={name: told for name, told in classes.items() if any(c.paired for c in told)},
        left_out=left_out,
        notes=(),
    )
    return replace(verdict, notes=words.notes(results, verdict))


def why_left_out(run: RunResult, results: AblationResults) -> str:
    """The reason why a run does not count, in words; empty for one that does."""
    if run.state == "waiting":
        return "not begun"
    if run.state in ("failed", "interrupted"):
        begun = "failed" if run.state == "failed" else "not at its end"
        return f"{begun}: {run.detail}" if run.detail else begun
    if run.chosen is None:
        return "it has no evaluation that could count"
    if not math.isfinite(run.value(results.metric)):
        return f"it has no {words.metric_name(results.metric)}"
    early = ("it stopped early, and was not trained as long as the others",) if run.state == "stopped early" else ()
    return "" if results.include_marked else "; ".join((*early, *run.incidents))


def _values(runs: Sequence[RunResult], variant: str, metric: str) -> dict[int, float]:
    """The finite values of a metric, by seed."""
    values = {run.seed: run.value(metric) for run in runs if run.variant == variant}
    return {seed: value for seed, value in values.items() if math.isfinite(value)}


def _compare(results: AblationResults, runs: Sequence[RunResult], metric: str) -> tuple[Comparison, ...]:
    """Every variant against the baseline in one metric, without a claim."""
    compared = []
    base = _values(runs, results.baseline, metric)
    for variant in results.variants:
        if variant == results.baseline:
            continue
        mine = _values(runs, variant, metric)
        seeds = tuple(seed for seed in base if seed in mine)
        pairs = [(mine[seed], base[seed]) for seed in seeds]
        told = paired([a - b for a, b in pairs], results.confidence) if pairs else None
        variant_values, baseline_values = tuple(a for a, _ in pairs), tuple(b for _, b in pairs)
        sentence = words.difference(told)
        compared.append(
            Comparison(variant, results.baseline, metric, seeds, variant_values, baseline_values, told, None, sentence)
        )
    return tuple(compared)


def _tell(comparisons: Sequence[Comparison], results: AblationResults) -> tuple[Comparison, ...]:
    """The same in the metric that counts: with Holm's p, and sentences that claim what it allows to claim."""
    adjusted = holm([c.paired.p if c.paired else None for c in comparisons])
    tests = sum(p is not None for p in adjusted)
    told = [replace(c, p_adjusted=p) for c, p in zip(comparisons, adjusted, strict=True)]
    return tuple(replace(c, sentence=words.sentence(c, tests)) for c in told)


def _summary(variant: str, runs: Sequence[RunResult], results: AblationResults) -> Summary:
    values = _values(runs, variant, results.metric)
    mean, low, high = mean_interval(list(values.values()), results.confidence)
    sd = float(np.std(list(values.values()), ddof=1)) if len(values) > 1 else math.nan
    return Summary(variant, len(values), mean, sd, low, high, values)
