"""How a figure looks and is written: vector PDF with embedded TrueType fonts, and PNG, the same bytes every time.

Figures are made without pyplot, so nothing is shown and no global state is left behind; DejaVu Sans comes with
matplotlib, so a figure looks the same on every machine.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from goldfish.figures.palette import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

ONE_COLUMN = 3.25  # inches
TWO_COLUMNS = 6.75
DPI = 250
NOTE_SIZE = 5.5  # points
_NOTE_LINE = NOTE_SIZE * 1.3 / 72  # inches
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


def threshold(ax: Axes, value: float, label: str = "") -> None:
    """A thin grey dashed line across a panel, such as chance."""
    ax.axhline(value, color=GREY, linewidth=0.6, linestyle=(0, (2, 2)), zorder=0, label="_threshold")
    if label:
        ax.annotate(
            label, (0, value), (2, -1.5), xycoords=("axes fraction", "data"), textcoords="offset points",
            ha="left", va="top", size=5.5, color=GREY,
        )  # fmt: skip


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
