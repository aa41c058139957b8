"""The style and the files of figures: vector PDF with embedded TrueType fonts, and PNG, with the same bytes every time.

Figures are made without pyplot, so nothing is shown and no global state is left behind; DejaVu Sans comes with
matplotlib, so a figure looks the same on every machine.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import offset_copy

from goldfish.figures.palette import GREY, cell_colours, cell_order, init_order, init_styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from goldfish.figures.statistics import Interval

ONE_COLUMN = 3.25  # inches
TWO_COLUMNS = 6.75
DPI = 250
NOTE_SIZE = 5.5  # points
_NOTE_LINE = NOTE_SIZE * 1.3 / 72  # inches
_LEGEND_LINE = 0.125  # inches per entry
_SIDE = 0.08  # inches from a panel to the legend beside it
_DROP = 0.34  # inches from the panels to the legends: ticks and axis label stand between
_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "mathtext.fontset": "dejavusans",
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.titlesize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 6,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlepad": 4,
    "axes.labelpad": 2,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.2,
    "legend.frameon": False,
    "legend.handlelength": 3.6,
    "legend.borderaxespad": 0,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.hashsalt": "goldfish",
    "savefig.bbox": None,
    "savefig.facecolor": "white",
}


@contextmanager
def paper() -> Iterator[None]:
    """Matplotlib's settings for a paper, inside the block (or the decorated function) only."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever a user's matplotlibrc says, the bytes are the same
        matplotlib.rcParams.update(_SETTINGS)
        yield


def panels(
    rows: int,
    columns: int,
    *,
    width: float = TWO_COLUMNS,
    height: float | Sequence[float] = 1.3,
    left: float = 0.5,
    right: float = 0.1,
    top: float = 0.25,
    bottom: float = 0.42,
    gap: tuple[float, float] = (0.15, 0.2),
    note: str = "",
) -> tuple[Figure, np.ndarray]:
    """A figure of rows × columns panels with the note below them; everything in inches, so that widths are exact.

    `height` is one panel's, or one for each row; `gap` is the space between columns and between rows.
    Returns the figure and its axes (rows, columns).
    """
    lines = _wrapped(note, width)
    foot = bottom + (_NOTE_LINE * len(lines) + 0.06 if lines else 0)
    heights = [height] * rows if isinstance(height, int | float) else list(height)
    total = top + sum(heights) + (rows - 1) * gap[1] + foot
    across = (width - left - right - (columns - 1) * gap[0]) / columns
    figure = Figure(figsize=(width, total))
    FigureCanvasAgg(figure)
    axes = np.empty((rows, columns), dtype=object)
    for row in range(rows):
        for column in range(columns):
            x, y = left + column * (across + gap[0]), total - top - sum(heights[: row + 1]) - row * gap[1]
            axes[row, column] = figure.add_axes((x / width, y / total, across / width, heights[row] / total))
    if lines:
        figure.text(
            0.04 / width, 0.04 / total, "\n".join(lines), size=NOTE_SIZE, color="#404040", va="bottom", linespacing=1.15
        )
    return figure, axes


def share(axes: np.ndarray, *, y: bool = True, x: bool = False) -> None:
    """Give all panels the same limits, and tick labels to the outer ones only."""
    if y:
        low, high = min(ax.get_ylim()[0] for ax in axes.flat), max(ax.get_ylim()[1] for ax in axes.flat)
        for ax in axes.flat:
            ax.set_ylim(low, high)
        for ax in axes[:, 1:].flat:
            ax.tick_params(labelleft=False)
    if x:
        low, high = min(ax.get_xlim()[0] for ax in axes.flat), max(ax.get_xlim()[1] for ax in axes.flat)
        for ax in axes.flat:
            ax.set_xlim(low, high)


def log_ticks(ax: Axes, places: list[int]) -> None:
    """Ticks at these places of a logarithmic x axis; those are numbered that have room, the first and last always."""
    low, high = np.log(ax.get_xlim())
    figure = ax.get_figure(root=True)
    assert figure is not None
    inches = ax.get_position().width * figure.get_figwidth() / (high - low)  # per e-fold
    numbered: list[int] = []
    for place in places:
        while numbered and np.log(place / numbered[-1]) * inches < _room(place, numbered[-1]):
            if place != places[-1] or len(numbered) == 1:
                break
            numbered.pop()  # the last one is numbered at the cost of those before it
        else:
            numbered.append(place)
    ticks(ax.xaxis, [float(place) for place in places])
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if round(value) in numbered else "")


def _room(*labels: int) -> float:
    """Inches between the centres of two neighbouring tick labels."""
    return 0.03 + sum(0.027 * len(str(label)) for label in labels)


def ticks(axis: Axis, places: list[float]) -> None:
    """Ticks at these places, written as plain numbers, and no others."""
    axis.set_major_locator(FixedLocator(places))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")


def interval(ax: Axes, mean: Interval | None, values: Iterable[float], place: float, colour: str) -> None:
    """A row of a panel: every value a circle, their mean, if they have one, a diamond, and its interval a bar."""
    kept = list(values)
    ax.plot(kept, [place] * len(kept), "o", markersize=2.2, markerfacecolor="none", markeredgecolor=colour,
            markeredgewidth=0.4, alpha=0.6, clip_on=False)  # fmt: skip
    if mean is not None:
        if mean.known:
            ax.plot([mean.low, mean.high], [place, place], color=colour, linewidth=0.8)
        ax.plot([mean.estimate], [place], "D", color=colour, markersize=3, clip_on=False, zorder=4)


def rows(ax: Axes, labels: Sequence[str]) -> None:
    """Name the rows of a panel, the first at the top."""
    ticks(ax.yaxis, [float(place) for place in range(len(labels))])
    ax.set_yticklabels(labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)


def threshold(ax: Axes, value: float, label: str = "") -> None:
    """A thin grey dashed line across a panel, such as chance."""
    ax.axhline(value, color=GREY, linewidth=0.6, linestyle=(0, (2, 2)), zorder=0, label="_threshold")
    if label:
        ax.annotate(
            label, (0, value), (2, -1.5), xycoords=("axes fraction", "data"), textcoords="offset points",
            ha="left", va="top", size=5.5, color=GREY,
        )  # fmt: skip


def _handles(runs: pd.DataFrame, cell: str, *, lines: bool = True) -> list[Line2D]:
    """One handle per initialisation that the table has for a cell, with its line or as a marker alone."""
    styles, colour = init_styles(runs["init"]), cell_colours(runs["cell"])[cell]
    return [
        Line2D(
            [], [], color=colour, linestyle=styles[init].linestyle if lines else "none", marker=styles[init].marker,
            markeredgecolor="white" if lines else colour, markeredgewidth=0.3, label=init,
        )
        for init in init_order(runs.loc[runs["cell"] == cell, "init"])
    ]  # fmt: skip


def _titled(legend: Legend, colour: str) -> None:
    """Write a legend's title in its cell's colour."""
    legend.get_title().set_color(colour)
    legend.get_title().set_fontweight("bold")


def legend_beside(ax: Axes, runs: pd.DataFrame, cell: str) -> None:
    """A cell's legend to the right of a panel."""
    place = offset_copy(ax.transAxes, ax.get_figure(root=True), x=_SIDE, units="inches")
    legend = ax.legend(
        handles=_handles(runs, cell), title=cell.upper(), loc="upper left", alignment="left",
        bbox_to_anchor=(1.0, 1.0), bbox_transform=place,
    )  # fmt: skip
    _titled(legend, cell_colours(runs["cell"])[cell])


def legend_width(runs: pd.DataFrame) -> float:
    """Inches to keep free beside the panels for `legend_beside`."""
    return _SIDE + 0.38 + 0.054 * max(len(init) for init in runs["init"])


def legends_below(
    figure: Figure, axes: np.ndarray, runs: pd.DataFrame, *, columns: int = 2, lines: bool = True
) -> None:
    """A legend per cell side by side under the panels, two entries wide."""
    cells = cell_order(runs["cell"])
    left, right = axes[0, 0].get_position().x0, axes[0, -1].get_position().x1
    foot = axes[-1, 0].get_position().y0 - _DROP / figure.get_figheight()
    for place, cell in enumerate(cells):
        common: dict[str, Any] = {"handletextpad": 0.5, "columnspacing": 1.0, "handlelength": 3.6 if lines else 1.0}
        legend = figure.legend(
            handles=_handles(runs, cell, lines=lines), title=cell.upper(), ncols=2, alignment="left",
            loc="upper left", bbox_to_anchor=(left + (right - left) * place / len(cells), foot), **common,
        )  # fmt: skip
        _titled(legend, cell_colours(cells)[cell])


def legends_height(runs: pd.DataFrame) -> float:
    """Inches to keep free below the panels for `legends_below`, axis labels included."""
    most = max(runs.loc[runs["cell"] == cell, "init"].nunique() for cell in set(runs["cell"]))
    return float(_DROP + _LEGEND_LINE * (1 + -(-most // 2)) + 0.06)


def save(figure: Figure, path: Path) -> list[Path]:
    """Write `path`.pdf and `path`.png; the same figure gives the same bytes on the same machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = [path.with_name(f"{path.name}.{kind}") for kind in ("pdf", "png")]
    with paper():
        figure.savefig(written[0], format="pdf", metadata={"CreationDate": None})
        figure.savefig(written[1], format="png", dpi=DPI, metadata={"Software": None})
    return written


def _wrapped(note: str, width: float) -> list[str]:
    characters = int((width - 0.08) * 72 / (NOTE_SIZE * 0.57))  # DejaVu Sans averages a little under .57 em
    return [line for paragraph in note.splitlines() for line in textwrap.wrap(paragraph, characters)]
