"""The figures of an ablation as text, and what a reader must know of its runs: what page and Markdown have in common."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from yolo_cosine.ablation.results import AblationResults, RunResult
    from yolo_cosine.ablation.stats import Paired
    from yolo_cosine.ablation.verdict import Verdict

NONE = "–"  # what is not there
_MOST_SEEDS = 12  # that are listed one by one


# --- figures ----------------------------------------------------------------------------------------------------------


def missing(value: float | None) -> bool:
    """Whether there is no such number."""
    return value is None or not math.isfinite(value)


def fraction(value: float | None, digits: int = 3) -> str:
    """A metric: 0.573."""
    return NONE if missing(value) else f"{value:.{digits}f}"


def points(difference: float | None) -> str:
    """A difference of metrics in points, hundredths: +0.42."""
    if missing(difference):
        return NONE
    text = f"{100 * difference:+.2f}"
    return "0.00" if text in ("+0.00", "-0.00") else text


def interval(low: float | None, high: float | None, words=points) -> str:
    """[-0.10, +0.94], with each end in `words`."""
    return NONE if missing(low) or missing(high) else f"[{words(low)}, {words(high)}]"


def p_value(p: float | None) -> str:
    """0.013, or <0.001."""
    return NONE if missing(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def percent(share: float | None) -> str:
    """87%; never 0% or 100% of something that is not certain."""
    if missing(share):
        return NONE
    return "<1%" if 0 < share < 0.01 else ">99%" if 0.99 < share < 1 else f"{share:.0%}"


def duration(seconds: float) -> str:
    """Hours and minutes, or less: 2 h 05 min."""
    if missing(seconds) or seconds <= 0:
        return NONE
    if seconds < 99.5:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def metric_name(metric: str) -> str:
    """mAP50-95 for metrics/mAP50-95."""
    return metric.removeprefix("metrics/")


def effect(pair: Paired) -> str:
    """Cohen's d of the differences, by Hedges' correction where there are pairs enough for it."""
    return fraction(pair.d_z if pair.d_z_hedges is None else pair.d_z_hedges, 2)


def short(name: str, longest: int = 60) -> str:
    """A name within a sentence."""
    return name if len(name) <= longest else name[: longest - 1] + "…"


def plain_text(value: Any) -> str:
    """A value of a configuration: text as it is, the rest as JSON writes it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


# --- what to know of the runs -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Concern:
    """Something to know before the figures are believed."""

    severity: Literal["error", "warning", "note"]
    text: str


def concerns(results: AblationResults, verdict: Verdict) -> list[Concern]:
    """Runs that failed, that do not count and why, that count with something the matter; then the notes."""
    states = {(run.variant, run.seed): run.state for run in results.runs}
    found: dict[tuple[str, str, str], list[int]] = {}
    for left in verdict.left_out:
        state = states.get((left.variant, left.seed))
        severity = "error" if state == "failed" else "note" if state == "waiting" else "warning"
        found.setdefault((severity, left.variant, f"left out: {left.reason}"), []).append(left.seed)
    out = {(left.variant, left.seed) for left in verdict.left_out}
    for run in results.runs:
        if (run.variant, run.seed) in out:
            continue
        if run.state == "failed":
            found.setdefault(("error", run.variant, f"failed: {run.detail or 'why is not known'}"), []).append(run.seed)
        if run.incidents:
            words = f"counts, although: {'; '.join(run.incidents)}"
            found.setdefault(("warning", run.variant, words), []).append(run.seed)
    runs = [Concern(key[0], f"{short(key[1])}, {seeds_text(seeds)}: {key[2]}") for key, seeds in found.items()]
    runs.sort(key=lambda concern: ("error", "warning", "note").index(concern.severity))
    return runs + [Concern("note", text) for text in results.notes]


def seeds_text(seeds: Sequence[int]) -> str:
    """seed 3, or seeds 0, 1 and 2."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    listed = [str(seed) for seed in seeds[:_MOST_SEEDS]]
    rest = len(seeds) - len(listed)
    listed.append(f"{rest} more" if rest else listed.pop())
    return f"seeds {', '.join(listed[:-1])} and {listed[-1]}"


def tally(results: AblationResults) -> dict[str, int]:
    """Runs in each state, for the states that there are."""
    states = [run.state for run in results.runs]
    return {state: states.count(state) for state in _STATES if state in states}


_STATES = ("finished", "stopped early", "failed", "interrupted", "waiting")


# --- cost -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What a variant's runs took, all seeds together."""

    variant: str
    steps: int  # that its runs are made of so far
    trained: int  # by themselves; the rest was taken over from a run that had the same beginning
    seconds: float  # of what they trained and evaluated themselves

    @property
    def shared(self) -> int:
        """Steps that were taken over."""
        return self.steps - self.trained


def steps_trained(run: RunResult) -> int:
    """The steps that a run took itself."""
    return run.steps_done - min(run.forked_at, run.steps_done)


def costs(results: AblationResults) -> list[Cost]:
    """The cost of each variant."""
    return [
        Cost(
            variant,
            sum(run.steps_done for run in runs),
            sum(steps_trained(run) for run in runs),
            sum(run.seconds for run in runs if not missing(run.seconds)),
        )
        for variant, runs in ((name, results.of(name)) for name in results.variants)
    ]


def sharing_text(all_costs: Sequence[Cost]) -> str:
    """In words, what sharing saved."""
    steps, shared = (sum(getattr(cost, name) for cost in all_costs) for name in ("steps", "shared"))
    if not shared:
        return f"{steps:,} steps, each trained by the run that it belongs to."
    return (
        f"{steps - shared:,} steps were trained for runs that have {steps:,} together: {shared:,} ({percent(shared / steps)}) "
        "were trained once, by a run with the same beginning, and taken over (pale)."
    )
