"""One colour per cell, one line style and marker per initialisation, the same in every figure of a table.

The colours are Okabe and Ito's, told apart by colour-blind readers. Nothing here imports matplotlib.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

CELLS = {"rnn": "#D55E00", "lstm": "#0072B2", "gru": "#009E73"}
OTHERS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")  # for cells that other packages add
GREY = "#7F7F7F"
_BASELINE = "pytorch"
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
_DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (4, 1.5),
    (1, 1.2),
    (5, 1.2, 1, 1.2),
    (2, 1),
    (4, 1, 1, 1, 1, 1),
    (6.5, 1),
    (3, 3),
)


@dataclass(frozen=True)
class InitStyle:
    """How one initialisation is drawn: a dash pattern in points (empty: solid) and a marker."""

    dashes: tuple[float, ...]
    marker: str

    @property
    def linestyle(self) -> tuple[float, tuple[float, ...]] | Literal["-"]:
        """The pattern as matplotlib's `linestyle`."""
        return (0, self.dashes) if self.dashes else "-"


def cell_order(cells: Iterable[str]) -> list[str]:
    """The distinct cells: rnn, lstm, gru, then others by name."""
    known = list(CELLS)
    return sorted(set(cells), key=lambda cell: (known.index(cell) if cell in known else len(known), cell))


def init_order(inits: Iterable[str]) -> list[str]:
    """The distinct initialisations: PyTorch's, the baseline, then the others by name."""
    return sorted(set(inits), key=lambda init: (init != _BASELINE, init))


def cell_colours(cells: Iterable[str]) -> dict[str, str]:
    """A colour for each cell; rnn, lstm and gru keep theirs whatever stands beside them."""
    order = cell_order(cells)
    others = [cell for cell in order if cell not in CELLS]
    return {cell: CELLS.get(cell) or OTHERS[others.index(cell) % len(OTHERS)] for cell in order}


def init_styles(inits: Iterable[str]) -> dict[str, InitStyle]:
    """A style for each initialisation of a table, by its place in `init_order`."""
    order = init_order(inits)
    return {
        init: InitStyle(_DASHES[place % len(_DASHES)], _MARKERS[place % len(_MARKERS)])
        for place, init in enumerate(order)
    }
