"""Accuracy against sequence length: a row per task, a column per cell, every seed and the mean with its interval."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from goldfish.figures import grid, legend, style
from goldfish.figures.palette import cell_colours, cell_order, init_order, init_styles
from goldfish.figures.statistics import BOOTSTRAP_FROM, Interval, mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRIC = "test/accuracy"


@style.paper()
def draw(runs: pd.DataFrame) -> Figure:
    """Draw the test accuracy of every task, cell and initialisation. A diverged run stands at chance, as a cross.

    Raises ConfigError when the table has two runs of one place.
    """
    covered = grid.coverage(runs)
    rows = grid.scored(runs)
    tasks, cells = grid.tasks(runs), cell_order(runs["cell"])
    figure, axes = style.panels(
        len(tasks), len(cells), height=1.35, left=0.42, right=0.08, top=0.22, bottom=legend.height(runs),
        gap=(0.14, 0.4), note=_note(covered),
    )  # fmt: skip
    for (row, task), (column, cell) in product(enumerate(tasks), enumerate(cells)):
        ax = axes[row, column]
        _panel(ax, rows[(rows["task"] == task) & (rows["cell"] == cell)], runs)
        level = grid.chance(runs, task)
        if level is not None:
            style.threshold(ax, level, "chance" if column == 0 else "")
        _frame(ax, grid.lengths(runs, task))
        ax.set_title(f"{task}, {cell.upper()}")
    style.share(axes)
    _label(axes)
    legend.below(figure, axes, runs)
    return figure


def intervals(rows: pd.DataFrame) -> dict[int, Interval]:
    """Mean accuracy over seeds at each length, for rows of one task, cell and initialisation as `scored` gives them."""
    known = rows[grid.column(rows, METRIC).notna()]
    return {
        int(length): mean_interval(group[METRIC].astype(float)).clipped(0, 1)
        for length, group in known.groupby("length")
    }


def _panel(ax: Axes, panel: pd.DataFrame, runs: pd.DataFrame) -> None:
    styles, colours = init_styles(runs["init"]), cell_colours(runs["cell"])
    for init in init_order(panel["init"]):
        rows = panel[panel["init"] == init]
        colour, look = colours[rows["cell"].iloc[0]], styles[init]
        for kind, marker, group in (
            ("seeds", look.marker, rows[rows["outcome"] != "diverged"]),
            ("diverged", "x", rows[rows["outcome"] == "diverged"]),
        ):
            ax.plot(
                group["length"], grid.column(group, METRIC), linestyle="none", marker=marker, markersize=2.2,
                markerfacecolor="none", markeredgecolor=colour, markeredgewidth=0.4, alpha=0.6, zorder=2,
                gid=f"{init} {kind}",
            )  # fmt: skip
        found = intervals(rows)
        means = [interval.estimate for interval in found.values()]
        ax.plot(
            list(found), means, color=colour, linestyle=look.linestyle, marker=look.marker, zorder=4,
            gid=f"{init} mean", markeredgecolor="white", markeredgewidth=0.3,
        )  # fmt: skip
        known = {length: interval for length, interval in found.items() if interval.known}
        ax.vlines(
            list(known), [bar.low for bar in known.values()], [bar.high for bar in known.values()],
            color=colour, linewidth=0.7, alpha=0.7, zorder=3, gid=f"{init} interval",
        )  # fmt: skip


def _frame(ax: Axes, lengths: list[int]) -> None:
    ax.set_xscale("log")
    style.ticks(ax.xaxis, [float(length) for length in lengths])
    ax.set_ylim(-0.03, 1.03)
    ax.yaxis.set_major_locator(MultipleLocator(0.25))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _label(axes: np.ndarray) -> None:
    for row in axes:
        row[0].set_ylabel("test accuracy")
    for ax in axes[-1]:
        ax.set_xlabel("sequence length")


def _note(covered: grid.Coverage) -> str:
    method = "t-interval" if covered.seeds[1] < BOOTSTRAP_FROM else "bootstrap interval"
    return (
        f"Line: mean over seeds; bar: its 95 % {method}; small marks: every seed.\n{covered.note('crosses at chance')}"
    )
