"""The recall horizon over networks trained at each length: how far back a cell × initialisation × seed remembers.

Inside one model the horizon shows how it generalises to lags it was not trained on; over models it shows what can be
learnt. Both are the largest lag such that accuracy is above the midpoint of chance and 1 at it and every smaller lag.
Tables and figures take the points from `across_lengths` as they are: a point has no outcome of its own, since it is
made of one run for each length.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from goldfish.figures import grid
from goldfish.figures.statistics import Interval, rank_correlation

LAG, ACCURACY, HORIZON, REACHED = "recall/lag", "test/accuracy", "recall/horizon", "recall/horizon_reached_end"
GRADIENT, GRADIENT_REACHED = "gradient/horizon_before", "gradient/horizon_reached_end_before"
ENDED_BY = "ended_by"
POINT = ["task", "cell", "init", "seed"]
COLUMNS = [*POINT, "length", GRADIENT, GRADIENT_REACHED, HORIZON, REACHED, ENDED_BY]


def across_lengths(runs: pd.DataFrame) -> pd.DataFrame:
    """One point per task × cell × initialisation × seed, of the tasks that have a lag.

    A diverged run is at chance, so the horizon ends at the lag before it, wherever it stands among the lengths. Where
    the run of some length failed or is missing, the point has no recall horizon.

    Returns the columns task, cell, init, seed; length, the longest; the gradient horizon at initialisation of the
    network trained at the longest length, and whether it reached the end (1.0); the recall horizon over all lengths,
    and whether that did; and ended_by: "diverged" where the first network that does not pass diverged, "failed" or
    "missing" where a run is lacking, else "". Raises ConfigError when the table has two runs of one place.
    """
    if len(runs):
        grid.check(runs)
    planned = {task: grid.lengths(runs, task) for task in grid.tasks(runs)}
    points = []
    for key, own in runs.groupby(POINT):
        task = str(key[0])
        if grid.has_lag(runs, task):
            horizons = _point(own.sort_values("length"), planned[task], grid.chance(runs, task) or 0.0)
            points.append(dict(zip(POINT, key, strict=True)) | {"length": planned[task][-1]} | horizons)
    return pd.DataFrame(points, columns=COLUMNS)


def _point(own: pd.DataFrame, planned: list[int], chance: float) -> dict[str, Any]:
    """The point that the runs of one cell × initialisation × seed make, in the order of their lengths."""
    longest = own.tail(1)
    gradient = {name: float(grid.column(longest, name).iloc[0]) for name in (GRADIENT, GRADIENT_REACHED)}
    lacking = [outcome for outcome in own["outcome"] if outcome in grid.HOLES]
    if lacking or list(own["length"]) != planned:
        nothing = dict.fromkeys((GRADIENT, GRADIENT_REACHED, HORIZON, REACHED), math.nan)
        return nothing | {ENDED_BY: lacking[0] if lacking else "missing"}
    diverged = (own["outcome"] == "diverged").to_numpy()
    accuracy = np.where(diverged, chance, grid.column(own, ACCURACY))
    passed = np.logical_and.accumulate(accuracy > (1 + chance) / 2)
    count = int(passed.sum())
    horizon = float(grid.column(own, LAG).iloc[:count].max()) if count else 0.0
    by = "diverged" if count < len(own) and diverged[count] else ""
    return gradient | {HORIZON: horizon, REACHED: float(passed.all()), ENDED_BY: by}


def known(points: pd.DataFrame) -> pd.DataFrame:
    """The points that have both horizons."""
    return points[points[GRADIENT].notna() & points[HORIZON].notna()]


def association(points: pd.DataFrame) -> Interval | None:
    """Spearman's ρ of the two horizons over the points of one task; None of fewer than two points.

    The unit of its interval is the cell × initialisation, and `n` counts these: their seeds are no independent points.
    """
    both = known(points)
    if len(both) < 2:
        return None
    groups = list(both[["cell", "init"]].itertuples(index=False, name=None))
    return rank_correlation(both[GRADIENT], both[HORIZON], groups)


def written(correlation: Interval | None) -> str:
    """ρ with its interval, such as "ρ = .47 [−.07, .84]"."""
    if correlation is None or math.isnan(correlation.estimate):
        return "ρ undefined"
    interval = f" [{_short(correlation.low)}, {_short(correlation.high)}]" if correlation.known else ""
    return f"ρ = {_short(correlation.estimate)}{interval}"


def reading(correlation: Interval | None) -> str:
    """What the interval says: an association is shown only where it does not contain 0."""
    if correlation is None or math.isnan(correlation.estimate):
        return "all points have one value"
    if not correlation.known:
        return "no interval, so no association is shown"
    if correlation.low <= 0 <= correlation.high:
        return "the interval contains 0: no association is shown"
    return f"the interval is {'above' if correlation.low > 0 else 'below'} 0: an association is shown"


def markdown(runs: pd.DataFrame) -> str:
    """A row for each task: points, groups, ρ with its interval, and what the interval says."""
    title = "Gradient horizon at initialisation and recall horizon after training: Spearman's ρ over all points"
    head = ["task", "points", "cell × init", "ρ [95 % interval over cell × init]", "what it says"]
    return f"**{title}**\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *_rows(runs)])


def text(runs: pd.DataFrame) -> str:
    """The same, a line for each task."""
    return "\n".join(
        f"{task}: gradient horizon at init. against recall horizon, {rho} ({groups} cell × init, {points} points):"
        f" {said}"
        for task, points, groups, rho, said in _rows(runs)
    )


def _rows(runs: pd.DataFrame) -> list[list[str]]:
    rows, points = [], across_lengths(runs)
    for task in [task for task in grid.tasks(runs) if grid.has_lag(runs, task)]:
        own = points[points["task"] == task]
        both, correlation = known(own), association(own)
        groups = len(both[["cell", "init"]].drop_duplicates())
        rows.append([task, str(len(both)), str(groups), written(correlation), reading(correlation)])
    return rows


def _short(value: float) -> str:
    """Two decimals without the leading zero, with a minus sign: −.31."""
    rounded = round(value, 2) + 0.0  # never −.00
    return f"{rounded:.2f}".replace("0.", ".").replace("-", "−")
