"""Figures against scipy's own, hand-made tables and properties; rates (coverage, level, power) against simulated truth.

A simulated rate of R replications is compared within 4 of its standard errors, sqrt(rate (1 - rate) / R), with fixed seeds.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats as peer

from yolo_cosine.ablation import stats
from yolo_cosine.ablation.stats import (
    band,
    bootstrap_interval,
    detectable,
    holm,
    mean_interval,
    paired,
    pairs_needed,
    power,
    sd_interval,
    sign_flip_test,
    t_test,
)

DIFFERENCES = st.lists(st.integers(-1000, 1000).map(lambda k: k / 1024), min_size=2, max_size=12)  # exact in binary
P_VALUES = st.lists(st.one_of(st.none(), st.just(math.nan), st.floats(0, 1)), max_size=12)


def within(rate: float, nominal: float, replications: int) -> bool:
    return abs(rate - nominal) <= 4 * math.sqrt(nominal * (1 - nominal) / replications)


def spread(d: list[float]) -> list[float]:
    assume(len(set(d)) > 1)
    return d


# one sample


def test_a_table_by_hand():
    """1, 2, 3, 4, 10: mean 4, squares of deviations 9 + 4 + 1 + 0 + 36 = 50, t of 4 degrees at 0.975 is 2.7764."""
    told = paired([1, 2, 3, 4, 10])
    sd = math.sqrt(50 / 4)
    half = 2.776445105 * sd / math.sqrt(5)
    assert (told.n, told.mean, told.better, told.worse) == (5, 4, 5, 0)
    assert told.sd == pytest.approx(sd)
    assert (told.low, told.high) == pytest.approx((4 - half, 4 + half))
    assert told.p_sign_flip == 2 / 32
    assert told.d_z == pytest.approx(4 / sd)
    assert told.d_z_hedges == pytest.approx(4 / sd * 0.7979, abs=1e-4)  # Hedges' table: c(4) = 0.7979
    assert told.chance_mean_positive == pytest.approx(1 - told.p / 2)
    assert told.chance_next_positive == pytest.approx(peer.t.cdf(4 / (sd * math.sqrt(1.2)), 4))
    assert told.share_better == 1


@given(DIFFERENCES.map(spread))
def test_the_t_test_and_its_interval_are_scipys(d):
    result = peer.ttest_rel(d, np.zeros(len(d)))
    told, interval = paired(d, 0.9), result.confidence_interval(0.9)
    assert told.p == pytest.approx(result.pvalue, rel=1e-9)
    assert (told.low, told.high) == pytest.approx((interval.low, interval.high), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 5, 8, 11])
def test_the_sign_flip_test_is_scipys_permutation_test(n):
    rng = np.random.default_rng(n)
    for _ in range(5):
        d = rng.integers(-4, 7, n) / 8  # with ties and zeros
        exact = peer.permutation_test(
            (d, np.zeros(n)), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
        )
        assert sign_flip_test(d) == pytest.approx(exact.pvalue, rel=1e-12)


def test_sums_that_differ_by_rounding_only_count_as_equal():
    for tenths in ([1, 2, -3], [8, 4, 0, 1, 2], [8, -4, 6, 3, -9], [-3, -5, 6, 7, -8, -8]):
        assert sign_flip_test([k / 10 for k in tenths]) == sign_flip_test(tenths)
    assert sign_flip_test([0.1, 0.2, -0.3]) == 1


@given(DIFFERENCES.map(spread))
def test_to_swap_the_arms_mirrors_everything(d):
    one, two = paired(d), paired([-x for x in d])
    assert (two.mean, two.sd, two.better, two.worse) == pytest.approx((-one.mean, one.sd, one.worse, one.better))
    assert (two.low, two.high, two.d_z) == pytest.approx((-one.high, -one.low, -one.d_z))
    assert (two.p, two.p_sign_flip) == pytest.approx((one.p, one.p_sign_flip))
    assert two.chance_mean_positive == pytest.approx(1 - one.chance_mean_positive)
    assert two.chance_next_positive == pytest.approx(1 - one.chance_next_positive)
    if one.bootstrap_low is not None:
        assert (two.bootstrap_low, two.bootstrap_high) == pytest.approx((-one.bootstrap_high, -one.bootstrap_low))


@given(DIFFERENCES.map(spread), st.integers(-64, 64), st.randoms())
def test_a_shift_shifts_and_the_order_of_the_seeds_is_nothing(d, shift, random):
    moved = [x + shift for x in d]
    random.shuffle(moved)
    one, two = paired(d), paired(moved)
    assert two.sd == pytest.approx(one.sd)
    assert (two.mean - shift, two.low - shift, two.high - shift) == pytest.approx(
        (one.mean, one.low, one.high), abs=1e-9
    )
    if one.bootstrap_low is not None:
        ends = (two.bootstrap_low - shift, two.bootstrap_high - shift)
        assert ends == pytest.approx((one.bootstrap_low, one.bootstrap_high), abs=1e-9)


@given(DIFFERENCES.map(spread))
def test_what_belongs_together_agrees(d):
    told = paired(d)
    assert told.low < told.mean < told.high
    assert (told.p < 0.05) == (told.low > 0 or told.high < 0) or math.isclose(told.p, 0.05)
    assert told.p_sign_flip >= 2 / 2**told.n
    assert abs(told.chance_next_positive - 0.5) <= abs(
        told.chance_mean_positive - 0.5
    )  # a pair varies more than a mean
    assert (told.bootstrap_low is None) == (told.n < stats.BOOTSTRAP_FROM)
    if told.bootstrap_low is not None:
        assert min(d) <= told.bootstrap_low <= told.mean <= told.bootstrap_high <= max(d)


# what there is little to say of

UNKNOWN = (
    "low", "high", "bootstrap_low", "bootstrap_high", "p", "p_sign_flip", "d_z", "d_z_hedges", "chance_mean_positive",
    "chance_next_positive",
)  # fmt: skip


@pytest.mark.parametrize(
    ("differences", "mean", "sd", "identical"),
    [
        ([0.25], 0.25, None, False),
        ([0.0], 0, None, True),
        ([0.0] * 4, 0, 0, True),
        ([-0.0, 0.0], 0, 0, True),
        ([0.01] * 9, 0.01, 0, False),
        ([0.5 - 0.4, 0.4 - 0.3, 0.3 - 0.2], 0.1, 0, False),  # equal but for rounding
    ],
)
def test_without_a_spread_nothing_is_inferred(differences, mean, sd, identical):
    told = paired(differences)
    assert told.n == len(differences) and told.mean == pytest.approx(mean) and told.sd == sd
    assert told.identical is identical
    assert [name for name in UNKNOWN if getattr(told, name) is not None] == []


def test_two_pairs_have_no_unbiased_effect_size_and_many_no_exact_test():
    two = paired([0.1, 0.3])
    assert two.d_z_hedges is None and two.p is not None and two.p_sign_flip == 0.5
    many = paired(np.random.default_rng(0).standard_normal(stats.SIGN_FLIP_MOST + 1))
    assert many.p_sign_flip is None and many.p is not None


@pytest.mark.parametrize("wrong", [[], [1.0, math.nan], [math.inf], [[1.0, 2.0]]])
def test_what_is_not_a_row_of_finite_numbers_is_refused(wrong):
    with pytest.raises(ValueError, match="not one or more finite numbers"):
        paired(wrong)


def test_a_band_leaves_nans_out_column_by_column():
    nan = math.nan
    values = np.array([[1, 1, nan, nan, 2], [2, nan, nan, nan, 2], [6, 5, 4, nan, 2]], dtype=float)
    mean, low, high = band(values)
    np.testing.assert_allclose(mean, [3, 3, 4, nan, 2])
    half = [4.302652730 * math.sqrt(7) / math.sqrt(3), 12.70620474 * math.sqrt(8) / math.sqrt(2), nan, nan, 0]
    np.testing.assert_allclose(high - mean, half)
    np.testing.assert_allclose(mean - low, half)
    assert mean_interval(values[:, 0]) == (mean[0], low[0], high[0])
    assert np.isnan(mean_interval([])).all() and np.isnan(mean_interval([3.0])[1:]).all()
    assert all(part.shape == (0,) for part in band(np.empty((3, 0))))


# several comparisons


def test_holm_by_hand():
    """Ordered: 0.01 x 4, 0.02 x 3, 0.03 x 2 (below 0.06, so 0.06), 0.5."""
    assert holm([0.03, 0.01, None, 0.5, 0.02]) == pytest.approx([0.06, 0.04, None, 0.5, 0.06])
    assert holm([0.7, 0.9]) == [1, 1]
    assert holm([]) == []


@given(P_VALUES)
def test_holm_is_monotone_and_never_below_p(p):
    adjusted = holm(p)
    tested = [
        (before, after) for before, after in zip(p, adjusted, strict=True) if before is not None and before == before
    ]
    assert [q for q in adjusted if q is None or q != q] == pytest.approx(
        [q for q in p if q is None or q != q], nan_ok=True
    )
    assert all(before <= after <= 1 for before, after in tested)
    assert all(after >= min(1, len(tested) * min(b for b, _ in tested)) for _, after in tested)
    ordered = sorted(tested)
    assert [after for _, after in ordered] == sorted(after for _, after in tested)


# power


def test_power_is_that_of_published_tables():
    """J. Cohen, Statistical Power Analysis (1988): d = 0.5, two-sided 0.05, power 0.8: 34 pairs."""
    assert pairs_needed(1, 0.5) == 34
    assert pairs_needed(2, -1) == 34
    assert power(34, 1, 0.5) == pytest.approx(0.808, abs=1e-3)
    assert power(33, 1, 0.5) < 0.8


@given(
    st.integers(2, 60), st.floats(1e-4, 1), st.sampled_from([0.05, 0.01, 0.05 / 12]), st.sampled_from([0.5, 0.8, 0.9])
)
def test_what_is_detectable_has_the_power_and_fewer_pairs_have_not(n, sd, alpha, wanted):
    shown = detectable(n, sd, alpha, wanted)
    assert power(n, sd, shown, alpha) == pytest.approx(wanted, abs=1e-6)
    assert pairs_needed(sd, shown * (1 + 1e-6), alpha, wanted) == n
    assert pairs_needed(sd, shown * (1 - 1e-6), alpha, wanted) == n + 1
    assert detectable(n + 1, sd, alpha, wanted) < shown


def test_power_where_there_is_nothing_to_reckon():
    assert detectable(0, 1) is None and detectable(1, 1) is None
    assert detectable(5, 0) == 0
    assert pairs_needed(0, 0.01) == 2
    with pytest.raises(ValueError, match="difference of 0"):
        pairs_needed(1, 0)
    assert pairs_needed(1, 0.001) == pytest.approx((1.959964 + 0.841621) ** 2 * 1e6, rel=1e-4)  # the normal limit


# against simulated truth


@pytest.mark.parametrize("confidence", [0.9, 0.95])
@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_t_interval_covers_at_its_rate(n, confidence):
    replications = 40_000
    d = 0.3 + 2 * np.random.default_rng(n).standard_normal((n, replications))
    _, low, high = band(d, confidence)
    assert within(np.mean((low <= 0.3) & (high >= 0.3)), confidence, replications)


@pytest.mark.parametrize("n", [stats.BOOTSTRAP_FROM, 12])
def test_the_bootstrap_interval_covers_within_a_hundredth_where_it_is_given(n):
    replications, inside = 4000, 0
    rng = np.random.default_rng(n)
    for _ in range(10):
        low, high = bootstrap_interval(rng.standard_normal((n, replications // 10)))
        inside += np.sum((low <= 0) & (high >= 0))
    error = math.sqrt(0.95 * 0.05 / replications)
    assert 0.94 - 3 * error < inside / replications < 0.96 + 3 * error


def test_the_bootstrap_interval_is_not_given_where_it_covers_too_little():
    low, high = bootstrap_interval(np.random.default_rng(0).standard_normal((4, 1000)))
    assert np.mean((low <= 0) & (high >= 0)) < 0.91
    assert stats.BOOTSTRAP_FROM > 4


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_t_test_keeps_its_level_and_the_sign_flip_test_too(n):
    replications = 40_000
    d = np.random.default_rng(n + 100).standard_normal((n, replications))
    assert within(np.mean(t_test(d) < 0.05), 0.05, replications)
    flips = np.array([sign_flip_test(column) for column in d.T[:4000]])
    for alpha in (0.05, 0.25, 0.5):
        exact = math.floor(alpha * 2 ** (n - 1)) / 2 ** (n - 1)  # the p values are multiples of 2 / 2**n
        assert np.mean(flips <= alpha) == pytest.approx(exact, abs=4 * math.sqrt(0.25 / 4000))


@pytest.mark.parametrize("n", [3, 6])
def test_holm_errs_at_most_at_its_level_where_all_share_one_baseline(n):
    """With all of 5 variants null, and with one of them truly better, which lets Holm test the others less strictly."""
    replications, variants = 8000, 5
    rng = np.random.default_rng(n)
    for true in (0.0, 50.0):
        arms = rng.standard_normal((n, variants + 1, replications))
        arms[:, 1] += true
        p = t_test(arms[:, 1:] - arms[:, :1])  # (variants, replications)
        adjusted = np.array([holm(column) for column in p.T])
        false_claims = (adjusted[:, 1 if true else 0 :] < 0.05).any(1).mean()
        assert false_claims <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / replications)
        assert false_claims > 0.015  # it is not kept by never claiming anything
        assert (p < 0.05).any(0).mean() > 0.1  # which is what goes wrong without it


@pytest.mark.parametrize(("n", "alpha"), [(3, 0.05), (5, 0.01), (10, 0.05 / 7)])
def test_what_is_detectable_is_detected_as_often_as_promised(n, alpha):
    replications = 40_000
    d = detectable(n, 2.0, alpha) + 2 * np.random.default_rng(n).standard_normal((n, replications))
    assert within(np.mean((t_test(d) < alpha) & (d.mean(0) > 0)), 0.8, replications)
    assert within(np.mean(t_test(d) < alpha), power(n, 2.0, detectable(n, 2.0, alpha), alpha), replications)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_the_chances_are_calibrated(n):
    """Moved by the truth, they are uniform: of a chance q that the mean (the next pair) is above x, q come true."""
    replications = 3000
    rng = np.random.default_rng(n)
    d = rng.standard_normal((replications, n))
    following = rng.standard_normal(replications)
    mean = [paired(row).chance_mean_positive for row in d]  # the true mean is 0
    further = [paired(row - x).chance_next_positive for row, x in zip(d, following, strict=True)]
    assert peer.kstest(mean, "uniform").pvalue > 0.001
    assert peer.kstest(further, "uniform").pvalue > 0.001


def test_hedges_correction_removes_the_bias():
    d = 0.5 + np.random.default_rng(0).standard_normal((4000, 5))
    told = [paired(row) for row in d]
    error = np.std([t.d_z_hedges for t in told]) / math.sqrt(len(told))
    assert np.mean([t.d_z_hedges for t in told]) == pytest.approx(0.5, abs=4 * error)
    assert np.mean([t.d_z for t in told]) > 0.5 + 4 * error


def test_the_interval_of_the_standard_deviation_covers():
    replications = 40_000
    sd = np.random.default_rng(0).standard_normal((3, replications)).std(0, ddof=1)
    low, high = sd_interval(3, 1.0)
    assert within(np.mean((low * sd <= 1) & (high * sd >= 1)), 0.95, replications)
