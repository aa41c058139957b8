"""Accuracy against sequence length: a row per task, a column per cell, every seed and the mean with its interval."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from matplotlib.transforms import offset_copy

from goldfish.figures import grid, style
from goldfish.figures.palette import cell_colours, cell_order, init_order, init_styles
from goldfish.figures.statistics import BOOTSTRAP_FROM, Interval, mean_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRIC = "test/accuracy"
_APART = 2.4  # points between initialisations at one length: their bars would hide each other


@style.paper()
def draw(runs: pd.DataFrame) -> Figure:
    """Draw the test accuracy of every task, cell and initialisation. A diverged run stands at chance, as a cross.

    Raises ConfigError when the table has two runs of one place.
    """
    covered = grid.coverage(runs)
    rows = grid.scored(runs)
    tasks, cells = grid.tasks(runs), cell_order(runs["cell"])
    figure, axes = style.panels(
        len(tasks), len(cells), height=1.35, left=0.42, right=0.08, top=0.22, bottom=style.legends_height(runs),
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
    style.legends_below(figure, axes, runs)
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
    inits = init_order(panel["init"])
    for place, init in enumerate(inits):
        rows = panel[panel["init"] == init]
        beside = _APART * (place - (len(inits) - 1) / 2)
        common: Any = {
            "transform": offset_copy(ax.transData, ax.get_figure(root=True), x=beside, units="points"),
            "clip_on": False,
        }
        colour, look = colours[rows["cell"].iloc[0]], styles[init]
        diverged = rows["outcome"] == "diverged"
        for kind, marker, size, group in (
            ("seeds", look.marker, 2.2, rows[~diverged]),
            ("diverged", "x", 5.0, rows[diverged]),
        ):
            if group.empty:
                continue
            ax.plot(
                group["length"], grid.column(group, METRIC), linestyle="none", marker=marker, markersize=size,
                markerfacecolor="none", markeredgecolor=colour, markeredgewidth=0.16 * size, alpha=0.6, zorder=2,
                gid=f"{init} {kind}", **common,
            )  # fmt: skip
        means_by_length = intervals(rows)
        means = [interval.estimate for interval in means_by_length.values()]
        ax.plot(
            list(means_by_length), means, color=colour, linestyle=look.linestyle, marker=look.marker, zorder=4,
            gid=f"{init} mean", markeredgecolor="white", markeredgewidth=0.3, **common,
        )  # fmt: skip
        known = {length: interval for length, interval in means_by_length.items() if interval.known}
        if not known:
            continue  # one seed has no interval
        ax.vlines(
            list(known), [bar.low for bar in known.values()], [bar.high for bar in known.values()],
            color=colour, linewidth=0.7, alpha=0.7, zorder=3, gid=f"{init} interval", **common,
        )  # fmt: skip


def _frame(ax: Axes, lengths: list[int]) -> None:
    ax.set_xscale("log")
    margin = (lengths[-1] / lengths[0]) ** 0.08 if len(lengths) > 1 else 2.0
    ax.set_xlim(lengths[0] / margin, lengths[-1] * margin)
    style.log_ticks(ax, lengths)
    ax.set_ylim(-0.03, 1.03)
    ax.yaxis.set_major_locator(MultipleLocator(0.25))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _label(axes: np.ndarray) -> None:
    for row in axes:
        row[0].set_ylabel("test accuracy")
    for ax in axes[-1]:
        ax.set_xlabel("sequence length")


def _note(covered: grid.Coverage) -> str:
    low, high = covered.seeds
    method = "t-interval" if high < BOOTSTRAP_FROM else "bootstrap interval"
    if low < BOOTSTRAP_FROM <= high:
        method = "interval, t below ten seeds, bootstrap from ten on"
    return (
        f"Line: mean over seeds; bar: its 95 % {method}; small marks: every seed."
        f" Initialisations stand side by side at each length.\n{covered.note('crosses at chance')}"
    )
