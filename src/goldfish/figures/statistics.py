"""Intervals over seeds, two-sided and at 95 %: the seed is the replication unit.

Counts get Wilson's score interval, means over seeds Student's t-interval below ten seeds and the bias-corrected and
accelerated bootstrap from ten on. Random draws have a fixed seed: the same numbers give the same interval.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.95
BOOTSTRAP_FROM = 10  # below ten seeds (or groups) a bootstrap interval is too short
RESAMPLES = 10_000
BOOTSTRAP_SEED = 1_994
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval; `low` and `high` are NaN where n is too small to have one."""

    estimate: float
    low: float
    high: float
    n: int
    method: str

    @property
    def known(self) -> bool:
        """True when there is an interval, not an estimate alone."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def written(self, digits: int) -> str:
        """Such as "0.81 ± 0.02", half of the interval; the estimate alone where there is none."""
        half = f" ± {(self.high - self.low) / 2:.{digits}f}" if self.known else ""
        return f"{self.estimate:.{digits}f}{half}"

    def clipped(self, low: float, high: float) -> Interval:
        """The interval cut to the range of its quantity, such as [0, 1] for an accuracy."""
        if not self.known:
            return self
        return replace(self, low=min(max(self.low, low), high), high=max(min(self.high, high), low))


def wilson_interval(successes: int, n: int) -> Interval:
    """Interval of a proportion (Wilson, JASA 22, 1927). Raises ValueError unless 0 ≤ successes ≤ n and n ≥ 1."""
    interval = stats.binomtest(successes, n).proportion_ci(LEVEL, method="wilson")
    return Interval(successes / n, float(interval.low), float(interval.high), n, "Wilson")


def mean_interval(values: Iterable[float]) -> Interval:
    """The mean over seeds and its interval: Student's t below ten seeds, bootstrap from ten on; none of a single one.

    The bootstrap is the bias-corrected and accelerated one (Efron, JASA 82, 1987).
    """
    sample = _finite(values)
    mean, n = float(sample.mean()), len(sample)
    if n == 1:
        return Interval(mean, math.nan, math.nan, n, "t")
    if n < BOOTSTRAP_FROM:
        half = float(stats.t.ppf(0.5 + LEVEL / 2, n - 1) * stats.sem(sample))
        return Interval(mean, mean - half, mean + half, n, "t")
    if np.ptp(sample) == 0:  # of equal values scipy has no acceleration, and so no interval
        return Interval(mean, mean, mean, n, "bootstrap")
    bootstrap = stats.bootstrap((sample,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, rng=BOOTSTRAP_SEED)
    low, high = bootstrap.confidence_interval
    return Interval(mean, float(low), float(high), n, "bootstrap")


def difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """first's mean minus second's, with Welch's interval (Biometrika 34, 1947); none with a single value on a side."""
    a, b = _finite(first), _finite(second)
    estimate, n = float(a.mean() - b.mean()), len(a) + len(b)
    if min(len(a), len(b)) < 2:
        return Interval(estimate, math.nan, math.nan, n, "Welch")
    if np.ptp(a) == np.ptp(b) == 0:
        return Interval(estimate, estimate, estimate, n, "Welch")
    with warnings.catch_warnings():  # one side without spread, such as an accuracy of 1 at every seed, is no fault
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
        interval = stats.ttest_ind(a, b, equal_var=False).confidence_interval(LEVEL)
    return Interval(estimate, float(interval.low), float(interval.high), n, "Welch")


def median_time(times: Iterable[float], solved: Iterable[bool]) -> float:
    """Kaplan–Meier median of the times-to-solve: the first time at which at most half are unsolved, else inf.

    `times` holds the step at which a run solved, or its budget where it did not: it stays at risk until then. A
    diverged run is unsolved and stays at risk to the budget; a failed run is missing: leave it out.
    """
    sample = stats.CensoredData.right_censored(_finite(times), ~np.fromiter(solved, dtype=bool))
    unsolved = stats.ecdf(sample).sf
    reached = unsolved.quantiles[unsolved.probabilities <= 0.5 + 1e-12]  # products of fractions miss ½ by rounding
    return float(reached[0]) if len(reached) else math.inf


def rank_correlation(
    x: Iterable[float], y: Iterable[float], groups: Sequence[Any], resamples: int = RESAMPLES
) -> Interval:
    """Spearman's rank correlation, ties at their midrank, with an interval that respects groups.

    Seeds of one cell × initialisation are no independent points of a scatter over cells and initialisations: the unit
    is the group. From ten groups on: percentile bootstrap that draws whole groups. From four to nine: Fisher's z with
    the standard error of Bonett and Wright (Psychometrika 65, 2000), √((1 + ρ²/2)/(m − 3)), m the number of groups.
    Fewer groups, or |ρ| = 1 where Fisher's z says nothing: no interval. ρ itself is NaN when x or y is constant.
    `n` is the number of groups.
    """
    first, second = _finite(x), _finite(y)
    if not len(first) == len(second) == len(groups):
        raise ValueError("x, y and groups differ in length")
    order = sorted(set(groups))  # not that of the points: any order of these gives the same draws
    member = np.array([order.index(group) for group in groups])
    count = int(member.max()) + 1
    below = [(v[None, :] < v[:, None]) + 0.5 * (v[None, :] == v[:, None]) for v in (first, second)]
    rho = float(_weighted_spearman(np.ones((1, len(first))), *below)[0])
    if math.isnan(rho) or count < 4:
        return Interval(rho, math.nan, math.nan, count, "none")
    if count < BOOTSTRAP_FROM:
        return _bonett_wright(rho, count)
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    draws = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    drawn = _weighted_spearman(draws[:, member].astype(float), *below)
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])  # a draw whose x or y is constant has no correlation
    return Interval(rho, float(low), float(high), count, "bootstrap over groups")


def _finite(values: Iterable[float]) -> Floats:
    """An array of at least one finite number; a NaN here is a mistake of the caller, never dropped."""
    sample = np.array(list(values), dtype=float)
    if sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"an interval needs finite values, at least one: {sample.tolist()}")
    return sample


def _bonett_wright(rho: float, groups: int) -> Interval:
    if abs(rho) >= 1 - 1e-12:
        return Interval(rho, math.nan, math.nan, groups, "none")
    half = float(stats.norm.ppf(0.5 + LEVEL / 2)) * math.sqrt((1 + rho**2 / 2) / (groups - 3))
    return Interval(rho, math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half), groups, "Bonett–Wright")


def _weighted_spearman(weights: Floats, below_x: Floats, below_y: Floats) -> Floats:
    """Spearman's ρ of samples in which point i stands weights[·, i] times.

    weights: (S, n). below: (n, n), [i, j] = 1 where point j lies below point i, ½ where they tie. Returns (S,), NaN
    where x or y is constant. The midrank of point i is Σ_j weights_j·below[i, j] + ½.
    """
    total = weights.sum(axis=1, keepdims=True)
    centred = []
    for below in (below_x, below_y):
        ranks = weights @ below.T
        centred.append(ranks - (weights * ranks).sum(axis=1, keepdims=True) / total)
    first, second = centred
    covariance = (weights * first * second).sum(axis=1)
    spread = (weights * first**2).sum(axis=1) * (weights * second**2).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(spread > 1e-12, covariance / np.sqrt(spread), math.nan)
    return np.clip(rho, -1.0, 1.0)
