"""Recall horizon reached after training against gradient horizon at initialisation: a panel per task.

One point per cell × initialisation × seed, as `recall_horizon.across_lengths` makes them and the table prints them,
with Spearman's rank correlation over the panel's points, its interval, and what it shows. A horizon that reached
the end of the longest sequence is a lower bound: its point is hollow, with a tick towards the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.markers import TICKRIGHT, TICKUP

from goldfish.errors import ConfigError
from goldfish.figures import grid, recall_horizon, style
from goldfish.figures.palette import GREY, cell_colours, cell_order, init_styles
from goldfish.figures.recall_horizon import ENDED_BY, across_lengths, association

if TYPE_CHECKING:
    from matplotlib.axes import Axes

X, Y = recall_horizon.GRADIENT, recall_horizon.HORIZON
X_END, Y_END = recall_horizon.GRADIENT_REACHED, recall_horizon.REACHED
_ACROSS = 3  # panels in a row: narrower ones cannot be read


@style.paper()
def draw(runs: pd.DataFrame, *, remark: str = "") -> Figure:
    """Draw the horizons of every task that has a lag; `remark` stands below them, after the note.

    runs: one row per run; the points over lengths are made of it here.
    Raises ConfigError when the table has two runs of one place, or no task with a recall horizon.
    """
    covered = grid.coverage(runs)
    tasks = [task for task in grid.tasks(runs) if grid.has_lag(runs, task)]
    if not tasks:
        raise ConfigError(f"task={', '.join(grid.tasks(runs))}: no run has a recall horizon, so there is none to draw")
    points = _points(runs)
    across = min(len(tasks), _ACROSS)
    figure, axes = style.panels(
        -(-len(tasks) // across), across, height=1.7, left=0.45, right=0.1, top=0.46, bottom=style.legends_height(runs),
        gap=(0.2, 0.66), note=f"{_note(covered, points)}\n{remark}",
    )  # fmt: skip
    for ax in axes.flat[len(tasks) :]:
        ax.set_axis_off()
    for ax, task in zip(axes.flat, tasks, strict=False):
        panel = points[points["task"] == task]
        _panel(ax, panel, runs)
        ax.set_title(_title(panel, task, grid.lengths(runs, task)), size=6)
    _frame(axes, points)
    style.legends_below(figure, axes, runs, lines=False)
    return figure


def _title(panel: pd.DataFrame, task: str, lengths: list[int]) -> str:
    """The task, n, ρ with its interval, and what the interval says."""
    correlation = association(panel)
    groups = len(panel[["cell", "init"]].drop_duplicates())
    span = "–".join(str(length) for length in dict.fromkeys((lengths[0], lengths[-1])))
    return (
        f"{task}, length {span}: {groups} cell × init., {len(panel)} points\n"
        f"{recall_horizon.written(correlation)}\n{recall_horizon.reading(correlation)}"
    )


def _points(runs: pd.DataFrame) -> pd.DataFrame:
    """The points that have both horizons, cells in the order of the palette."""
    rows = recall_horizon.known(across_lengths(runs))
    order = {cell: place for place, cell in enumerate(cell_order(rows["cell"]))}
    return rows.sort_values("cell", key=lambda cells: cells.map(order), kind="stable")


def _panel(ax: Axes, panel: pd.DataFrame, runs: pd.DataFrame) -> None:
    styles, colours = init_styles(runs["init"]), cell_colours(runs["cell"])
    rings = _rings(panel)
    for (cell, init, ring), rows in panel.groupby(["cell", "init", rings], sort=False):
        bound = (rows[X_END] == 1.0) | (rows[Y_END] == 1.0)
        diverged = rows[ENDED_BY] == "diverged"
        size = 3.4 + 1.6 * min(ring, 3)  # points
        common: Any = {"linestyle": "none", "clip_on": False, "zorder": 4 - 0.1 * ring}
        hollow: Any = {"markerfacecolor": "none", "markeredgecolor": colours[cell], "markeredgewidth": 0.6}
        full: Any = {"markerfacecolor": colours[cell], "markeredgecolor": "white", "markeredgewidth": 0.3}
        for kind, marker, extent, look, chosen in (
            ("exact", styles[init].marker, size, full, ~bound),
            ("bound", styles[init].marker, size, hollow, bound),
            ("diverged", "x", size + 3.2, hollow, diverged),
            ("right", TICKRIGHT, size / 2 + 2, hollow, rows[X_END] == 1.0),
            ("up", TICKUP, size / 2 + 2, hollow, rows[Y_END] == 1.0),
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
    rings = [len(here[place]) - 1 - here[place].index(group) for place, group in zip(places, groups, strict=True)]
    return pd.Series(rings, index=panel.index, name="ring", dtype=int)


def _frame(axes: np.ndarray, points: pd.DataFrame) -> None:
    """The same axes everywhere: linear from 0 to 1, logarithmic from 1 on, so that a horizon of 0 has a place."""
    highest = max(10.0, float(points[[X, Y]].to_numpy().max(initial=0.0)))
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
    for row in axes:
        row[0].set_ylabel("recall horizon after training")
    for column in axes.T:
        [ax for ax in column if ax.axison][-1].set_xlabel("gradient horizon at init.")


def _note(covered: grid.Coverage, points: pd.DataFrame) -> str:
    bounds = int(((points[X_END] == 1.0) | (points[Y_END] == 1.0)).sum())
    ended = int((points[ENDED_BY] == "diverged").sum())
    crosses = f" Crossed out: the first network that does not pass diverged ({ended} points)." if ended else ""
    return (
        "One point per cell × initialisation × seed. Recall horizon: over the networks trained at each length, the"
        " largest lag such that accuracy is above the midpoint of chance and 1 at it and every smaller one; gradient"
        " horizon: at the longest length."
        f" Hollow with a tick: at least this far, as the longest sequence ends here ({bounds} of {len(points)} points)."
        f"{crosses} ρ: Spearman's, with bounds ranked at their value, and in brackets its 95 % interval over cell ×"
        " initialisation groups; where that contains 0, no association is shown. Coinciding points are drawn one"
        f" around the other. Dashed: equal horizons.\n{covered.note('at chance')}"
    )
