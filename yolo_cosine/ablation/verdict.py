"""What the numbers of an ablation allow to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yolo_cosine.ablation.stats import Paired


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
