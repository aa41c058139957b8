"""The figure and table of the laws of forgetting; all read from the table of measurements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from goldfish.figures import style
from goldfish.figures.palette import CELLS

FLOOR = -6.0  # log10 of the survival below which nothing is drawn or fitted
NAMES = {
    "pytorch": "PyTorch: b = 0",
    "unit_forget": "constant: b = 3",
    "uniform_gate": "uniform gate",
    "power_law": "inverse gamma, α = .56",
    "chrono": "chrono, t_max = 100",
}


def draw(runs: pd.DataFrame, curves: pd.DataFrame, out: Path) -> list[Path]:
    """Draw the figure into `out`, as PDF and PNG, and write the table; returns the files written."""
    written = out / "table.md"
    rows = _rows(runs)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    text = "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])
    written.write_text(f"`goldfish reproduce law_of_forgetting`\n\n{text}\n", encoding="utf-8")
    return [written, *style.save(figure(runs), out / "figure1_survival")]


def table(runs: pd.DataFrame) -> str:
    """What the experiment ends with."""
    rows = _rows(runs)
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


@style.paper()
def figure(runs: pd.DataFrame) -> Figure:
    """Survival against lag on logarithmic axes, a panel for each law; an exponential bends, a power law is straight."""
    laws = [law for law in NAMES if law in set(runs["law"])]
    seeds = runs["seed"].nunique()
    note = (
        "What is left of a cell state after k steps: the product of the gate that keeps, its mean over units, and "
        f"of that the geometric mean over {seeds} untrained networks. Solid: inputs of variance one; "
        "dashed: no inputs; grey: the law's closed form."
    )
    figure, axes = style.panels(1, len(laws), height=1.4, note=note)
    for ax, law in zip(axes[0], laws, strict=True):
        own = runs[runs["law"] == law]
        closed = own.drop_duplicates("k").sort_values("k")
        ax.plot(closed["k"], closed["log10_closed_form"], color="#7F7F7F", linewidth=3, alpha=0.4, label="closed form")
        for (cell, size), part in own.groupby(["cell", "inputs"], sort=False):
            mean = part.groupby("k")["log10_survival"].mean()
            label = f"{cell.upper()}, {'inputs' if size else 'no inputs'}"
            ax.plot(mean.index, mean, color=CELLS[cell], linestyle="-" if size else (0, (2, 1.5)), label=label)
        ax.set_xscale("log")
        ax.set_ylim(FLOOR, 0.1)
        ax.set_title(NAMES[law])
        ax.set_xlabel("lag k")
    axes[0, 0].set_ylabel("log₁₀ of what survives")
    roomiest = laws.index("power_law") if "power_law" in laws else 0
    axes[0, roomiest].legend(loc="lower left", fontsize=4.5, handlelength=2)
    style.share(axes)
    return figure


def _rows(runs: pd.DataFrame) -> list[list[str]]:
    """For each law, cell and inputs: measured over closed form at three lags, and which of two laws fits."""
    lags = [int(k) for k in (1, 10, 100) if k <= runs["k"].max()]
    rows = [["law", "cell", "inputs", *(f"k = {k}: measured (closed)" for k in lags), "shape"]]
    for (law, cell, size), part in runs.groupby(["law", "cell", "inputs"], sort=False):
        mean = part.groupby("k")[["log10_survival", "log10_closed_form"]].mean()
        told = []
        for k in lags:
            nearest = mean.index[np.abs(mean.index - k).argmin()]
            measured, closed = 10 ** mean.loc[nearest]
            told.append(f"{measured:.3g} ({closed:.3g})")
        rows.append([NAMES[law], cell.upper(), "variance 1" if size else "none", *told, shape(mean["log10_survival"])])
    return rows


def shape(curve: pd.Series) -> str:
    """Whether ln S is straighter over k or over ln(1 + k), by the residuals of least squares above the floor."""
    kept = curve[curve > FLOOR]
    if len(kept) < 4:
        return "too short to tell"
    residuals = {}
    for name, x in (("exponential", kept.index.to_numpy(float)), ("power law", np.log1p(kept.index.to_numpy(float)))):
        residuals[name] = float(np.polyfit(x, kept.to_numpy(), 1, full=True)[1][0])
    return min(residuals, key=lambda name: residuals[name])
