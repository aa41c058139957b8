"""Recall horizon reached after training against gradient horizon at initialisation: a panel per task and length.

One point per cell × initialisation × seed, with Spearman's rank correlation over the panel's points and its interval.
A horizon that reached the end of the sequence is a lower bound: its point is hollow, with a tick towards the rest.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.markers import TICKRIGHT, TICKUP

from goldfish.errors import ConfigError
from goldfish.figures import grid, legend, style
from goldfish.figures.palette import GREY, cell_colours, cell_order, init_styles
from goldfish.figures.statistics import Interval, rank_correlation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

X, Y = "gradient/horizon_before", "recall/horizon"
X_END, Y_END = "gradient/horizon_reached_end_before", "recall/horizon_reached_end"
_ACROSS = 5  # panels in a row: narrower ones cannot be read


@style.paper()
def draw(runs: pd.DataFrame) -> Figure:
    """Draw the horizons of every task that has a lag. A diverged run recalls nothing: a cross at 0.

    Raises ConfigError when the table has two runs of one place, or no task with a recall horizon.
    """
    covered = grid.coverage(runs)
    tasks = [task for task in grid.tasks(runs) if grid.has_lag(runs, task)]
    if not tasks:
        raise ConfigError(f"task={', '.join(grid.tasks(runs))}: no run has a recall horizon, so there is none to draw")
    points = _points(runs)
    rows = [(task, chunk) for task in tasks for chunk in _chunks(grid.lengths(runs, task))]
    figure, axes = style.panels(
        len(rows), max(len(chunk) for _, chunk in rows), height=1.3, left=0.56, right=0.08, top=0.34,
        bottom=legend.height(runs), gap=(0.1, 0.52), note=_note(covered, points),
    )  # fmt: skip
    for (task, lengths), line in zip(rows, axes, strict=True):
        for length, ax in zip_longest(lengths, line):
            if length is None:
                ax.set_axis_off()
                continue
            panel = points[(points["task"] == task) & (points["length"] == length)]
            _panel(ax, panel, runs)
            ax.set_title(f"length {length}, n = {len(panel)}\n{correlation_text(correlation(panel))}", size=6)
        line[0].set_ylabel(f"{task}: recall horizon\nafter training")
    _frame(axes, points)
    legend.below(figure, axes, runs, lines=False)
    return figure


def correlation(panel: pd.DataFrame) -> Interval | None:
    """Spearman's ρ of the two horizons over points; the groups of its interval are cell × initialisation."""
    if len(panel) < 2:
        return None
    groups = list(panel[["cell", "init"]].itertuples(index=False, name=None))
    return rank_correlation(panel[X], panel[Y], groups)


def correlation_text(found: Interval | None) -> str:
    """ρ with its interval, as it stands over a panel."""
    if found is None or np.isnan(found.estimate):
        return "ρ undefined: one value"
    interval = f" [{_short(found.low)}, {_short(found.high)}]" if found.known else ""
    return f"ρ = {_short(found.estimate)}{interval}"


def _chunks(lengths: list[int]) -> list[list[int]]:
    """Lengths in rows of at most five panels, as even as can be."""
    rows = -(-len(lengths) // _ACROSS)
    size = -(-len(lengths) // rows)
    return [lengths[start : start + size] for start in range(0, len(lengths), size)]


def _points(runs: pd.DataFrame) -> pd.DataFrame:
    """The counted runs that have both horizons, with a column `bound` for each that reached its end."""
    rows = grid.scored(runs)
    for name in (X, Y, X_END, Y_END):
        rows[name] = grid.column(rows, name)
    rows[[X_END, Y_END]] = rows[[X_END, Y_END]].fillna(0.0)
    rows = rows[rows[X].notna() & rows[Y].notna()]
    order = {cell: place for place, cell in enumerate(cell_order(rows["cell"]))}
    return rows.sort_values("cell", key=lambda cells: cells.map(order), kind="stable")


def _panel(ax: Axes, panel: pd.DataFrame, runs: pd.DataFrame) -> None:
    styles, colours = init_styles(runs["init"]), cell_colours(runs["cell"])
    rings = _rings(panel)
    for (cell, init, ring), rows in panel.groupby(["cell", "init", rings], sort=False):
        bound = (rows[X_END] == 1.0) | (rows[Y_END] == 1.0)
        diverged = rows["outcome"] == "diverged"
        size = 3.4 + 1.6 * min(ring, 3)  # points
        common: Any = {"linestyle": "none", "clip_on": False, "zorder": 4 - 0.1 * ring}
        hollow: Any = {"markerfacecolor": "none", "markeredgecolor": colours[cell], "markeredgewidth": 0.6}
        full: Any = {"markerfacecolor": colours[cell], "markeredgecolor": "white", "markeredgewidth": 0.3}
        for kind, marker, extent, look, chosen in (
            ("exact", styles[init].marker, size, full, ~bound & ~diverged),
            ("bound", styles[init].marker, size, hollow, bound & ~diverged),
            ("diverged", "x", size, hollow, diverged),
            ("right", TICKRIGHT, size / 2 + 2, hollow, (rows[X_END] == 1.0) & ~diverged),
            ("up", TICKUP, size / 2 + 2, hollow, (rows[Y_END] == 1.0) & ~diverged),
        ):
            if chosen.any():
                x, y = rows.loc[chosen, X], rows.loc[chosen, Y]
                ax.plot(x, y, marker=marker, markersize=extent, gid=f"{cell} {init} {kind}", **look, **common)


def _rings(panel: pd.DataFrame) -> pd.Series:
    """0 for a point that stands alone; where groups coincide the last stands at 0 and those before it around it."""
    places = panel[[X, Y]].apply(tuple, axis=1)
    groups = panel[["cell", "init"]].apply(tuple, axis=1)
    here: dict[tuple[float, float], list[tuple[str, str]]] = {}
    for place, group in zip(places, groups, strict=True):
        there = here.setdefault(place, [])
        if group not in there:
            there.append(group)
    found = [len(here[place]) - 1 - here[place].index(group) for place, group in zip(places, groups, strict=True)]
    return pd.Series(found, index=panel.index, name="ring", dtype=int)


def _frame(axes: np.ndarray, points: pd.DataFrame) -> None:
    """The same axes everywhere: linear from 0 to 1, logarithmic from 1 on, so that a horizon of 0 has a place."""
    highest = max(10.0, float(points[[X, Y]].to_numpy().max()))
    places = [0.0, *(10.0**power for power in range(int(np.log10(highest)) + 1))]
    for ax in axes.flat:
        if not ax.axison:
            continue
        for axis, scale, limit in ((ax.xaxis, ax.set_xscale, ax.set_xlim), (ax.yaxis, ax.set_yscale, ax.set_ylim)):
            scale("symlog", linthresh=1, linscale=0.4)
            limit(-0.5, highest * 1.6)
            style.ticks(axis, places)
        ax.plot([0, highest], [0, highest], color=GREY, linewidth=0.5, linestyle=(0, (2, 2)), zorder=0, gid="equal")
    for ax in axes[:, 1:].flat:
        ax.tick_params(labelleft=False)
    for column in axes.T:
        [ax for ax in column if ax.axison][-1].set_xlabel("gradient horizon at init.")


def _short(value: float) -> str:
    """Two decimals without the leading zero, with a minus sign: −.31."""
    rounded = round(value, 2) + 0.0  # never −.00
    return f"{rounded:.2f}".replace("0.", ".").replace("-", "−")


def _note(covered: grid.Coverage, points: pd.DataFrame) -> str:
    bounds = int(((points[X_END] == 1.0) | (points[Y_END] == 1.0)).sum())
    return (
        f"Hollow with a tick: at least this far, the sequence ended here ({bounds} of {len(points)} points)."
        " ρ: Spearman's, bounds ranked at their value; in brackets its 95 % interval over cell × initialisation groups."
        " Where points coincide, one is drawn around the other."
        f" Dashed: equal horizons.\n{covered.note('recall horizon 0, crosses')}"
    )
