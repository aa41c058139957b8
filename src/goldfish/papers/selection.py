"""The selection among trials by validation, without test data: each candidate's score, and the best of every group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from goldfish.figures import grid

SCORES = ["candidate", "metric", "score", "trials", "diverged", "failed", "chosen"]


def score(trials: pd.DataFrame, per: Sequence[str], candidates: Sequence[str], metric: str) -> pd.DataFrame:
    """The score of every candidate in every group: its mean `metric` over the trials that came to a result.

    A diverged trial counts at chance (of a loss: as infinite), a failed or missing one not at all. The best score is
    chosen, of equals that of the first in `candidates`; nothing where no trial of the group came to a result.

    trials: one row per trial; the columns `per` make its group, `candidate` is what it tried.
    Returns the columns `per`, then candidate, metric, score, trials, diverged, failed, chosen.
    """
    trials = trials.reset_index(drop=True)
    values = _values(trials, metric)
    sign = -1.0 if grid.lowest_is_best(metric) else 1.0
    blocks = []
    for group, members in trials.groupby(list(per), sort=False, dropna=False):
        rows = [_score(members[members["candidate"] == candidate], values) for candidate in candidates]
        block = pd.DataFrame(rows).assign(**dict(zip(per, group, strict=True)), candidate=candidates, metric=metric)
        ranked = (sign * block["score"]).dropna()
        blocks.append(block.assign(chosen=block.index == ranked.idxmax() if len(ranked) else False))
    return pd.concat(blocks, ignore_index=True)[[*per, *SCORES]]


def chosen(scores: pd.DataFrame) -> dict[tuple[Any, ...], str]:
    """The chosen candidate of each group; a group without one is not in it."""
    best = scores[scores["chosen"]]
    groups = best[_per(scores)].astype(object).itertuples(index=False, name=None)
    return dict(zip(groups, best["candidate"], strict=True))


def note(scores: pd.DataFrame) -> str:
    """How the runs' settings were selected and how often each candidate was chosen, for figures and tables."""
    counts = scores.groupby("candidate", sort=False)["chosen"].sum()
    times = ", ".join(f"{candidate} ({count}×)" for candidate, count in counts.items())
    metric, trials = scores["metric"].iloc[0], sorted(set(scores["trials"]))
    best = "lowest" if grid.lowest_is_best(metric) else "highest"
    number = "–".join(str(count) for count in dict.fromkeys((trials[0], trials[-1])))
    return (
        f"Selected per {' × '.join(_per(scores))} from {times}: the candidate with the {best} mean {metric}"
        f" over trials with seeds of their own (n = {number})."
    )


def read(path: Path) -> pd.DataFrame:
    """Read a table that `score` made."""
    return pd.read_csv(path, dtype={"candidate": str, "metric": str})


def _per(scores: pd.DataFrame) -> list[str]:
    return [column for column in scores if column not in SCORES]


def _values(trials: pd.DataFrame, metric: str) -> pd.Series:
    """The metric of each trial: NaN where it failed, chance or infinity where it diverged."""
    return grid.score(trials, metric).mask(trials["outcome"].isin(grid.HOLES))


def _score(trials: pd.DataFrame, values: pd.Series) -> dict[str, float]:
    """One candidate's score in one group; the sum is exact, so that equals are equal in any order of the trials."""
    known = values[trials.index].dropna()
    return {
        "score": math.fsum(known) / len(known) if len(known) else math.nan,
        "trials": len(trials),
        "diverged": int((trials["outcome"] == "diverged").sum()),
        "failed": len(trials) - len(known),
    }
