"""Every interval and test that a figure or a verdict rests on, beside scipy and statsmodels over random inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from goldfish.figures import statistics
from goldfish.probes.gradient_flow import decay

proportion = pytest.importorskip("statsmodels.stats.proportion", reason="statsmodels is not installed")
weightstats = pytest.importorskip("statsmodels.stats.weightstats", reason="statsmodels is not installed")
survfunc = pytest.importorskip("statsmodels.duration.survfunc", reason="statsmodels is not installed")
VALUES = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
SAMPLES = st.lists(VALUES, min_size=2, max_size=9)


@st.composite
def censored(draw: st.DrawFn) -> tuple[list[float], list[bool]]:
    """Times with ties, and which of them are events."""
    times = draw(st.lists(st.integers(1, 12).map(float), min_size=1, max_size=30))
    return times, draw(st.lists(st.booleans(), min_size=len(times), max_size=len(times)))


@given(st.integers(1, 500), st.data())
def test_wilson(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    interval = statistics.wilson_interval(successes, n)
    theirs = proportion.proportion_confint(successes, n, alpha=0.05, method="wilson")
    assert (interval.low, interval.high) == pytest.approx(theirs, rel=1e-9, abs=1e-12)


@given(SAMPLES)
def test_students_t(values: list[float]) -> None:
    interval = statistics.mean_interval(values)
    theirs = weightstats.DescrStatsW(values).tconfint_mean()
    assert (interval.low, interval.high) == pytest.approx(theirs, rel=1e-9, abs=1e-6)


@given(SAMPLES, SAMPLES)
def test_welch(first: list[float], second: list[float]) -> None:
    assume(np.ptp(first) > 1e-2 or np.ptp(second) > 1e-2)
    samples = weightstats.CompareMeans(weightstats.DescrStatsW(first), weightstats.DescrStatsW(second))
    interval = statistics.difference(first, second)
    theirs = samples.tconfint_diff(usevar="unequal")
    assert (interval.low, interval.high) == pytest.approx(theirs, rel=1e-7, abs=1e-5)


@given(censored())
def test_kaplan_meiers_median(sample: tuple[list[float], list[bool]]) -> None:
    times, solved = sample
    curve = survfunc.SurvfuncRight(times, np.array(solved, dtype=int)) if any(solved) else None
    theirs = float(curve.quantile(0.5)) if curve else math.nan
    # Where the curve stands at exactly one half, statsmodels may wait for the next event; both are medians.
    if curve is None or not np.any(np.abs(curve.surv_prob - 0.5) < 1e-9):
        assert statistics.median_time(times, solved) == (math.inf if math.isnan(theirs) else theirs)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=40))
def test_spearman_with_ties(points: list[tuple[int, int]]) -> None:
    x, y = np.array(points, dtype=float).T
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    rho = statistics.rank_correlation(x, y, groups=range(len(x)), resamples=2).estimate
    assert rho == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


@given(st.lists(st.floats(-30, 3), min_size=2, max_size=60))
def test_decay_rate_is_the_slope_of_an_ordinary_regression(log2_norm: list[float]) -> None:
    import torch

    flow = decay(torch.tensor([log2_norm], dtype=torch.float64))
    assert flow is not None
    theirs = stats.linregress(np.arange(len(log2_norm)), np.array(log2_norm) * math.log(2)).slope
    assert flow.decay_rate == pytest.approx(theirs, rel=1e-9, abs=1e-12)
