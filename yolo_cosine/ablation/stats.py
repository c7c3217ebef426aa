"""What paired differences over seeds say, and what they do not. Pure: arrays in, figures out.

The differences are variant minus baseline, one for each seed; the first axis of an array is the pairs (seeds), and NaNs
are the caller's to drop, except in `band`. The t methods hold exactly for differences that are independent between seeds
and normal, and nearly so for others that are symmetric, as differences of two like arms are; strongly skewed ones make
them cover less. In 200,000 simulations the 95% t interval covered the true mean with n = 3, 5, 10 of normal differences in
0.951, 0.950, 0.950; of Student's t with 3 degrees of freedom in 0.962, 0.962, 0.960; of exponential ones in 0.885, 0.882, 0.900.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special
from scipy.stats import chi2, nct

BOOTSTRAP_FROM = 8  # pairs; with fewer the bootstrap interval covers too little, see `bootstrap_interval`
RESAMPLES = 20_000
SIGN_FLIP_MOST = 16  # pairs whose 2**n signs are all tried


@dataclass(frozen=True)
class Paired:
    """What n >= 1 paired differences say, in their own unit; above 0 is better.

    What needs two pairs is None with one. Differences that are all the same (sd 0) have no spread to judge by: then
    everything from `low` on but the counts is None, also where all are exactly 0, which `identical` tells. That happens
    where the seed has no part in the figure, and does not mean that the mean is known exactly.
    """

    n: int
    mean: float
    sd: float | None  # between pairs, n - 1
    confidence: float  # of the intervals, as 0.95
    low: float | None  # of the true mean, t interval
    high: float | None
    bootstrap_low: float | None  # of the true mean, see `bootstrap_interval`; None with fewer than BOOTSTRAP_FROM pairs
    bootstrap_high: float | None
    p: float | None  # paired t-test, two-sided
    p_sign_flip: float | None  # exact, two-sided, never below 2 / 2**n; None with more than SIGN_FLIP_MOST pairs
    d_z: float | None  # Cohen's, mean / sd
    d_z_hedges: float | None  # d_z without its bias for small n; None with two pairs, where no finite factor removes it
    # P(true mean > 0 | these pairs) under the flat prior (of the mean and log sd); equals 1 - the one-sided p
    chance_mean_positive: float | None
    # that one further pair comes out better: predictive t, spread of a single pair included
    chance_next_positive: float | None
    better: int  # pairs with a difference > 0
    worse: int  # < 0; the rest are exactly 0

    @property
    def share_better(self) -> float:
        """The share of these pairs that came out better. A count of the past, not a probability."""
        return self.better / self.n

    @property
    def identical(self) -> bool:
        """Whether every difference is exactly 0."""
        return self.better == self.worse == 0


def paired(differences: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Paired:
    """All of `Paired` for differences (n,), n >= 1. Raises ValueError for none, and for one that is not finite."""
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or not len(d) or not np.isfinite(d).all():
        raise ValueError(f"differences: {d!r} are not one or more finite numbers")
    n, mean = len(d), float(d.mean())
    sd = float(d.std(ddof=1)) if n > 1 else None
    if sd is not None and sd <= 1e-9 * np.abs(d).max():  # rounding makes equal differences of unequal values unequal
        sd, mean = 0.0, float(d[0])
    counts = {"better": int((d > 0).sum()), "worse": int((d < 0).sum())}
    if not sd:
        return Paired(n, mean, sd, confidence, *(None,) * 10, **counts)
    error = sd / math.sqrt(n)
    _, low, high = mean_interval(d, confidence)
    bootstrap = bootstrap_interval(d, confidence) if n >= BOOTSTRAP_FROM else (None, None)
    return Paired(
        n, mean, sd, confidence, low, high,
        bootstrap_low=None if bootstrap[0] is None else float(bootstrap[0]),
        bootstrap_high=None if bootstrap[1] is None else float(bootstrap[1]),
        p=float(t_test(d)),
        p_sign_flip=sign_flip_test(d) if n <= SIGN_FLIP_MOST else None,
        d_z=mean / sd,
        d_z_hedges=mean / sd * _hedges(n - 1) if n > 2 else None,
        chance_mean_positive=float(special.stdtr(n - 1, mean / error)),
        chance_next_positive=float(special.stdtr(n - 1, mean / (sd * math.sqrt(1 + 1 / n)))),
        **counts,
    )  # fmt: skip


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and t interval of the true mean of a group, values (n,); NaN for what needs more values than there are."""
    mean, low, high = band(np.asarray(values, dtype=np.float64)[:, None], confidence)
    return float(mean[0]), float(low[0]), float(high[0])


def band(values: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, low and high, (N,) each, of values (S, N): for every column the mean over seeds and its t interval.

    NaNs are left out and each column uses its own count: the mean is NaN where there is no value, the ends are NaN where
    there are fewer than two. The band is pointwise: a whole curve leaves it more often than one point does.
    """
    values = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(values)
    n = there.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, values, 0).sum(0) / n
        variance = np.where(there, (values - mean) ** 2, 0).sum(0) / (n - 1)
        half = special.stdtrit(np.maximum(n - 1, 1), (1 + confidence) / 2) * np.sqrt(variance / n)
    half = np.where(n > 1, half, np.nan)
    return mean, mean - half, mean + half


def bootstrap_interval(differences: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Low and high of the true mean from differences (n,) or (n, R): Hesterberg's expanded percentile interval.

    The plain percentile interval is too short by sqrt((n - 1) / n) and by the ratio of normal and t quantiles; here the
    percentiles are moved outwards to make up for both (T. Hesterberg, "What Teachers Should Know About the Bootstrap",
    The American Statistician 69 (2015), section 5.3). It uses no normal shape, but resampled means never leave the range of
    the differences, which no method can mend: with n = 3 that range itself covers the mean 3 times in 4. In 20,000
    simulations with normal differences the 95% interval covered
    n = 3: 0.752, 4: 0.878, 5: 0.920, 6: 0.931, 7: 0.937, 8: 0.946, 10: 0.945, 20: 0.946 (n = 8: plain percentiles 0.885,
    the 90% interval 0.896, the 99% one 0.982), and with exponential ones 0.901 at n = 8 (t: 0.893). So `paired` gives it
    from n = 8 on, where it is within one hundredth of its nominal rate, and not before.

    The resamples are fixed, so that the same differences, in any order, have the same interval, and the negated ones its
    mirror image.
    """
    d = np.sort(np.asarray(differences, dtype=np.float64), axis=0)
    n = len(d)
    tail = special.ndtr(-math.sqrt(n / (n - 1)) * special.stdtrit(n - 1, (1 + confidence) / 2))
    low, high = np.quantile(_resamples(n) @ d, [tail, 1 - tail], axis=0)
    return low, high


def t_test(differences: np.ndarray) -> np.ndarray:
    """Two-sided p of the paired t-test for differences (n,) or (n, R), n >= 2; NaN where all differences are 0."""
    d = np.asarray(differences, dtype=np.float64)
    n = len(d)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = d.mean(0) / (d.std(0, ddof=1) / math.sqrt(n))
    return 2 * special.stdtr(n - 1, -np.abs(t))


def sign_flip_test(differences: Sequence[float] | np.ndarray) -> float:
    """Exact two-sided p of the permutation test on the mean: the share of all 2**n sign patterns that do as much.

    It needs only that each difference is as likely as its negative if the variant does nothing, not normality; its price
    is that n pairs cannot come below 2 / 2**n: 0.25 for 3, 0.0625 for 5.
    """
    d = np.asarray(differences, dtype=np.float64)
    sums = np.abs(_signs(len(d)) @ d)
    rounding = 1e-12 * np.abs(d).sum()
    return float(np.mean(sums >= abs(d.sum()) - rounding))


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment: the smallest of m times m, the next times m - 1, ..., made monotone, at most 1.

    To call different what is below alpha then errs in any of the m at most with chance alpha, however the tests depend on
    each other, as those against one baseline do. None and NaN (no test was made) pass through and do not count in m.
    """
    adjusted = list(p)
    tested = sorted((value, i) for i, value in enumerate(p) if value is not None and not math.isnan(value))
    running = 0.0
    for rank, (value, i) in enumerate(tested):
        running = max(running, min(1.0, value * (len(tested) - rank)))
        adjusted[i] = running
    return adjusted


def power(n: int, sd: float, difference: float, alpha: float = 0.05) -> float:
    """The chance that n >= 2 pairs show a true mean difference, with its right sign, at level alpha (two-sided t-test).

    Exact for normal differences with standard deviation `sd` > 0, by the noncentral t distribution.
    """
    return _shows(n, abs(difference) * math.sqrt(n) / sd, alpha)


def detectable(n: int, sd: float, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """The smallest true mean difference that n pairs show with the chance `power`; None for n < 2, 0 for sd 0.

    `sd` is the true one; for one estimated from few pairs see `sd_interval`.
    """
    if n < 2:
        return None
    if not sd:
        return 0.0
    top = 10.0
    while _shows(n, top, alpha) < power:
        top *= 2
    return sd / math.sqrt(n) * optimize.brentq(lambda shift: _shows(n, shift, alpha) - power, 0, top, xtol=1e-9)


def pairs_needed(sd: float, difference: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """The smallest number of pairs that show a true mean difference (not 0) with the chance `power`."""
    if not difference:
        raise ValueError("difference: no number of pairs shows a difference of 0")

    def enough(n: int) -> bool:
        return not sd or _shows(n, abs(difference) * math.sqrt(n) / sd, alpha) >= power

    most = 2
    while not enough(most):
        most *= 2
    low = most // 2  # not enough, or 1
    while most - low > 1:
        middle = (low + most) // 2
        low, most = (low, middle) if enough(middle) else (middle, most)
    return most


def sd_interval(n: int, sd: float, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the true standard deviation, from that of n >= 2 normal values: chi-square with n - 1."""
    tail = (1 - confidence) / 2
    return sd * math.sqrt((n - 1) / chi2.isf(tail, n - 1)), sd * math.sqrt((n - 1) / chi2.ppf(tail, n - 1))


def _shows(n: int, shift: float, alpha: float) -> float:
    """The power of n pairs for a true mean of `shift` >= 0 standard errors: P(T > critical), T noncentral t."""
    return float(nct.sf(special.stdtrit(n - 1, 1 - alpha / 2), n - 1, shift))


def _hedges(df: int) -> float:
    """The exact factor that makes mean / sd unbiased (L. Hedges, J. of Educational Statistics 6 (1981)); df >= 2."""
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)


@lru_cache
def _resamples(n: int) -> np.ndarray:
    """(RESAMPLES, n): the share of each of n sorted values in each resample; for every one its mirror image is there."""
    half = np.random.default_rng(n).multinomial(n, np.full(n, 1 / n), RESAMPLES // 2) / n
    return np.concatenate([half, half[:, ::-1]])


@lru_cache
def _signs(n: int) -> np.ndarray:
    """(2**(n - 1), n) of +1 and -1: every pattern that begins with +1; the others are their negatives."""
    bits = np.arange(2 ** (n - 1))[:, None] >> np.arange(n)[None] & 1
    return 1.0 - 2 * bits
