"""Intervals over seeds. The seed is the replication unit; every interval here is two-sided, at 95 % by default.

Counts get Wilson's score interval, means over seeds Student's t-interval below ten seeds and the bias-corrected and
accelerated bootstrap from ten on. Random draws have a fixed seed: the same numbers give the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

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

    def clipped(self, low: float, high: float) -> Interval:
        """The interval cut to the range of its quantity, such as [0, 1] for an accuracy."""
        if not self.known:
            return self
        return replace(self, low=min(max(self.low, low), high), high=max(min(self.high, high), low))


def wilson_interval(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Interval of a proportion (Wilson, JASA 22, 1927). Raises ValueError unless 0 ≤ successes ≤ n and n ≥ 1."""
    if not 0 <= successes <= n or n < 1:
        raise ValueError(f"{successes} of {n} is no proportion")
    z = _normal_quantile(level)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At 0 and n the end is exactly 0 and 1; rounding would leave 1e-17.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return Interval(share, low, high, n, "Wilson")


def t_interval(values: Iterable[float], level: float = LEVEL) -> Interval:
    """Student's interval of the mean; a single value has none."""
    sample = _finite(values)
    n = len(sample)
    if n == 1:
        return Interval(float(sample[0]), math.nan, math.nan, 1, "t")
    half = float(special.stdtrit(n - 1, 0.5 + level / 2)) * float(sample.std(ddof=1)) / math.sqrt(n)
    mean = float(sample.mean())
    return Interval(mean, mean - half, mean + half, n, "t")


def bootstrap_interval(values: Iterable[float], level: float = LEVEL, resamples: int = RESAMPLES) -> Interval:
    """Bias-corrected and accelerated bootstrap of the mean (Efron, JASA 82, 1987).

    Raises ValueError below ten values: there a t-interval is the better one.
    """
    sample = _finite(values)
    n = len(sample)
    if n < BOOTSTRAP_FROM:
        raise ValueError(f"a bootstrap interval takes {BOOTSTRAP_FROM} values or more, got {n}")
    mean = float(sample.mean())
    if np.ptp(sample) == 0:
        return Interval(mean, mean, mean, n, "bootstrap")
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    means = sample[generator.integers(n, size=(resamples, n))].mean(axis=1)
    below = (np.count_nonzero(means < mean) + 0.5 * np.count_nonzero(means == mean)) / resamples
    bias = float(special.ndtri(below))
    without = (sample.sum() - sample) / (n - 1)  # the jackknife
    deviation = without.mean() - without
    acceleration = float((deviation**3).sum() / (6 * (deviation**2).sum() ** 1.5))
    shifts = bias + _normal_quantile(level) * np.array([-1.0, 1.0])
    low, high = np.quantile(means, special.ndtr(bias + shifts / (1 - acceleration * shifts)))
    return Interval(mean, float(low), float(high), n, "bootstrap")


def mean_interval(values: Iterable[float], level: float = LEVEL) -> Interval:
    """The mean over seeds and its interval: Student's t below ten seeds, bootstrap from ten on."""
    sample = list(values)
    return (t_interval if len(sample) < BOOTSTRAP_FROM else bootstrap_interval)(sample, level)


def rank_correlation(
    x: Iterable[float], y: Iterable[float], groups: Sequence[Any], level: float = LEVEL, resamples: int = RESAMPLES
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
        return _bonett_wright(rho, count, level)
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    draws = generator.multinomial(count, np.full(count, 1 / count), size=resamples)
    drawn = _weighted_spearman(draws[:, member].astype(float), *below)
    tail = (1 - level) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])  # a draw whose x or y is constant has no correlation
    return Interval(rho, float(low), float(high), count, "bootstrap over groups")


def kaplan_meier(times: Iterable[float], solved: Iterable[bool]) -> tuple[Floats, Floats]:
    """Survival after each time at which a run solved (Kaplan and Meier, JASA 53, 1958).

    `times` holds the step at which a run solved, or its budget where it did not: it stays at risk until then. A
    diverged run is unsolved and stays at risk to the budget; a failed run is missing: leave it out.
    Returns the distinct solving times, ascending, and the share still unsolved after each.
    """
    when = _finite(times)
    event = np.fromiter(solved, dtype=bool)
    moments = np.unique(when[event])
    at_risk = np.array([np.count_nonzero(when >= moment) for moment in moments], dtype=float)
    solving = np.array([np.count_nonzero(event & (when == moment)) for moment in moments], dtype=float)
    return moments, np.cumprod(1 - solving / at_risk)


def median_time(times: Iterable[float], solved: Iterable[bool]) -> float:
    """Kaplan–Meier median: the first time at which at most half are unsolved; inf when that is never reached."""
    moments, unsolved = kaplan_meier(times, solved)
    reached = moments[unsolved <= 0.5 + 1e-12]  # products of fractions miss one half by rounding
    return float(reached[0]) if len(reached) else math.inf


def _normal_quantile(level: float) -> float:
    return float(special.ndtri(0.5 + level / 2))


def _finite(values: Iterable[float]) -> Floats:
    """An array of at least one finite number; a NaN here is a mistake of the caller, never dropped."""
    sample = np.array(list(values), dtype=float)
    if sample.size == 0 or not np.isfinite(sample).all():
        raise ValueError(f"an interval needs finite values, at least one: {sample.tolist()}")
    return sample


def _bonett_wright(rho: float, groups: int, level: float) -> Interval:
    if abs(rho) >= 1 - 1e-12:
        return Interval(rho, math.nan, math.nan, groups, "none")
    half = _normal_quantile(level) * math.sqrt((1 + rho**2 / 2) / (groups - 3))
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
