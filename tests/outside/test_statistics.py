"""Every interval and test that a figure or a verdict rests on, beside scipy and statsmodels over random inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from goldfish.figures import statistics
from goldfish.papers import rules
from goldfish.probes.gradient_flow import decay

proportion = pytest.importorskip("statsmodels.stats.proportion", reason="statsmodels is not installed")
weightstats = pytest.importorskip("statsmodels.stats.weightstats", reason="statsmodels is not installed")
survfunc = pytest.importorskip("statsmodels.duration.survfunc", reason="statsmodels is not installed")
LEVELS = st.floats(0.5, 0.999)
VALUES = st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
SAMPLES = st.lists(VALUES, min_size=2, max_size=9)


@st.composite
def censored(draw: st.DrawFn) -> tuple[list[float], list[bool]]:
    """Times with ties, and which of them are events."""
    times = draw(st.lists(st.integers(1, 12).map(float), min_size=1, max_size=30))
    return times, draw(st.lists(st.booleans(), min_size=len(times), max_size=len(times)))


@given(st.integers(1, 500), st.data(), LEVELS)
def test_wilson(n: int, data: st.DataObject, level: float) -> None:
    successes = data.draw(st.integers(0, n))
    interval = statistics.wilson_interval(successes, n, level)
    theirs = proportion.proportion_confint(successes, n, alpha=1 - level, method="wilson")
    assert (interval.low, interval.high) == pytest.approx(theirs, rel=1e-9, abs=1e-12)


@given(SAMPLES, LEVELS)
def test_students_t(values: list[float], level: float) -> None:
    interval = statistics.t_interval(values, level)
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(level) if np.ptp(values) else (values[0], values[0])
    assert (interval.low, interval.high) == pytest.approx(tuple(theirs), rel=1e-9, abs=1e-6)


@given(SAMPLES, SAMPLES)
def test_welch(first: list[float], second: list[float]) -> None:
    assume(np.ptp(first) > 1e-2 or np.ptp(second) > 1e-2)
    samples = weightstats.CompareMeans(weightstats.DescrStatsW(first), weightstats.DescrStatsW(second))
    interval = rules.difference(first, second)
    theirs = samples.tconfint_diff(usevar="unequal")
    assert (interval.low, interval.high) == pytest.approx(theirs, rel=1e-7, abs=1e-5)


@given(censored())
def test_kaplan_meier_and_its_median(sample: tuple[list[float], list[bool]]) -> None:
    times, solved = sample
    moments, unsolved = statistics.kaplan_meier(times, solved)
    survival = stats.ecdf(stats.CensoredData.right_censored(times, ~np.array(solved))).sf
    assert unsolved == pytest.approx(survival.evaluate(moments), abs=1e-12)
    assert set(moments) == {time for time, event in zip(times, solved, strict=True) if event}
    theirs = (
        float(survfunc.SurvfuncRight(times, np.array(solved, dtype=int)).quantile(0.5)) if any(solved) else math.nan
    )
    ours = statistics.median_time(times, solved)
    # Where the curve stands at exactly one half, statsmodels may wait for the next event; both are medians.
    if not np.any(np.abs(unsolved - 0.5) < 1e-9):
        assert ours == (math.inf if math.isnan(theirs) else theirs)


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
