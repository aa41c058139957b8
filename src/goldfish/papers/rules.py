"""The rules by which a published number or ordering is compared with runs of our own.

Each returns "reproduced", "not reproduced", or "inconclusive" where the runs are too few, or too far apart, to tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import fisher_exact

from goldfish.figures.statistics import difference, mean_interval

REPRODUCED, NOT, INCONCLUSIVE = "reproduced", "not reproduced", "inconclusive"
CONCLUSIVE = (REPRODUCED, NOT)
ALPHA = 0.05


class Judged(NamedTuple):
    """A verdict, and the numbers that it rests on."""

    verdict: str
    told: str


class Times(NamedTuple):
    """Training steps until solved, or the budget where a run was not, and which were."""

    steps: Sequence[float]
    solved: Sequence[bool]


def success(solved: int, n: int, published: int, published_n: int) -> Judged:
    """Counts of solved runs: not reproduced where Fisher's exact test, two-sided, has p < .05.

    Inconclusive where n runs could not have contradicted the published count, whatever came out.
    """
    told = f"{solved}/{n} solved (published {published}/{published_n})"
    if not can_refuse(n, published, published_n):
        needed = smallest_n(published, published_n)
        return Judged(
            INCONCLUSIVE, f"{told}; the rule needs {needed} runs" if needed else f"{told}; no number of runs would do"
        )
    p = fisher(solved, n, published, published_n)
    return Judged(NOT if p < ALPHA else REPRODUCED, f"{told}, p = {p:.2g}")


def fisher(a: int, n: int, b: int, m: int) -> float:
    """Two-sided p of Fisher's exact test that a of n and b of m have one probability."""
    return float(fisher_exact([[a, n - a], [b, m - b]]).pvalue)


def can_refuse(n: int, published: int, published_n: int) -> bool:
    """Whether some outcome of n runs would contradict the published count."""
    return min(fisher(solved, n, published, published_n) for solved in (0, n)) < ALPHA


def smallest_n(published: int, published_n: int, most: int = 100) -> int | None:
    """The smallest number of runs that could contradict the published count."""
    return next((n for n in range(1, most + 1) if can_refuse(n, published, published_n)), None)


def value(values: Sequence[float], expected: float, tolerance: float) -> Judged:
    """A mean over seeds: reproduced where its 95 % interval is within expected ± tolerance, not where it is outside."""
    told = f"{_mean(values)} (published {expected:.4g}, tolerance {tolerance:.2g})"
    if not _finite(values):
        return Judged(NOT, told)
    interval = mean_interval(values)
    low, high = expected - tolerance, expected + tolerance
    if not interval.known:
        return Judged(INCONCLUSIVE, f"{told}; the rule needs 2 runs")
    if low <= interval.low and interval.high <= high:
        return Judged(REPRODUCED, told)
    return Judged(NOT if interval.high < low or interval.low > high else INCONCLUSIVE, told)


def bound(values: Sequence[float], limit: float, *, above: bool) -> Judged:
    """A mean over seeds that is above a limit, or below it, with its whole 95 % interval."""
    told = f"{_mean(values)} ({'above' if above else 'below'} {limit:.4g}?)"
    if not _finite(values):
        return Judged(NOT, told)
    interval = mean_interval(values)
    if not interval.known:
        return Judged(INCONCLUSIVE, f"{told}; the rule needs 2 runs")
    return _one_side(interval.low - limit, interval.high - limit, told, above=above)


def order(first: Sequence[float], second: Sequence[float], *, above: bool) -> Judged:
    """The first mean above the second, or below it: Welch's 95 % interval of the difference excludes zero."""
    told = f"{_mean(first)} against {_mean(second)}"
    if not _finite([*first, *second]):
        return Judged(INCONCLUSIVE, told)
    gap = difference(first, second)
    if not gap.known:
        return Judged(INCONCLUSIVE, f"{told}; the rule needs 2 runs of each")
    return _one_side(gap.low, gap.high, told, above=above)


def order_of_success(solved: int, n: int, other: int, other_n: int) -> Judged:
    """More of the first solved than of the second: Fisher's exact test, two-sided, has p < .05."""
    told = f"{solved}/{n} solved against {other}/{other_n}"
    p = fisher(solved, n, other, other_n)
    if p >= ALPHA:
        return Judged(INCONCLUSIVE, f"{told}, p = {p:.2g}")
    return Judged(REPRODUCED if solved / n > other / other_n else NOT, f"{told}, p = {p:.2g}")


def ratio(fast: Times, slow: Times, least: float) -> Judged:
    """The second takes at least `least` times as long: Welch's 95 % interval of the difference of log steps.

    A run that was not solved counts with its budget, so that with unsolved slow runs the ratio is a lower bound; with
    unsolved fast ones nothing is concluded in their favour.
    """
    logs = [[math.log(step) for step in times.steps] for times in (fast, slow)]
    gap = difference(logs[1], logs[0])
    lower = "≥ " if not all(slow.solved) else ""
    told = f"{lower}{math.exp(gap.estimate):.2g} times as long (at least {least:g}?)"
    told += f"; solved {sum(fast.solved)}/{len(fast.solved)} and {sum(slow.solved)}/{len(slow.solved)}"
    if not gap.known:
        return Judged(INCONCLUSIVE, f"{told}; the rule needs 2 runs of each")
    if gap.low >= math.log(least) and all(fast.solved):
        return Judged(REPRODUCED, told)
    return Judged(NOT if gap.high < math.log(least) and all(slow.solved) else INCONCLUSIVE, told)


def _one_side(low: float, high: float, told: str, *, above: bool) -> Judged:
    if low > 0:
        return Judged(REPRODUCED if above else NOT, told)
    if high < 0:
        return Judged(NOT if above else REPRODUCED, told)
    return Judged(INCONCLUSIVE, told)


def _finite(values: Sequence[float]) -> bool:
    return bool(np.isfinite(np.array(values, dtype=float)).all())


def _mean(values: Sequence[float]) -> str:
    """The mean ± half of its interval, and how many runs have no value because they diverged or were never solved."""
    finite = [value for value in values if math.isfinite(value)]
    lost = f", {len(values) - len(finite)} of {len(values)} without a value" if len(finite) < len(values) else ""
    if not finite:
        return f"no value{lost}"
    interval = mean_interval(finite)
    half = f" ± {(interval.high - interval.low) / 2:.2g}" if interval.known else ""
    return f"{interval.estimate:.4g}{half} (n = {len(finite)}{lost})"


def overall(verdicts: Sequence[str]) -> str:
    """The verdict on an experiment, from the claims that could be decided; inconclusive if fewer than half could be."""
    run = [verdict for verdict in verdicts if verdict in (*CONCLUSIVE, INCONCLUSIVE)]
    told = [verdict for verdict in run if verdict in CONCLUSIVE]
    if not run:
        return "not run at this scale"
    if 2 * len(told) < len(run):
        return INCONCLUSIVE
    return told[0] if len(set(told)) == 1 else "partly"
