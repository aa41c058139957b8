"""Legends: one per cell, its initialisations in their line styles and markers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.transforms import offset_copy

from goldfish.figures.palette import cell_colours, cell_order, init_order, init_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINE = 0.125  # inches per entry
_SIDE = 0.08  # inches from a panel to the legend beside it
_DROP = 0.34  # inches from the panels to the legends: ticks and axis label stand between


def handles(runs: pd.DataFrame, cell: str, *, lines: bool = True) -> list[Line2D]:
    """One handle per initialisation that the table has for a cell, with its line or as a marker alone."""
    styles, colour = init_styles(runs["init"]), cell_colours(runs["cell"])[cell]
    return [
        Line2D(
            [], [], color=colour, linestyle=styles[init].linestyle if lines else "none", marker=styles[init].marker,
            markeredgecolor="white" if lines else colour, markeredgewidth=0.3, label=init,
        )
        for init in init_order(runs.loc[runs["cell"] == cell, "init"])
    ]  # fmt: skip


def titled(legend: Legend, colour: str) -> None:
    """Write a legend's title in its cell's colour."""
    legend.get_title().set_color(colour)
    legend.get_title().set_fontweight("bold")


def beside(ax: Axes, runs: pd.DataFrame, cell: str) -> None:
    """A cell's legend to the right of a panel."""
    place = offset_copy(ax.transAxes, ax.get_figure(root=True), x=_SIDE, units="inches")
    legend = ax.legend(
        handles=handles(runs, cell), title=cell.upper(), loc="upper left", alignment="left",
        bbox_to_anchor=(1.0, 1.0), bbox_transform=place,
    )  # fmt: skip
    titled(legend, cell_colours(runs["cell"])[cell])


def width(runs: pd.DataFrame) -> float:
    """Inches to keep free beside the panels for `beside`."""
    return _SIDE + 0.38 + 0.054 * max(len(init) for init in runs["init"])


def below(figure: Figure, axes: np.ndarray, runs: pd.DataFrame, *, columns: int = 2, lines: bool = True) -> None:
    """A legend per cell side by side under the panels, each `columns` entries wide."""
    cells = cell_order(runs["cell"])
    left, right = axes[0, 0].get_position().x0, axes[0, -1].get_position().x1
    foot = axes[-1, 0].get_position().y0 - _DROP / figure.get_figheight()
    for place, cell in enumerate(cells):
        common: dict[str, Any] = {"handletextpad": 0.5, "columnspacing": 1.0, "handlelength": 3.6 if lines else 1.0}
        legend = figure.legend(
            handles=handles(runs, cell, lines=lines), title=cell.upper(), ncols=columns, alignment="left",
            loc="upper left", bbox_to_anchor=(left + (right - left) * place / len(cells), foot), **common,
        )  # fmt: skip
        titled(legend, cell_colours(cells)[cell])


def height(runs: pd.DataFrame, *, columns: int = 2) -> float:
    """Inches to keep free below the panels for `below`, axis labels included."""
    most = max(runs.loc[runs["cell"] == cell, "init"].nunique() for cell in set(runs["cell"]))
    return _DROP + LINE * (1 + -(-most // columns)) + 0.06
