"""The recall horizon over networks trained at each length: how far back a cell × initialisation × seed remembers.

Inside one model the horizon says how it generalises to lags it was not trained on; over models it says what can be
learnt. Both are the largest lag such that accuracy is above the midpoint of chance and 1 at it and every smaller lag.
"""

from __future__ import annotations

import math

import pandas as pd

from goldfish.figures import grid

LAG, ACCURACY, HORIZON, REACHED = "recall/lag", "test/accuracy", "recall/horizon", "recall/horizon_reached_end"
ARM = ["task", "cell", "init", "seed"]


def across_lengths(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per task × cell × initialisation × seed: the run of the longest length, with the horizon over all.

    Of tasks that have a lag. A diverged run is at chance. Where some length's run failed or is missing, so is the row.
    """
    planned = {task: grid.lengths(runs, task) for task in grid.tasks(runs)}
    rows = []
    for (task, *_), arm in runs.groupby(ARM, sort=False):
        if grid.has_lag(runs, str(task)):
            rows.append(_row(arm.sort_values("length"), planned[str(task)], grid.chance(runs, str(task)) or 0.0))
    found = pd.DataFrame(rows, columns=runs.columns.union([LAG, HORIZON, REACHED], sort=False)).reset_index(drop=True)
    found.attrs = runs.attrs | {"selected": f"{runs.attrs.get('selected', '')} {NOTE}".strip()}
    return found


NOTE = "Recall horizon: over the networks trained at each length; gradient horizon: at the longest."


def _row(arm: pd.DataFrame, planned: list[int], chance: float) -> pd.Series:
    row = arm.iloc[-1].copy()
    row["length"] = planned[-1]
    holes = arm.loc[arm["outcome"].isin(grid.HOLES), "outcome"]
    if len(holes) or list(arm["length"]) != planned:
        row["outcome"] = holes.iloc[0] if len(holes) else "missing"
        row[[HORIZON, REACHED]] = math.nan
        return row
    accuracy = grid.column(arm, ACCURACY).where(arm["outcome"] != "diverged", chance)
    passed = (accuracy > (1 + chance) / 2).cumprod().astype(bool)
    row[HORIZON] = float(arm.loc[passed, LAG].max()) if passed.any() else 0.0
    row[REACHED] = float(passed.all())
    return row
