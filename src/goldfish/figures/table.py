"""The final table of a sweep, as text or Markdown: per task × cell × initialisation, mean ± interval over seeds.

Four blocks per task: decay and horizons; accuracy, each model's own recall horizon and time-to-solve by length.
Where several learning rates were tried, the rows to show are selected beforehand, on validation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import pandas as pd

from goldfish.figures import grid, recall_horizon
from goldfish.figures.recall_horizon import across_lengths
from goldfish.figures.statistics import Interval, mean_interval, median_time

DIVERGED = "counted as unsolved with accuracy at chance and recall horizon 0; over lengths the horizon ends before it"
NOTHING = "–"
_TITLES = {
    "gradients": "{task}: gradients at length {length} before and after training; recall and outcomes over all lengths",
    "accuracy": "{task}: test accuracy and runs solved, by length",
    "recall": "{task}: recall horizon inside one model, by training length",
    "steps": "{task}: median training steps to solve, by length (Kaplan–Meier; > budget if fewer than half solved it)",
}
Row = list[str]


class Arm(NamedTuple):
    """The runs of one cell × initialisation of a task: all that are planned and known, and those that count."""

    cell: str
    init: str
    rows: pd.DataFrame
    counted: pd.DataFrame


Cell = Callable[[Arm], str]


def text(runs: pd.DataFrame) -> str:
    """The blocks on gradients and accuracy as aligned text, n and the holes of the grid last.

    Raises ConfigError when the table has two runs of one place.
    """
    parts = [f"{title}\n{aligned(rows)}" for title, rows in _blocks(runs, ("gradients", "accuracy"))]
    return "\n\n".join([*parts, _note(runs)])


def markdown(runs: pd.DataFrame) -> str:
    """All blocks as Markdown tables. Raises ConfigError when the table has two runs of one place."""
    parts = [f"**{title}**\n\n{piped(rows)}" for title, rows in _blocks(runs, _TITLES)]
    return "\n\n".join([*parts, _note(runs)]) + "\n"


def mean(rows: pd.DataFrame, metric: str) -> Interval | None:
    """The mean of a metric over the rows that have it, or None where none has."""
    known = grid.column(rows, metric).dropna()
    return mean_interval(known) if len(known) else None


def median_steps(rows: pd.DataFrame) -> float:
    """Kaplan–Meier median of the training steps to solve; inf when fewer than half solved within their budget.

    Diverged runs stay at risk, unsolved, to the budget; rows of failed runs must have been left out.
    """
    solved = rows["outcome"] == "solved"
    times = grid.column(rows, "time_to_solve").where(solved, rows["trainer.max_steps"].astype(float))
    return median_time(times, solved)


def _blocks(runs: pd.DataFrame, blocks: Iterable[str]) -> list[tuple[str, list[Row]]]:
    """The title and the rows of each block of each task: a header, then a row per cell × initialisation."""
    grid.check(runs)
    counted = grid.scored(runs)
    tables = []
    for task in grid.tasks(runs):
        arms = [
            Arm(cell, init, *(table[_of(table, task, cell, init)] for table in (runs, counted)))
            for cell, init in grid.arms(runs, task)
        ]
        for block in blocks:
            columns = _columns(runs, task, block)
            rows = [[arm.cell, arm.init, *(write(arm) for write in columns.values())] for arm in arms]
            title = _TITLES[block].format(task=task, length=max(grid.lengths(runs, task)))
            tables.append((title, [["cell", "init", *columns], *rows]))
    return tables


def _of(table: pd.DataFrame, task: str, cell: str, init: str) -> pd.Series:
    return (table["task"] == task) & (table["cell"] == cell) & (table["init"] == init)


def _columns(runs: pd.DataFrame, task: str, block: str) -> dict[str, Cell]:
    """The columns of a block: a heading, and what it writes of one arm."""
    lengths = grid.lengths(runs, task)
    rates: dict[str, Cell] = {"lr": _rate} if "optimizer.lr" in runs and runs["optimizer.lr"].nunique() > 1 else {}
    if block == "gradients":
        at, planned = partial(_at, lengths[-1]), _planned(runs, task)
        reach = across_lengths(runs[runs["task"] == task])
        return rates | {
            "params": _parameters,
            "decay before": at(_metric("gradient/decay_rate_before", ".3f")),
            "decay after": at(_metric("gradient/decay_rate", ".3f")),
            "horizon before": at(_metric("gradient/horizon_before", ".1f", "gradient/horizon_reached_end_before")),
            "horizon after": at(_metric("gradient/horizon", ".1f", "gradient/horizon_reached_end")),
            "recall horizon": partial(_reach, reach),
            "solved": lambda arm: f"{_count(arm, 'solved')}/{planned}",
            "diverged": lambda arm: str(_count(arm, "diverged")),
            "failed": lambda arm: str(_count(arm, "failed")),
            "missing": lambda arm: str(planned - len(arm.rows) + _count(arm, "missing")),
        }
    write = {
        "accuracy": _accuracy,
        "recall": _metric("recall/horizon", ".1f", "recall/horizon_reached_end"),
        "steps": _steps,
    }[block]
    return rates | {str(length): _at(length, write) for length in lengths}


def _at(length: int, write: Callable[[pd.DataFrame], str]) -> Cell:
    """Write of the arm's counted rows at one length alone."""

    def written(arm: Arm) -> str:
        rows = arm.counted[arm.counted["length"] == length]
        return write(rows) if len(rows) else NOTHING

    return written


def _metric(name: str, digits: str, reached_end: str | None = None) -> Callable[[pd.DataFrame], str]:
    """Mean ± interval of a metric, with ≥ before it where a seed reached the end and its n where some lack it."""

    def written(rows: pd.DataFrame) -> str:
        average = mean(rows, name)
        if average is None:
            return NOTHING
        bound = reached_end is not None and (grid.column(rows, reached_end) == 1.0).any()
        some = "" if average.n == len(rows) else f" (n={average.n})"
        return ("≥" if bound else "") + _interval(average, digits) + some

    return written


def _reach(reach: pd.DataFrame, arm: Arm) -> str:
    """The arm's recall horizon over the networks trained at each length."""
    rows = reach[(reach["cell"] == arm.cell) & (reach["init"] == arm.init)]
    known = rows[rows[recall_horizon.HORIZON].notna()]
    return _metric(recall_horizon.HORIZON, ".1f", recall_horizon.REACHED)(known)


def _accuracy(rows: pd.DataFrame) -> str:
    return f"{_metric('test/accuracy', '.2f')(rows)} {(rows['outcome'] == 'solved').sum()}/{len(rows)}"


def _steps(rows: pd.DataFrame) -> str:
    steps = median_steps(rows)
    return f"{steps:g}" if math.isfinite(steps) else f">{rows['trainer.max_steps'].max():g}"


def _interval(average: Interval, digits: str) -> str:
    """Symmetric intervals as mean ±half, others as mean [low, high]; a single seed as it is."""
    estimate, low, high, half = (
        f"{value:{digits}}".removesuffix(".0")
        for value in (average.estimate, average.low, average.high, average.high - average.estimate)
    )
    if not average.known:
        return estimate
    return f"{estimate} ±{half}" if average.method == "t" else f"{estimate} [{low}, {high}]"


def _parameters(arm: Arm) -> str:
    counts = sorted({int(count) for count in grid.column(arm.rows, "parameters").dropna() if count > 0})
    return "–".join(str(count) for count in dict.fromkeys((counts[0], counts[-1]))) if counts else NOTHING


def _rate(arm: Arm) -> str:
    return "/".join(f"{rate:g}" for rate in sorted(arm.rows["optimizer.lr"].dropna().unique())) or NOTHING


def _count(arm: Arm, outcome: str) -> int:
    return int((arm.rows["outcome"] == outcome).sum())


def _planned(runs: pd.DataFrame, task: str) -> int:
    """The runs that one arm of a task should have: every length with every seed."""
    return len(grid.lengths(runs, task)) * int(runs.loc[runs["task"] == task, "seed"].nunique())


def _note(runs: pd.DataFrame) -> str:
    return (
        "Mean over seeds ± half its 95 % interval (Student's t; from ten seeds on bootstrap, in brackets);"
        " decay: slope of ln norm per step of lag; ≥: the end of the sequence was reached.\n"
        + grid.coverage(runs).note(DIVERGED)
    )


def aligned(rows: Sequence[Row]) -> str:
    """A header and rows, in columns for a terminal."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])


def piped(rows: Sequence[Row]) -> str:
    """A header and rows, as a table in Markdown."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
