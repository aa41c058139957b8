"""Cost against T, H and R: time per step and network of this project and of torch.nn.*, a colour for each cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import contestants
from benchmarks.peers import torch_nn
from benchmarks.problem import CELLS, LENGTH
from benchmarks.rows import Row
from goldfish.figures import style
from goldfish.figures.palette import GREY, cell_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = {"T": "T (H=32, B=32)", "H": "H (B=32, T=200)", "R": "R in a pack (H=32, B=32, T=200)"}
FIXED = {"T": LENGTH, "H": 32, "R": 1, "B": 32}


@style.paper()
def growth(rows: Sequence[Row], path: Path) -> list[Path]:
    """Draw what the section `growth` measured into `path`.pdf and .png; nothing when it did not run."""
    shown = [item for item in rows if item.section == "growth" and item.unit == "s" and item.value is not None]
    if not shown:
        return []
    note = "Time of a training step per network: solid, goldfish with the norms of all adjoints; dotted, torch.nn."
    figure, axes = style.panels(1, 3, height=1.9, left=0.55, top=0.12, gap=(0.5, 0.2), note=note)
    for ax, (axis, label) in zip(axes[0], AXES.items(), strict=True):
        for cell in CELLS:
            for ours in (True, False):
                _line(ax, shown, axis, cell, ours)
        ax.set(xscale="log", yscale="log", xlabel=label, ylabel="ms")
        style.log_ticks(ax, sorted({round(x) for line in ax.lines for x in line.get_xdata()}))
    _legend(axes[0, 0])
    return style.save(figure, path)


def point(case: str) -> dict[str, int | str]:
    """ "lstm H=32 B=32 R=4" → its cell and T, H, B, R."""
    cell, *parts = case.split()
    return FIXED | {"cell": cell} | {key: int(value) for key, value in (part.split("=") for part in parts)}


def _line(ax: Axes, rows: Sequence[Row], axis: str, cell: str, ours: bool) -> None:
    """One cell's costs along one axis, everything else fixed."""
    fixed = {key: value for key, value in FIXED.items() if key != axis} | {"cell": cell}
    places = []
    for item in rows:
        where = point(item.case) if ":" not in item.case else {}
        mine = item.peer == contestants.OURS if ours else item.peer in (torch_nn.PLAIN, torch_nn.TF32)
        if mine and item.value is not None and fixed.items() <= where.items():
            places.append((int(where[axis]), 1e3 * item.value))
    if places:
        x, y = zip(*sorted(places), strict=True)
        ax.plot(x, y, color=cell_colours(CELLS)[cell], linestyle="-" if ours else ":", marker="o" if ours else "")


def _legend(ax: Axes) -> None:
    for cell, colour in cell_colours(CELLS).items():
        ax.plot([], [], color=colour, label=cell)
    ax.plot([], [], color=GREY, linestyle=":", label="torch.nn")
    ax.legend(loc="upper left")
