"""What is said of an ablation: which runs count, what is claimed, and that the words hold no more than the numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo_cosine.ablation import words
from yolo_cosine.ablation.results import AblationResults, Evaluation, ImageInterval, RunResult
from yolo_cosine.ablation.stats import detectable
from yolo_cosine.ablation.verdict import LeftOut, decide
from yolo_cosine.events import MAP, MAP50

CLAIM = re.compile(r"\b(is|are) (better|worse) than|\bworse: ")
NAN = math.nan


def run(variant: str, seed: int, value: float = 0.5, **more) -> RunResult:
    scalars = {MAP: value, MAP50: value + 0.2, "metrics/mAP-small": NAN}
    evaluation = Evaluation(99, 9, scalars, {"cat": value + 0.1, "dog": NAN})
    return RunResult(variant, seed, Path("runs"), **{"state": "finished", "chosen": evaluation, **more})


def ablation(table: Mapping[str, Sequence[float]], *others: RunResult, **more) -> AblationResults:
    """Runs by variant and seed 0, 1, ...; the first variant is the baseline; None is a run that is not there yet."""
    runs = [
        run(variant, seed, value) if value is not None else run(variant, seed, state="waiting", chosen=None)
        for variant, values in table.items()
        for seed, value in enumerate(values)
    ]
    instead = {(r.variant, r.seed): r for r in others}
    runs = [instead.pop((r.variant, r.seed), r) for r in runs] + list(instead.values())
    variants = tuple(dict.fromkeys(r.variant for r in runs))
    settings = {"metric": MAP, "select": "last", "baseline": variants[0], "changes": {}, **more}
    seeds = tuple(dict.fromkeys(r.seed for r in runs))
    return AblationResults("x", Path("."), variants=variants, seeds=seeds, runs=tuple(runs), **settings)


def simulated(rng, seeds: int, effects: Sequence[float], spread: float = 0.01) -> AblationResults:
    """Variants a, b, ... with true effects on a baseline; a seed has an effect that all of its runs share."""
    shared = 0.4 + 0.02 * rng.standard_normal(seeds)
    table = {"base": shared + spread * rng.standard_normal(seeds)}
    for name, effect in zip("abcdefgh", effects, strict=False):
        table[name] = shared + effect + spread * rng.standard_normal(seeds)
    return ablation(table)


BASE = [0.50, 0.52, 0.49, 0.51, 0.50]
BETTER = [0.514, 0.535, 0.503, 0.524, 0.515]  # + 1.4 1.5 1.3 1.4 1.5
WORSE = [0.470, 0.491, 0.459, 0.481, 0.471]
LIKE = [0.505, 0.512, 0.494, 0.507, 0.502]  # + 0.5 -0.8 0.4 -0.3 0.2


# which runs count


def test_a_run_counts_that_came_to_its_end_without_incident():
    failed = run("b", 0, state="failed", chosen=None, detail="loss not finite at step 7")
    others = (
        failed,
        run("b", 1, state="interrupted", chosen=None),
        run("b", 2, state="waiting", chosen=None),
        run("b", 3, state="stopped early", incidents=("it went back 4 steps",)),
        run("b", 4, incidents=("the batch was halved", "a worker died")),
        run("b", 5, chosen=None),
        run("b", 6, NAN),
        run("b", 7),
    )
    verdict = decide(ablation({"base": [0.5] * 8}, *others))
    early = "it stopped early, and was not trained as long as the others; it went back 4 steps"
    reasons = [
        "failed: loss not finite at step 7", "not at its end", "not begun", early, "the batch was halved; a worker died",
        "it has no evaluation that could count", "it has no mAP50-95",
    ]  # fmt: skip
    assert verdict.left_out == tuple(LeftOut("b", seed, reason) for seed, reason in enumerate(reasons))
    assert verdict.comparisons[0].seeds == (7,)
    text = " ".join(verdict.notes)
    assert "Runs that do not count: 7 of 16." in text
    assert "flatters" in text and "Not all runs are at their end" in text

    marked = decide(ablation({"base": [0.5] * 8}, *others, include_marked=True))
    assert [out.seed for out in marked.left_out] == [0, 1, 2, 5, 6]
    assert marked.comparisons[0].seeds == (3, 4, 7)
    assert "Runs with incidents count, as asked for (2)." in marked.notes


def test_pairs_are_the_seeds_of_both():
    verdict = decide(ablation({"base": [0.5, None, 0.52, 0.54], "b": [0.51, 0.9, None, 0.56]}))
    (comparison,) = verdict.comparisons
    assert (comparison.seeds, comparison.variant_values, comparison.baseline_values) == (
        (0, 3),
        (0.51, 0.56),
        (0.5, 0.54),
    )
    assert comparison.paired.mean == pytest.approx(0.015)
    summary = next(s for s in verdict.summaries if s.variant == "b")
    assert summary.values == {0: 0.51, 1: 0.9, 3: 0.56}
    assert summary.mean == pytest.approx(0.6566667) and summary.low < summary.mean < summary.high
    assert any("those without a partner" in note for note in verdict.notes)


def test_summaries_come_the_best_first_and_those_without_a_value_last():
    verdict = decide(ablation({"base": BASE, "none": [None] * 5, "worse": WORSE, "better": BETTER, "one": [0.1]}))
    assert [s.variant for s in verdict.summaries] == ["better", "base", "worse", "one", "none"]
    one, none = verdict.summaries[3:]
    assert one.n == 1 and one.mean == 0.1 and math.isnan(one.sd) and math.isnan(one.low)
    assert none.n == 0 and math.isnan(none.mean) and none.values == {}


# what is claimed


def test_a_difference_that_is_shown():
    verdict = decide(ablation({"base": BASE, "b": BETTER, "c": LIKE, "d": WORSE}))
    b, c, d = verdict.comparisons
    assert b.p_adjusted < 0.001 and d.p_adjusted < 0.001 and c.p_adjusted > 0.5
    assert b.sentence == (
        "b is better than base in mAP50-95 by 1.4 points (95% interval 1.3 to 1.5, 5 seeds, p < 0.001 after Holm's correction)."
    )
    assert d.sentence == (
        "d is worse than base in mAP50-95 by 3.0 points (95% interval 2.8 to 3.1, 5 seeds, p < 0.001 after Holm's correction)."
    )
    assert verdict.headline == (
        f"{b.sentence[:-1]}; worse: d by 3.0 points (95% interval 2.8 to 3.1, 5 seeds, p < 0.001 after Holm's correction); "
        "c cannot be told from it."
    )
    assert verdict.sentences == (b.sentence, c.sentence, d.sentence)


def test_a_difference_that_is_not_shown_is_told_with_what_is_excluded_and_what_would_have_shown():
    (c,) = decide(ablation({"base": BASE, "c": LIKE})).comparisons
    assert c.paired.mean == pytest.approx(0.0) and c.paired.sd == pytest.approx(0.0054314, abs=1e-6)
    assert c.sentence == (
        "c cannot be told from base in mAP50-95: 0.0 points (95% interval -0.7 to +0.7, 5 seeds, p = 1.00). "
        "More than 0.7 points better or 0.7 points worse is unlikely. "
        "With its spread 5 seeds would show a true difference of 0.9 points or more at least 4 times in 5."
    )


def test_how_many_seeds_would_settle_it():
    (c,) = decide(ablation({"base": BASE[:3], "c": [0.51, 0.50, 0.55]})).comparisons  # + 1 -2 6
    assert "would show a true difference of" in c.sentence
    assert re.search(r"; about \d+ seeds one of 1 point, about \d\d seeds one as large as that seen\.$", c.sentence)
    (c,) = decide(ablation({"base": [0.3, 0.5], "c": [0.9, 0.1]})).comparisons  # + 60 -40: 7.85 * 0.5 / 0.1**2 + 2
    assert c.sentence.endswith(
        "No difference is excluded. With its spread 2 seeds are too few to show any true difference 4 times in 5; "
        "more than 1,000 seeds one of 1 point, about 395 seeds one as large as that seen."
    )


def test_what_would_have_shown_is_reckoned_for_the_strictest_of_holms_steps():
    alone = decide(ablation({"base": BASE, "c": LIKE})).comparisons[0]
    among = decide(ablation({"base": BASE, "c": LIKE, "d": LIKE[::-1], "e": LIKE[1:] + LIKE[:1]})).comparisons[0]
    for comparison, alpha in ((alone, 0.05), (among, 0.05 / 3)):
        shown = words.points(detectable(5, comparison.paired.sd, alpha), sign=False)
        assert f"5 seeds would show a true difference of {shown} points or more" in comparison.sentence
    assert "0.9 points or more" in alone.sentence and "1.2 points or more" in among.sentence


def test_of_several_one_that_stands_out_by_itself_only_is_not_claimed():
    alone = [0.512, 0.521, 0.504, 0.515, 0.519]  # + 1.2 0.1 1.4 0.5 1.9
    table = {"base": BASE, "b": alone, "c": LIKE, "d": [v + 0.001 for v in LIKE]}
    assert "is better" in decide(ablation({"base": BASE, "b": alone})).headline
    verdict = decide(ablation(table))
    b = verdict.comparisons[0]
    assert b.paired.p < 0.05 < b.p_adjusted and b.paired.low > 0
    assert not CLAIM.search(verdict.headline + b.sentence)
    assert "of 3 comparisons one does so by chance too often for a claim" in b.sentence
    assert verdict.headline == (
        "With 5 seeds none of the 3 variants can be told from base in mAP50-95: the largest difference seen is +1.0 points "
        f"(b; 95% interval +0.1 to +1.9, 5 seeds, p = {b.p_adjusted:.2f} after Holm's correction)."
    )


def test_which_of_several_better_ones_is_best_is_not_told():
    verdict = decide(ablation({"base": BASE, "b": BETTER, "c": [v + 0.01 for v in BETTER], "d": LIKE, "e": LIKE}))
    assert verdict.headline.startswith("2 variants are better than base in mAP50-95: c by 2.4 points (")
    assert verdict.headline.endswith("; which of them is best is not tested; the other 2 cannot be told from it.")
    assert "Variants are compared with base only, not with each other." in verdict.notes


@pytest.mark.parametrize(
    ("table", "headline"),
    [
        ({"base": BASE}, "There is no variant but base, so nothing is compared."),
        ({"base": [None], "b": [0.5]}, "base, the baseline, has no run that counts, so nothing is compared."),
        (
            {"base": [0.5, None], "b": [None, 0.5], "c": [None, None]},
            "No variant has a seed where its run and that of base count, so nothing is compared.",
        ),
        (
            {"base": [0.5], "b": [0.512], "c": [0.491]},
            "One seed allows no verdict on any of the 2 variants: the differences from base lie between -0.9 and +1.2 points of "
            "mAP50-95, and another seed may turn that round.",
        ),
        (
            {"base": BASE, "b": BASE, "c": BASE},
            "Every variant has exactly the mAP50-95 of base with every seed, so there is no difference to judge.",
        ),
        (
            {"base": [0.5, 0.5], "b": [0.51, 0.51], "c": [0.52, 0.52]},
            "Differences without a spread allow no verdict on any of the 2 variants: the differences from base lie between "
            "+1.0 and +2.0 points of mAP50-95.",
        ),
        (
            {"base": BASE, "b": WORSE, "c": BASE, "d": [0.9]},
            "No variant is shown to be better than base in mAP50-95; worse: b by 3.0 points (95% interval 2.8 to 3.1, 5 seeds, p < 0.001); "
            "exactly equal to it: c; for 1 the seeds are too few to say.",
        ),
        (
            {"base": BASE, "b": LIKE, "c": BASE},
            "b cannot be told from base in mAP50-95: 0.0 points (95% interval -0.7 to +0.7, 5 seeds, p = 1.00); "
            "exactly equal to it: c.",
        ),
    ],
)
def test_headlines(table, headline):
    verdict = decide(ablation(table))
    assert verdict.headline == headline
    assert len(verdict.sentences) == len(verdict.comparisons) == len(table) - 1


@pytest.mark.parametrize(
    ("base", "values", "sentence"),
    [
        ([0.5], [0.512], "b came out 1.2 points of mAP50-95 above base with the one seed that both have, and one pair allows neither an interval nor a verdict."),
        ([0.5], [0.5], "b has exactly the mAP50-95 of base with the one seed that both have, so there is no difference to judge."),
        ([0.5, None], [None, 0.5], "b cannot be compared with base: there is no seed where the runs of both count."),
        (BASE, BASE, "b has exactly the mAP50-95 of base with each of 5 seeds, so there is no difference to judge."),
        ([0.5] * 3, [0.51] * 3, "b differs from base by +1.0 points of mAP50-95 with each of 3 seeds, always the same: without a spread there is neither an interval nor a verdict."),
    ],
)  # fmt: skip
def test_what_allows_no_verdict(base, values, sentence):
    verdict = decide(ablation({"base": base, "b": values}))
    assert verdict.sentences == (verdict.headline,) == (sentence,)
    assert verdict.comparisons[0].p_adjusted is None


def test_a_baseline_that_is_no_variant_is_told_and_no_error():
    verdict = decide(ablation({"a": BASE, "b": LIKE}, baseline="base"))
    assert verdict.headline == "base, the baseline, has no run that counts, so nothing is compared."
    assert [s.n for s in verdict.summaries] == [5, 5, 0]


# metrics, classes, notes


def test_other_metrics_and_classes_are_told_without_a_claim():
    verdict = decide(ablation({"base": BASE, "b": BETTER, "c": [None] * 5}))
    assert list(verdict.others) == [MAP50] and list(verdict.classes) == ["cat"]  # those without any value are left out
    for b, c in (*verdict.others.values(), *verdict.classes.values()):
        assert b.paired.mean == pytest.approx(0.0142) and b.p_adjusted is None
        assert b.sentence == "+1.4 points (95% interval +1.3 to +1.5, 5 seeds)"
        assert c.paired is None and c.sentence == "no seed has a value of both"
    assert any(note.startswith("In the other metrics and in the classes nothing is claimed") for note in verdict.notes)


def test_the_metric_that_counts_can_be_another_or_a_class():
    verdict = decide(ablation({"base": BASE, "b": BETTER}, metric=MAP50))
    assert "in mAP50 by 1.4" in verdict.headline and list(verdict.others) == [MAP]
    assert "in AP50-95 of cat by 1.4" in decide(ablation({"base": BASE, "b": BETTER}, metric="AP50-95/cat")).headline


def notes(*arguments, **more) -> str:
    return "\n".join(decide(ablation(*arguments, **more)).notes)


def test_notes_are_there_where_they_apply_and_only_there():
    two, three = {"base": BASE, "b": BETTER}, {"base": BASE, "b": LIKE, "c": LIKE[::-1]}
    few = {name: values[:3] for name, values in three.items()}
    interval = {MAP: ImageInterval(0.4, 0.6, 0.95, 1000, 50)}
    assert "other seeds" in notes(two) and "say nothing about other data sets" in notes(two)
    assert "Holm" not in notes(two)
    assert "not for all 2 at once" in notes(three) and "p < 0.025" in notes(three)
    assert "tends to be smaller in truth" in notes(two) and "smaller in truth" not in notes(three)
    assert "may be 0.5 to 6.3 times as large" in notes(few) and "times as large" not in notes(three)
    assert "p = 0.25 with 3 seeds" in notes(few)
    assert "favours the variant whose evaluations vary more" in notes(two, select="best")
    assert "maximum" not in notes(two)
    assert "neither contains the other" in notes(two, run("b", 0, BETTER[0], images=interval))
    assert "photographs" not in notes(two)
    assert "do not count" not in notes(two)


def test_the_confidence_is_the_one_asked_for():
    table = {"base": BASE, "b": [0.512, 0.521, 0.504, 0.515, 0.519]}
    assert "is better" in decide(ablation(table)).headline
    verdict = decide(ablation(table, confidence=0.99))
    assert "cannot be told" in verdict.headline and "99% interval" in verdict.headline


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "+1.2"), (-0.0123, "-1.2"), (0.0, "0.0"), (0.0004, "+0.04"), (-0.00001, "-0.001"), (1e-9, "0.0000")],
)
def test_points(value, text):
    assert words.points(value) == text


# against simulated truth


def test_under_the_null_at_most_one_ablation_in_twenty_claims_something():
    rng = np.random.default_rng(5)
    ablations = 300
    verdicts = [decide(simulated(rng, 5, [0.0] * 3)) for _ in range(ablations)]
    claiming = [v for v in verdicts if CLAIM.search(v.headline)]
    assert 0 < len(claiming) <= ablations * 0.05 + 3 * math.sqrt(ablations * 0.05 * 0.95)
    for verdict in verdicts:
        shown = any(c.p_adjusted < 0.05 for c in verdict.comparisons)
        assert shown == bool(CLAIM.search(verdict.headline)) == bool(CLAIM.search(" ".join(verdict.sentences)))


def test_a_large_true_difference_is_found_and_ascribed_to_the_right_variant():
    rng = np.random.default_rng(6)
    for _ in range(30):
        verdict = decide(simulated(rng, 5, [0.0, 0.15, 0.0, -0.15]))
        assert "b is better than base" in verdict.sentences[1] and "d is worse than base" in verdict.sentences[3]
        assert "b is better than base" in verdict.headline or "b by" in verdict.headline
        assert verdict.summaries[0].variant == "b"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.one_of(st.none(), st.sampled_from([0.0, 0.5, 0.51, 0.6]), st.floats(0, 1)), min_size=4, max_size=4),
        min_size=1,
        max_size=5,
    )
)
def test_whatever_the_numbers_the_words_claim_what_holms_p_allows_and_nothing_else(rows):
    verdict = decide(ablation({f"v{i}": row for i, row in enumerate(rows)}))
    for c in verdict.comparisons:
        shown = c.p_adjusted is not None and c.p_adjusted < 0.05
        assert bool(CLAIM.search(c.sentence)) == shown
        assert ("nan" not in c.sentence) and c.sentence.endswith(".")
        if shown:
            assert f"{c.variant} is {'better' if c.paired.mean > 0 else 'worse'} than" in c.sentence
    claimed = any(c.p_adjusted is not None and c.p_adjusted < 0.05 for c in verdict.comparisons)
    assert bool(CLAIM.search(verdict.headline)) == claimed
    assert "nan" not in verdict.headline and verdict.headline.endswith(".") and ";." not in verdict.headline
