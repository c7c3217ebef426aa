"""The verdict in words, which claim no more than the numbers hold. Differences are told in points: 0.01 of a metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from yolo_cosine.ablation.results import AblationResults
from yolo_cosine.ablation.stats import Paired, detectable, pairs_needed, sd_interval
from yolo_cosine.errors import some_of

if TYPE_CHECKING:
    from yolo_cosine.ablation.verdict import Comparison, Verdict

POINT = 0.01
MANY = 1000  # seeds that nobody trains


def metric_name(metric: str) -> str:
    """`mAP50-95` for `metrics/mAP50-95`, `AP50-95 of person` for `AP50-95/person`."""
    room, _, name = metric.partition("/")
    return name if room == "metrics" else f"{room} of {name}"


def difference(told: Paired | None) -> str:
    """A difference and its interval, without a claim."""
    if told is None:
        return "no seed has a value of both"
    if told.identical:
        return f"exactly equal ({seeds(told.n)})"
    if told.low is None:
        return f"{points(told.mean)} points ({'1 seed' if told.n == 1 else f'the same with each of {told.n} seeds'})"
    return f"{points(told.mean, _digits(told.low, told.high))} points ({_interval(told)}, {seeds(told.n)})"


def is_shown(c: Comparison) -> bool:
    """Whether a comparison shows a difference: Holm's p is below 1 - confidence."""
    return c.p_adjusted is not None and c.p_adjusted < 1 - c.paired.confidence


def sentence(c: Comparison, tests: int) -> str:
    """All that one comparison of `tests` in the metric that counts says."""
    text = f"{_claim(c, tests)}."
    if c.p_adjusted is None or is_shown(c):
        return text
    return f"{text} {_excluded(c.paired, tests)} {_power(c.paired, tests)}"


def headline(comparisons: Sequence[Comparison], baseline: str, baseline_counts: bool) -> str:
    """One sentence on whether anything is better than the baseline, and how sure that is."""
    if not comparisons:
        return f"There is no variant but {baseline}, so nothing is compared."
    if not baseline_counts:
        return f"{baseline}, the baseline, has no run that counts, so nothing is compared."
    tests = sum(c.p_adjusted is not None for c in comparisons)
    if len(comparisons) == 1:
        return f"{_claim(comparisons[0], tests)}."
    if not any(c.paired for c in comparisons):
        return f"No variant has a seed where its run and that of {baseline} count, so nothing is compared."
    if not tests:
        return _untested(comparisons, baseline)
    return f"{'; '.join(_tested(comparisons, baseline, tests))}."


def notes(results: AblationResults, verdict: Verdict) -> tuple[str, ...]:
    """What a reader must know to take the figures for what they are."""
    tested = [c.paired for c in verdict.comparisons if c.p_adjusted is not None]
    found = [*_on_runs(results, verdict)]
    if tested:
        found += _on_seeds(results, verdict, tested)
    many = [
        c.paired for told in (verdict.others, verdict.classes) for group in told.values() for c in group if c.paired
    ]
    if many:
        chance = (
            f", and by chance alone about {100 * (1 - results.confidence):.2g} in 100 of their intervals leave 0 out"
            if any(p.low is not None for p in many)
            else ""
        )
        found.append(
            f"In the other metrics and in the classes nothing is claimed: they are many and not corrected for{chance}."
        )
    if results.select == "best":
        found.append(
            "The figure of a run is its best evaluation: a maximum over evaluations is higher than what the network does on "
            "new images, and favours the variant whose evaluations vary more."
        )
    if any(run.images for run in results.runs):
        found.append(
            "The intervals over images are another thing than those over seeds: they say how the figure of one trained network "
            "would vary on other photographs of the same kind. The two are kept apart; neither contains the other."
        )
    return tuple(found)


def points(value: float, digits: int | None = None, sign: bool = True) -> str:
    """A difference in points, as `+0.3`; by itself with as many digits as it takes not to look like 0, at most 4."""
    digits = _digits(value) if digits is None else digits
    text = f"{value / POINT:{'+' if sign else ''}.{digits}f}"
    return text if text.strip("+-0.") else text.strip("+-")


def seeds(n: int) -> str:
    """`3 seeds`."""
    return f"{n:,} seed" + "s" * (n != 1)


def _digits(*values: float) -> int:
    """The decimals, 1 to 4, with which none of the values that are not 0 looks like 0, in points."""
    return next((d for d in (1, 2, 3) if all(not v or round(abs(v) / POINT, d) for v in values)), 4)


def _p(p: float, alpha: float) -> str:
    """A p value, with the decimals that it takes to be on its own side of alpha."""
    if p < 0.001 < alpha:
        return "p < 0.001"
    digits = next((d for d in (2 if p >= 0.1 else 3, 4, 5) if (round(p, d) < alpha) == (p < alpha)), 6)
    return f"p = {p:.{digits}f}"


def _interval(told: Paired, flip: bool = False, sign: bool = True) -> str:
    ends = (-told.high, -told.low) if flip else (told.low, told.high)
    low, high = (points(end, _digits(told.low, told.high), sign) for end in ends)
    return f"{100 * told.confidence:g}% interval {low} to {high}"


def _figures(c: Comparison, tests: int, **how: bool) -> str:
    correction = " after Holm's correction" if tests > 1 else ""
    return f"{_interval(c.paired, **how)}, {seeds(c.paired.n)}, {_p(c.p_adjusted, 1 - c.paired.confidence)}{correction}"


def _amount(c: Comparison, tests: int) -> str:
    """By how much a variant that is shown to be better or worse is so, in figures without signs."""
    digits = _digits(c.paired.low, c.paired.high)
    figures = _figures(c, tests, flip=c.paired.mean < 0, sign=False)
    return f"{points(abs(c.paired.mean), digits, sign=False)} points ({figures})"


def _claim(c: Comparison, tests: int) -> str:
    """What may be said of one comparison, a sentence without its full stop."""
    told, name, base, metric = c.paired, c.variant, c.baseline, metric_name(c.metric)
    if told is None:
        return f"{name} cannot be compared with {base}: there is no seed where the runs of both count"
    if told.identical:
        where = "the one seed that both have" if told.n == 1 else f"each of {seeds(told.n)}"
        return f"{name} has exactly the {metric} of {base} with {where}, so there is no difference to judge"
    if told.n == 1:
        size, side = points(abs(told.mean), sign=False), "above" if told.mean > 0 else "below"
        return (
            f"{name} came out {size} points of {metric} {side} {base} with the one seed that both have, and one pair allows "
            "neither an interval nor a verdict"
        )
    if c.p_adjusted is None:
        return (
            f"{name} differs from {base} by {points(told.mean)} points of {metric} with each of {seeds(told.n)}, always the "
            "same: without a spread there is neither an interval nor a verdict"
        )
    if is_shown(c):
        side = "better" if told.mean > 0 else "worse"
        return f"{name} is {side} than {base} in {metric} by {_amount(c, tests)}"
    size = points(told.mean, _digits(told.low, told.high))
    return f"{name} cannot be told from {base} in {metric}: {size} points ({_figures(c, tests)})"


def _excluded(told: Paired, tests: int) -> str:
    """What the interval of a difference that is not shown excludes."""
    if told.low > 0 or told.high < 0:
        return f"Its interval by itself leaves 0 out, but of {tests} comparisons one does so by chance too often for a claim."
    digits = _digits(told.low, told.high)
    ends = ((told.high, "better"), (-told.low, "worse"))
    ends = [f"{points(end, digits, sign=False)} points {side}" for end, side in ends if end < 1]
    return f"More than {' or '.join(ends)} is unlikely." if ends else "No difference is excluded."


def _power(told: Paired, tests: int) -> str:
    """What this many seeds would have shown 4 times in 5 (power 0.8), at the strictest of Holm's steps, and what more would."""
    alpha = (1 - told.confidence) / tests
    shown = detectable(told.n, told.sd, alpha)
    if shown < 1:
        text = f"With its spread {seeds(told.n)} would show a true difference of {points(shown, sign=False)} points or more at least 4 times in 5"
    else:
        text = f"With its spread {seeds(told.n)} are too few to show any true difference 4 times in 5"
    wanted = [(POINT, "one of 1 point")]
    if abs(told.mean) > POINT:
        wanted.append((told.mean, "one as large as that seen"))
    needed = [(pairs_needed(told.sd, size, alpha), name) for size, name in wanted]
    more = [
        f"{f'about {n:,}' if n <= MANY else f'more than {MANY:,}'} seeds {name}" for n, name in needed if n > told.n
    ]
    return f"{text}; {', '.join(more)}." if more else f"{text}."


def _untested(comparisons: Sequence[Comparison], baseline: str) -> str:
    """The headline where there are pairs, and no test."""
    told = [c.paired for c in comparisons if c.paired]
    metric = metric_name(comparisons[0].metric)
    if all(p.identical for p in told) and len(told) == len(comparisons):
        return (
            f"Every variant has exactly the {metric} of {baseline} with every seed, so there is no difference to judge."
        )
    low, high = min(p.mean for p in told), max(p.mean for p in told)
    single = all(p.n == 1 for p in told)
    return (
        f"{'One seed allows' if single else 'Differences without a spread allow'} no verdict on any of the {len(comparisons)} "
        f"variants: the differences from {baseline} lie between {points(low)} and {points(high)} points of {metric}"
        f"{', and another seed may turn that round' if single else ''}."
    )


def _tested(comparisons: Sequence[Comparison], baseline: str, tests: int) -> list[str]:
    """The clauses of the headline of several variants, of which at least one could be tested."""
    shown = sorted((c for c in comparisons if is_shown(c)), key=lambda c: -c.paired.mean)
    better, worse = [c for c in shown if c.paired.mean > 0], [c for c in shown if c.paired.mean < 0]
    open_ = [c for c in comparisons if c.p_adjusted is not None and not is_shown(c)]
    equal = [c for c in comparisons if c.paired and c.paired.identical and c.paired.n > 1]
    rest = len(comparisons) - len(shown) - len(open_) - len(equal)  # one pair or none
    metric, clauses = metric_name(comparisons[0].metric), []
    if len(better) == 1:
        clauses.append(_claim(better[0], tests))
    elif better:
        each = some_of(better, lambda c: f"{c.variant} by {_amount(c, tests)}")
        clauses += [f"{len(better)} variants are better than {baseline} in {metric}: {each}"]
        clauses += ["which of them is best is not tested"]
    elif shown:
        clauses.append(f"No variant is shown to be better than {baseline} in {metric}")
    elif len(open_) == 1:
        clauses.append(_claim(open_[0], tests))
    else:
        clauses.append(_none_told(open_, baseline, len(comparisons), tests))
    if worse:
        clauses.append(f"worse: {some_of(worse, lambda c: f'{c.variant} by {_amount(c, tests)}')}")
    if shown and open_:
        which = open_[0].variant if len(open_) == 1 else f"{'' if equal or rest else 'the other '}{len(open_)}"
        clauses.append(f"{which} cannot be told from it")
    if equal:
        clauses.append(f"exactly equal to it: {some_of(equal, lambda c: c.variant)}")
    if rest:
        clauses.append(f"for {rest} the seeds are too few to say")
    return clauses


def _none_told(tested: Sequence[Comparison], baseline: str, variants: int, tests: int) -> str:
    """The clause for two or more variants none of which can be told from the baseline."""
    largest = max(tested, key=lambda c: abs(c.paired.mean))
    n = sorted({c.paired.n for c in tested})
    which = f"none of the {len(tested)} variants{' that could be tested' * (len(tested) < variants)}"
    size = points(largest.paired.mean, _digits(largest.paired.low, largest.paired.high))
    return (
        f"With {seeds(n[0]) if len(n) == 1 else f'{n[0]} to {seeds(n[-1])}'} {which} can be told from {baseline} in "
        f"{metric_name(largest.metric)}: the largest difference seen is {size} points ({largest.variant}; "
        f"{_figures(largest, tests)})"
    )


def _on_runs(results: AblationResults, verdict: Verdict) -> list[str]:
    """What the choice of the runs means."""
    found, out = [], {(run.variant, run.seed) for run in verdict.left_out}
    states = [run.state for run in results.runs]
    if out:
        found.append(
            f"Runs that do not count: {len(out)} of {len(states)}. A variant is compared over the seeds where its run and that "
            f"of {results.baseline} count."
        )
    if "failed" in states:
        found.append("A variant some of whose runs failed is judged by those that did not, which flatters it.")
    if {"waiting", "interrupted"} & set(states):
        found.append(
            "Not all runs are at their end: this verdict may change, and to stop as soon as one pleases claims differences too "
            "often."
        )
    marked = sum(bool(run.incidents) or run.state == "stopped early" for run in results.runs)
    if results.include_marked and marked:
        found.append(f"Runs with incidents count, as asked for ({marked}).")
    base = next((set(s.values) for s in verdict.summaries if s.variant == results.baseline), set())
    lonely = [s.variant for s in verdict.summaries if s.variant in results.variants and base and set(s.values) - base]
    lonely += [c.variant for c in verdict.comparisons if base - set(c.seeds) and c.variant not in lonely]
    if lonely and base:
        found.append(
            f"The means of single variants are over all their runs that count, also those without a partner "
            f"({some_of(lonely)}): a difference of means need not be the mean difference of the pairs."
        )
    return found


def _on_seeds(results: AblationResults, verdict: Verdict, tested: Sequence[Paired]) -> list[str]:
    """What the intervals over seeds, the tests and the figures on more seeds rest on."""
    alpha, percent = 1 - results.confidence, f"{100 * results.confidence:g}%"
    fewest = min(p.n for p in tested)
    found = [
        "The intervals over seeds say how the difference varies when training is repeated on this data set with other seeds. "
        "They say nothing about other data sets."
    ]
    normal = (
        "They and the p values are Student's t, for differences that are roughly normal, which a few seeds cannot check"
    )
    if 2 / 2**fewest > alpha:
        normal += f"; the sign-flip test, which does not need that, cannot come below p = {2 / 2**fewest:.2g} with {seeds(fewest)}"
    found.append(f"{normal}.")
    if len(tested) > 1:
        found.append(
            f"Each interval is a {percent} interval for its own comparison, not for all {len(tested)} at once. The p values are "
            "corrected for that (Holm), and they alone decide what is claimed. What so many seeds would show is reckoned for "
            f"the strictest of Holm's steps (p < {alpha / len(tested):.2g})."
        )
    if fewest <= 3:
        low, high = sd_interval(fewest, 1.0, results.confidence)
        found.append(
            f"With {seeds(fewest)} the spread itself is known roughly only: the true one may be {low:.1f} to {high:.1f} times as "
            f"large ({percent} interval), and so may what more seeds would show."
        )
    shown = [c for c in verdict.comparisons if is_shown(c)]
    if shown:
        found.append(
            "A difference that was picked because it came out large enough to be shown tends to be smaller in truth."
        )
    if sum(c.paired.mean > 0 for c in shown) > 1:
        found.append(f"Variants are compared with {results.baseline} only, not with each other.")
    return found
