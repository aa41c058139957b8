"""Intervals against scipy, published tables and hand-worked values."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from goldfish.figures import statistics
from goldfish.figures.statistics import (
    Interval,
    difference,
    mean_interval,
    median_time,
    rank_correlation,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_published_values(successes: int, n: int, low: float, high: float):
    found = wilson_interval(successes, n)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert found.estimate == successes / n


@pytest.mark.parametrize(("successes", "n"), [(-1, 4), (5, 4), (0, 0)])
def test_wilson_refuses_what_is_no_proportion(successes: int, n: int):
    with pytest.raises(ValueError, match="must"):
        wilson_interval(successes, n)


def test_t_interval_by_hand():
    found = mean_interval([1.0, 2.0, 3.0, 4.0])  # mean 2.5, s² = 5/3, t(3, .975) = 3.182446
    half = 3.182446305284263 * math.sqrt(5 / 3) / 2
    assert (found.estimate, found.low, found.high) == pytest.approx((2.5, 2.5 - half, 2.5 + half), rel=1e-12)
    assert mean_interval([0.5] * 3) == Interval(0.5, 0.5, 0.5, 3, "t")


def test_one_seed_has_a_mean_and_no_interval():
    found = mean_interval([0.7])
    assert found.estimate == 0.7
    assert not found.known
    assert not found.clipped(0, 1).known


def test_an_interval_is_clipped_to_the_range_of_its_quantity():
    found = mean_interval([0.9, 1.0, 1.0, 1.0]).clipped(0, 1)
    assert found.high == 1.0
    assert found.low == pytest.approx(0.975 - 3.182446305284263 * 0.05 / 2)


def test_from_ten_seeds_on_the_interval_is_the_bca_bootstrap_as_its_definition_has_it():
    values = np.random.default_rng(5).exponential(size=14)
    found = mean_interval(values)
    draws = np.random.default_rng(1_994).integers(14, size=(10_000, 14))
    means, mean = values[draws].mean(axis=1), values.mean()
    bias = NormalDist().inv_cdf((means < mean).mean())
    spread = mean - (values.sum() - values) / 13  # of the jackknife
    acceleration = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    shifts = bias + 1.959963984540054 * np.array([-1.0, 1.0])
    ends = np.quantile(means, [NormalDist().cdf(bias + z / (1 - acceleration * z)) for z in shifts])
    assert (found.low, found.high) == pytest.approx(ends, rel=1e-12)
    assert found.method == "bootstrap"
    assert found == mean_interval(values), "the same values give the same interval"


def test_ten_equal_values_have_an_interval_without_width():
    assert mean_interval([0.5] * 10) == Interval(0.5, 0.5, 0.5, 10, "bootstrap")


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [1.0, -math.inf]])
def test_values_that_are_missing_or_not_finite_are_refused(values: list[float]):
    with pytest.raises(ValueError, match="finite values"):
        mean_interval(values)


def test_welch_where_one_side_or_both_have_no_spread():
    found = difference([1.0, 1.0, 1.0], [0.5, 0.6, 0.7])  # s/√3 = .057735, two degrees of freedom: t = 4.302653
    half = 4.302652729749464 * 0.1 / math.sqrt(3)
    assert (found.estimate, found.low, found.high) == pytest.approx((0.4, 0.4 - half, 0.4 + half), rel=1e-12)
    assert difference([1.0, 1.0], [0.5, 0.5]) == Interval(0.5, 0.5, 0.5, 4, "Welch")
    assert not difference([1.0, 1.0], [0.5]).known


def scatter(groups: int, seeds: int, ties: bool = True) -> tuple[np.ndarray, np.ndarray, list[int]]:
    generator = np.random.default_rng(11)
    centre = generator.normal(size=groups).repeat(seeds)
    x = centre + 0.2 * generator.normal(size=groups * seeds)
    y = centre + 1.0 * generator.normal(size=groups * seeds)
    if ties:
        x, y = x.round(1), y.round()
    return x, y, np.arange(groups).repeat(seeds).tolist()


def test_rank_correlation_agrees_with_scipy_with_and_without_ties():
    for ties in (True, False):
        x, y, groups = scatter(12, 4, ties)
        assert rank_correlation(x, y, groups).estimate == pytest.approx(stats.spearmanr(x, y).statistic, rel=1e-12)


def test_rank_correlation_draws_whole_groups():
    x, y, groups = scatter(12, 4)
    found = rank_correlation(x, y, groups, resamples=400)
    draws = np.random.default_rng(statistics.BOOTSTRAP_SEED).multinomial(12, np.full(12, 1 / 12), size=400)
    brute = []
    for draw in draws:  # the same draws, written out: a group drawn twice stands there twice
        rows = [4 * group + seed for group in range(12) for _ in range(draw[group]) for seed in range(4)]
        brute.append(stats.spearmanr(x[rows], y[rows]).statistic)
    assert (found.low, found.high) == pytest.approx(np.quantile(brute, [0.025, 0.975]), rel=1e-10)
    assert found.method == "bootstrap over groups"


def test_rank_correlation_is_the_same_whatever_the_order_of_the_points():
    x, y, groups = scatter(12, 4)
    shuffled = np.random.default_rng(1).permutation(len(x))
    assert rank_correlation(x, y, groups) == rank_correlation(
        x[shuffled], y[shuffled], [groups[place] for place in shuffled]
    )


def test_rank_correlation_of_few_groups_is_bonett_and_wrights():
    x, y, groups = scatter(7, 4)
    found = rank_correlation(x, y, groups)
    rho = stats.spearmanr(x, y).statistic
    half = 1.959963984540054 * math.sqrt((1 + rho**2 / 2) / 4)  # seven groups: m − 3 = 4
    assert (found.low, found.high) == pytest.approx(
        (math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half))
    )
    assert found.n == 7, "the replication unit is the group"


def test_rank_correlation_says_when_it_has_no_interval_or_no_value():
    x, y, groups = scatter(3, 4)
    assert not rank_correlation(x, y, groups).known
    assert not rank_correlation(range(5), range(5), range(5)).known, "|ρ| = 1"
    assert math.isnan(rank_correlation(range(5), [1.0] * 5, range(5)).estimate)


# Freireich et al. 1963, weeks of remission under 6-MP; as in Cox & Oakes 1984: median 23, and 8 under placebo
SIX_MP = [6, 6, 6, 7, 10, 13, 16, 22, 23]
SIX_MP_CENSORED = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def test_kaplan_meier_gives_the_published_medians_of_leukaemia():
    solved = [True] * len(SIX_MP) + [False] * len(SIX_MP_CENSORED)
    assert median_time(SIX_MP + SIX_MP_CENSORED, solved) == 23
    assert median_time(PLACEBO, [True] * 21) == 8


def test_the_median_is_reached_by_two_of_four_and_not_by_one():
    assert median_time([100, 200, 600, 600], [True, True, False, False]) == 200
    assert median_time([100, 600, 600, 600], [True, False, False, False]) == math.inf
    assert median_time([600, 600], [False, False]) == math.inf
