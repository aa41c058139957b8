"""Selecting runs before they are drawn: on validation, never on test."""

from __future__ import annotations

import pandas as pd

from goldfish.figures import grid

RATE = "optimizer.lr"
POINT = ["task", "cell", "init", "length"]


def best_learning_rate(runs: pd.DataFrame, metric: str = "val/accuracy") -> pd.DataFrame:
    """Keep, for each task × cell × initialisation × length, the runs of the learning rate that validates best.

    Best is the highest mean of `metric` over seeds; a diverged run counts at chance, a failed one not at all, and of
    equals the smallest rate is kept. A table of one learning rate comes back as it is. The choice is written into
    `attrs["selected"]`, which the figures print.
    """
    rates = sorted(runs[RATE].dropna().unique()) if RATE in runs else []
    if len(rates) < 2:
        return runs
    scores = _scores(runs, metric)
    kept = runs.groupby(POINT, sort=False)[RATE].transform(lambda column: _best(scores, runs.loc[column.index]))
    chosen = runs[runs[RATE] == kept].reset_index(drop=True)
    listed = ", ".join(f"{rate:g}" for rate in rates)
    chosen.attrs["selected"] = (
        f"Learning rate: of {listed} the one with the highest mean {metric} over seeds, per point."
    )
    return chosen


def _scores(runs: pd.DataFrame, metric: str) -> pd.Series:
    """The metric of each run; NaN for a failed run."""
    scores = grid.column(runs, metric).mask(runs["outcome"].isin(grid.HOLES))
    levels = runs["task"].map({task: grid.chance(runs, task) or 0.0 for task in grid.tasks(runs)})
    return scores.where(runs["outcome"] != "diverged", levels)


def _best(scores: pd.Series, rows: pd.DataFrame) -> float:
    means = scores[rows.index].groupby(rows[RATE]).mean().fillna(float("-inf"))
    return float(means.idxmax())  # the first of equals; groupby sorts the rates
