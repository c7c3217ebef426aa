"""The tables of an ablation's report as text, cell by cell, for the page and for Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from yolo_cosine.events import COCO_METRICS
from yolo_cosine.report import ablation_words as words
from yolo_cosine.report.ablation_words import NONE, fraction, interval, missing, points

if TYPE_CHECKING:
    from yolo_cosine.ablation.results import AblationResults, RunResult
    from yolo_cosine.ablation.verdict import Comparison, Summary, Verdict

OTHERS_MEANING = "Mean ± standard deviation, and the difference to the baseline in points. No claim is made from these."
CLASSES_MEANING = (
    "Difference to the baseline in AP50-95, in points, with its interval. With many classes some intervals miss zero by "
    "chance alone."
)
IMAGES_MEANING = (
    "How far the figure of one trained network would move on other images of the same kind, by drawing its evaluation "
    "images anew with replacement. Nothing is trained again for it, so it does not say what another seed would come to, "
    "and two intervals that overlap do not say that two schedules are alike: both come from the same images."
)
COST_HEAD = ("variant", "runs", "steps", "trained", "taken over", "time")
LR_HEAD = ("variant", "first step", "highest", "at epoch", "last step")
IMAGE_HEAD = ("variant", "seed", "metric", "value", "interval", "images", "resamples")


def title(results: AblationResults) -> str:
    """What the report is called."""
    return f"{'Ablation' if results.source else 'Comparison'} {results.name}".strip()


# --- the result -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A variant in the table: by itself, and against the baseline. None where nothing counts."""

    variant: str
    baseline: bool
    summary: Summary | None
    comparison: Comparison | None


def table_rows(results: AblationResults, verdict: Verdict) -> list[Row]:
    """A row for each variant: the best mean first, at the end those without one."""
    summaries = {s.variant: s for s in verdict.summaries if s.variant in results.variants}
    against = {comparison.variant: comparison for comparison in verdict.comparisons}
    ordered = [*summaries, *(name for name in results.variants if name not in summaries)]
    return [Row(name, name == results.baseline, summaries.get(name), against.get(name)) for name in ordered]


def table_text(results: AblationResults) -> str:
    """What the columns of the table mean."""
    which = "the last evaluation" if results.select == "last" else "the best evaluation"
    return (
        f"{words.metric_name(results.metric)} of {which} of each run: mean ± standard deviation between seeds. Differences "
        f"are to the baseline, seed by seed, in points (one point is 0.01), with the {results.confidence:.0%} interval "
        "of their mean. p is that of the paired t-test after Holm's correction for the number of variants; the effect size "
        "is the mean difference in standard deviations of the differences (Hedges). “Next pair” is the chance that one "
        "further pair of runs, with a seed of their own, comes out better than the baseline."
    )


def result_head(results: AblationResults) -> tuple[str, ...]:
    """The columns of the table."""
    metric = words.metric_name(results.metric)
    return (
        "variant",
        "seeds",
        metric,
        "points",
        f"{results.confidence:.0%} interval",
        "p (Holm)",
        "effect",
        "next pair",
    )


def result_cells(row: Row) -> tuple[str, ...]:
    """A variant's row, as many cells as `result_head` has."""
    own = row.summary
    name = f"{row.variant} (baseline)" if row.baseline else row.variant
    if own is None:
        cells = ("0", NONE)
    else:
        spread = "" if missing(own.sd) else f" ± {fraction(own.sd)}"
        cells = (str(own.n), fraction(own.mean) + spread)
    pair = row.comparison.paired if row.comparison else None
    if pair is None:
        return (name, *cells, *(NONE,) * 5)
    pairs = "" if own and pair.n == own.n else f" ({pair.n} pair{'' if pair.n == 1 else 's'})"
    return (
        name,
        *cells,
        points(pair.mean) + pairs,
        interval(pair.low, pair.high),
        words.p_value(row.comparison.p_adjusted),
        words.effect(pair),
        words.percent(pair.chance_next_positive),
    )


def others_of(results: AblationResults, verdict: Verdict) -> list[str]:
    """The other metrics in which some run has a number, in COCO's order."""
    known = [name for name in COCO_METRICS if name in verdict.others]
    known += [name for name in verdict.others if name not in known]
    return [name for name in known if any(not missing(run.value(name)) for run in results.runs)]


def other_cells(
    results: AblationResults, verdict: Verdict, metrics: Sequence[str]
) -> list[tuple[str, list[tuple[str, str]]]]:
    """For each variant, and each of the metrics: mean and spread, and the difference with its interval."""
    against = {(c.variant, metric): c for metric in metrics for c in verdict.others[metric]}
    return [
        (
            row.variant,
            [
                (
                    _mean_and_sd(_counted_values(results, row.summary, metric)),
                    _difference(against.get((row.variant, metric))),
                )
                for metric in metrics
            ],
        )
        for row in table_rows(results, verdict)
    ]


def class_rows(results: AblationResults, verdict: Verdict) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of the classes: AP of the baseline, and each variant's difference."""
    others = [name for name in results.variants if name != results.baseline]
    base = next((row.summary for row in table_rows(results, verdict) if row.baseline), None)
    rows = []
    for name, comparisons in verdict.classes.items():
        own = {comparison.variant: comparison for comparison in comparisons}
        values = _counted_values(results, base, f"AP50-95/{name}")
        rows.append((name, _mean_and_sd(values), *(_difference(own.get(variant)) or NONE for variant in others)))
    return ("class", f"{results.baseline} (baseline)", *others), rows


def _difference(comparison: Comparison | None) -> str:
    if comparison is None or comparison.paired is None:
        return ""
    pair = comparison.paired
    return points(pair.mean) + ("" if missing(pair.low) else f" {interval(pair.low, pair.high)}")


def _counted_values(results: AblationResults, summary: Summary | None, metric: str) -> list[float]:
    """What a variant's runs that count have in a metric, without those that have no number."""
    if summary is None:
        return []
    values = (run.value(metric) for run in results.of(summary.variant) if run.seed in summary.values)
    return [value for value in values if not missing(value)]


def _mean_and_sd(values: Sequence[float]) -> str:
    if not values:
        return NONE
    mean = sum(values) / len(values)
    if len(values) == 1:
        return fraction(mean)
    return f"{fraction(mean)} ± {fraction(math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1)))}"


# --- the runs ---------------------------------------------------------------------------------------------------------


def lr_rows(results: AblationResults) -> list[tuple[str, ...]]:
    """The learning rates of each variant's longest run in a few figures; the columns are LR_HEAD."""
    rows = []
    for name in results.variants:
        run = max(results.of(name), key=lambda run: len(run.lr), default=None)
        if run is None or not np.isfinite(run.lr).any():
            rows.append((name, *(NONE,) * 4))
            continue
        top = int(np.nanargmax(run.lr))
        epoch = f"{run.lr_steps[top] / run.steps_per_epoch:.4g}" if run.steps_per_epoch else NONE
        rows.append((name, f"{run.lr[0]:.4g}", f"{run.lr[top]:.4g}", epoch, f"{run.lr[-1]:.4g}"))
    return rows


def loss_head(results: AblationResults) -> tuple[str, ...]:
    """The columns of `loss_rows`."""
    return ("variant", *(name.replace("_", " ") for name in _loss_names(results)))


def loss_rows(results: AblationResults) -> list[tuple[str, ...]]:
    """Each variant's losses in the last epoch of its runs that are at their end."""
    ended = {name: [run for run in results.of(name) if run.chosen and len(run.loss_steps)] for name in results.variants}
    return [
        (name, *(_mean_and_sd([float(run.losses[loss][-1]) for run in runs if loss in run.losses]) for loss in names))
        for names in [_loss_names(results)]
        for name, runs in ended.items()
    ]


def _loss_names(results: AblationResults) -> list[str]:
    return list(dict.fromkeys(name for run in results.runs for name in run.losses))


def cost_rows(results: AblationResults) -> list[tuple[str, ...]]:
    """A row for each variant, of all its seeds together; the columns are COST_HEAD."""
    return [
        (
            cost.variant,
            str(sum(run.steps_done > 0 for run in results.of(cost.variant))),
            *(f"{steps:,}" for steps in (cost.steps, cost.trained, cost.shared)),
            words.duration(cost.seconds),
        )
        for cost in words.costs(results)
    ]


def image_rows(results: AblationResults) -> list[tuple[str, ...]]:
    """A row for each run and metric with an interval over the images; the columns are IMAGE_HEAD."""
    return [
        (
            run.variant,
            str(run.seed),
            words.metric_name(metric),
            fraction(run.value(metric)),
            f"{interval(own.low, own.high, fraction)}, {own.confidence:.0%}",
            f"{own.images:,}",
            f"{own.resamples:,}",
        )
        for run in results.runs
        for metric, own in run.images.items()
    ]


def run_head(results: AblationResults) -> tuple[str, ...]:
    """The columns of `run_rows`."""
    metric = words.metric_name(results.metric)
    return ("variant", "seed", "state", metric, "steps", "shared until", "what happened", "folder")


def run_rows(results: AblationResults) -> list[tuple[str, ...]]:
    """A row for each run."""
    return [
        (
            run.variant,
            str(run.seed),
            run.state,
            fraction(run.value(results.metric), 4),
            _steps(run),
            f"step {run.forked_at:,}" if run.forked_at else NONE,
            "; ".join([*run.incidents, *([run.detail] if run.detail else [])]) or NONE,
            folder_of(results, run),
        )
        for run in results.runs
    ]


def _steps(run: RunResult) -> str:
    if not run.steps and not run.steps_done:
        return NONE
    return f"{run.steps_done:,}" + ("" if run.steps_done == run.steps else f" of {run.steps:,}")


def folder_of(results: AblationResults, run: RunResult) -> str:
    """A run's folder, from the report's where it lies below it."""
    try:
        return run.run_dir.relative_to(results.folder).as_posix()
    except ValueError:
        return str(run.run_dir)


def change_rows(results: AblationResults) -> list[tuple[str, str]]:
    """Each variant and what it sets, as on the command line."""
    rows = []
    for name in results.variants:
        own = results.changes.get(name, {})
        rows.append((name, ", ".join(f"{key}={words.plain_text(value)}" for key, value in own.items()) or "nothing"))
    return rows


def fact_rows(results: AblationResults) -> list[tuple[str, str]]:
    """Seeds, and each fact of the runs; with whose it is where it is not the same for all."""
    rows = [("seeds", _seeds(results))]
    runs = [run for run in results.runs if run.facts]
    for name in dict.fromkeys(name for run in runs for name in run.facts):
        holders: dict[str, list[RunResult]] = {}
        for run in runs:
            holders.setdefault(words.plain_text(run.facts[name]) if name in run.facts else NONE, []).append(run)
        if len(holders) == 1:
            rows.append((name, next(iter(holders))))
        else:
            rows.append((name, "differs: " + "; ".join(f"{v} ({_whose(results, own)})" for v, own in holders.items())))
    return rows


def _seeds(results: AblationResults) -> str:
    own = {name: ", ".join(str(run.seed) for run in results.of(name)) or NONE for name in results.variants}
    if len(set(own.values())) == 1:
        return next(iter(own.values()))
    return "differ: " + "; ".join(f"{name}: {seeds}" for name, seeds in own.items())


def _whose(results: AblationResults, runs: Sequence[RunResult]) -> str:
    """The runs by name, whole variants by theirs alone."""
    parts = []
    for variant in dict.fromkeys(run.variant for run in runs):
        own = [run.seed for run in runs if run.variant == variant]
        whole = len(own) == sum(bool(run.facts) for run in results.of(variant))
        parts.append(variant if whole else f"{variant}, {words.seeds_text(own)}")
    return "; ".join(parts)
