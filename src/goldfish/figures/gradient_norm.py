"""Gradient norm against lag, on a log axis: a row per cell, a column per task and moment of training.

Every seed is a thin line, the mean over seeds of log10 norm a thick one. An exactly zero norm (log10 = −inf) has no
place on a log axis: a seed's line breaks there, and the mean stops, because it would be −inf too.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from goldfish.errors import ConfigError
from goldfish.figures import grid, style
from goldfish.figures.palette import cell_colours, cell_order, init_order, init_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUANTITY = "gradient/log10_norm_by_lag"
MOMENTS = {"before": "before training", "after": "after training"}


@style.paper()
def draw(runs: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Draw the norms of every task at its longest sequences.

    runs: one row per run; curves: fingerprint, quantity, phase, x = lag, value = log10 norm.
    Raises ConfigError when the table has two runs of one place, or no such curve.
    """
    covered = grid.coverage(runs)
    longest = {task: max(grid.lengths(runs, task)) for task in grid.tasks(runs)}
    norms = _norms(runs, curves, longest)
    cells = cell_order(runs["cell"])
    columns = list(product(longest, MOMENTS))
    figure, axes = style.panels(
        len(cells), len(columns), height=1.25, left=0.5, right=style.legend_width(runs), top=0.36, bottom=0.34,
        gap=(0.12, 0.16), note=_note(norms, covered),
    )  # fmt: skip
    for (row, cell), (place, (task, phase)) in product(enumerate(cells), enumerate(columns)):
        panel = norms[(norms["cell"] == cell) & (norms["task"] == task) & (norms["phase"] == phase)]
        _panel(axes[row, place], panel, runs)
        if row == 0:
            axes[row, place].set_title(f"{task}, length {longest[task]}\n{MOMENTS[phase]}")
    _frame(axes, runs, cells)
    return figure


def _norms(runs: pd.DataFrame, curves: pd.DataFrame, longest: Mapping[str, int]) -> pd.DataFrame:
    """The curves of the longest sequences with their runs' task, cell, init and seed beside them."""
    rows = runs[~runs["outcome"].isin(grid.HOLES)]
    rows = rows[rows["length"] == rows["task"].map(longest)]
    kept = curves[(curves["quantity"] == QUANTITY) & curves["value"].notna() & curves["phase"].isin(MOMENTS)]
    norms = kept.merge(rows[["fingerprint", "task", "cell", "init", "seed"]], on="fingerprint")
    if norms.empty:
        raise ConfigError(f"quantity={QUANTITY}: the curves hold none at lengths {dict(longest)}")
    return norms


def _panel(ax: Axes, panel: pd.DataFrame, runs: pd.DataFrame) -> None:
    styles, colours = init_styles(runs["init"]), cell_colours(runs["cell"])
    inits = init_order(panel["init"])
    for init in inits:
        rows = panel[panel["init"] == init]
        by_seed = rows.pivot(index="x", columns="seed", values="value").sort_index()
        finite = by_seed.where(np.isfinite(by_seed))
        colour, look = colours[rows["cell"].iloc[0]], styles[init]
        for seed in finite:
            ax.plot(
                finite.index, finite[seed], color=colour, linewidth=0.4, alpha=0.4, zorder=2, gid=f"{init} seed {seed}"
            )
        mean = finite.mean(axis=1, skipna=False)
        every = max(1, len(mean) // 5)
        start = every // 2 + every * inits.index(init) // (2 * len(inits))  # marks of two lines do not fall together
        ax.plot(
            mean.index, mean, color=colour, linestyle=look.linestyle, zorder=3, gid=f"{init} mean",
            marker=look.marker, markevery=(start, every), markeredgecolor="white", markeredgewidth=0.3,
        )  # fmt: skip


def _frame(axes: np.ndarray, runs: pd.DataFrame, cells: list[str]) -> None:
    """Limits shared by each cell's panels, ticks as powers of ten, labels and one legend per cell."""
    for row in range(len(axes)):  # cells differ by a hundred orders of magnitude
        style.share(axes[row : row + 1])
    for ax in axes.flat:
        ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.yaxis.set_major_formatter(lambda value, _: f"$10^{{{value:.0f}}}$")
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    for ax in axes[:-1].flat:
        ax.tick_params(labelbottom=False)
    for start in range(0, axes.shape[1], len(MOMENTS)):  # moments of one task share their lags
        style.share(axes[:, start : start + len(MOMENTS)], y=False, x=True)
    for ax in axes[-1]:
        ax.set_xlabel("lag $k$")
    for cell, row in zip(cells, axes, strict=True):
        row[0].set_ylabel(r"$\Vert\partial L/\partial s_{T-k}\Vert$")
        style.legend_beside(row[-1], runs, cell)


def _note(norms: pd.DataFrame, covered: grid.Coverage) -> str:
    zero = norms[np.isneginf(norms["value"])]
    parts = [
        "Thin: every seed (median over the probe batch); thick: mean over seeds of log10 norm."
        " s is the hidden state, for the LSTM hidden and cell state together. Each cell has its own scale."
    ]
    if len(zero):
        parts.append(
            f"Exactly zero, so not on a log axis: {len(zero)} points of {zero['fingerprint'].nunique()} runs;"
            " the mean stops where a seed is zero."
        )
    return " ".join(parts) + "\n" + covered.note("drawn where measured")
