"""Accuracy against lag inside one model: a panel for each cell, every seed and the mean over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from goldfish.errors import ConfigError
from goldfish.figures import grid, legend, style
from goldfish.figures.palette import cell_colours, cell_order, init_order, init_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUANTITY = "recall/accuracy_by_lag"


@style.paper()
def draw(runs: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Draw the test accuracy by lag of the runs of one task and length. A diverged run stands at chance.

    Raises ConfigError when the table has two runs of one place, or no such curve.
    """
    covered = grid.coverage(runs)
    found = by_lag(runs, curves)
    cells = cell_order(found["cell"])
    figure, axes = style.panels(
        1, len(cells), height=1.5, left=0.42, bottom=legend.height(runs), gap=(0.14, 0.4),
        note="Thin: every seed; thick: mean over seeds. Lags are binned; a bin stands at its largest lag. "
        + covered.note("at chance"),
    )  # fmt: skip
    (task,) = set(found["task"])
    level = grid.chance(runs, task)
    for ax, cell in zip(axes.flat, cells, strict=True):
        _panel(ax, found[found["cell"] == cell], runs)
        if level is not None:
            style.threshold(ax, level, "chance")
        ax.set_title(cell.upper())
        ax.set_xlabel("lag $k$, words")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    style.share(axes, x=True)
    axes[0, 0].set_ylabel("test accuracy")
    legend.below(figure, axes, runs)
    return figure


def by_lag(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The curves' points (x = lag, value = accuracy) with task, cell, init and seed beside them.

    A diverged run answers nothing: it is at chance at every lag that its task's other runs were asked at.
    Raises ConfigError when there is none.
    """
    rows = runs[~runs["outcome"].isin((*grid.HOLES, "diverged"))]
    kept = curves[(curves["quantity"] == QUANTITY) & curves["value"].notna()]
    found = kept.merge(rows[["fingerprint", "task", "cell", "init", "seed"]], on="fingerprint")
    if found.empty:
        raise ConfigError(f"quantity={QUANTITY}: the curves hold none")
    lost = runs[runs["outcome"] == "diverged"]
    parts = [found]
    for task, rows in lost.groupby("task"):
        lags = found.loc[found["task"] == task, ["quantity", "phase", "x"]].drop_duplicates()
        level = grid.chance(runs, str(task)) or 0.0
        parts.append(rows[["fingerprint", "task", "cell", "init", "seed"]].merge(lags.assign(value=level), how="cross"))
    return pd.concat(parts, ignore_index=True)


def survival(found: pd.DataFrame, chance: float) -> pd.DataFrame:
    """How many words back accuracy survives: task, cell, init, seed, lag and reached_end for each run of `by_lag`.

    The largest lag such that accuracy is above the midpoint of chance and what the best cell × initialisation has, on
    average over seeds, at the smallest lag, at it and every smaller one: on real text nobody is right every time. A
    network that has learnt nothing survives nothing: 0.
    """
    smallest = found[found["x"] == found["x"].min()]
    best = float(smallest.groupby(["cell", "init"])["value"].mean().max())
    rows = []
    for (task, cell, init, seed), run in found.groupby(["task", "cell", "init", "seed"], sort=False):
        ordered = run.sort_values("x")
        passed = ordered["value"] > (chance + best) / 2
        passed = passed.cummin()
        lag = float(ordered.loc[passed, "x"].max()) if passed.any() else 0.0
        rows.append((task, cell, init, seed, lag, bool(passed.all())))
    return pd.DataFrame(rows, columns=["task", "cell", "init", "seed", "lag", "reached_end"])


def _panel(ax: Axes, panel: pd.DataFrame, runs: pd.DataFrame) -> None:
    styles, colours = init_styles(runs["init"]), cell_colours(runs["cell"])
    for init in init_order(panel["init"]):
        rows = panel[panel["init"] == init]
        by_seed = rows.pivot(index="x", columns="seed", values="value").sort_index()
        colour, look = colours[rows["cell"].iloc[0]], styles[init]
        for seed in by_seed:
            ax.plot(by_seed.index, by_seed[seed], color=colour, linewidth=0.4, alpha=0.5, zorder=2)
        mean = by_seed.mean(axis=1)
        ax.plot(
            mean.index, mean, color=colour, linestyle=look.linestyle, marker=look.marker, zorder=3,
            markeredgecolor="white", markeredgewidth=0.3, gid=f"{init} mean",
        )  # fmt: skip
