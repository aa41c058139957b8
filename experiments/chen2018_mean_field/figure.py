"""Measured slopes over the theory's curve, gated cells' decay, and the map of what is trainable with T = 6 ξ in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from goldfish.figures import grid, style
from goldfish.figures.palette import CELLS, GREY, OTHERS
from goldfish.figures.statistics import mean_interval
from goldfish.papers import figure as beside
from goldfish.probes.mean_field import mean_field

MULTIPLE = 6
_KEYS = ("init.sigma_w", "length", "seed", "outcome")
GATES = (
    ("lstm", "pytorch", None, "LSTM, PyTorch's default"),
    ("lstm", "unit_forget", 1.0, "LSTM, b_f = 1"),
    ("lstm", "unit_forget", 3.0, "LSTM, b_f = 3"),
    ("lstm", "chrono", None, "LSTM, chrono"),
    ("gru", "pytorch", None, "GRU, PyTorch's default"),
    ("gru", "chrono", None, "GRU, chrono"),
)


def draw(runs: pd.DataFrame, curves: pd.DataFrame, out: Path) -> list[Path]:
    """Draw the figures into `out`, as PDF and PNG; returns the files written."""
    samples = pd.DataFrame(runs.attrs["samples"])
    return [
        *beside.save(Path(__file__).parent, runs, out),
        *style.save(slopes(runs, samples), out / "figure2_slopes"),
        *style.save(trainable(runs, samples), out / "figure3_trainable"),
    ]


@style.paper()
def slopes(runs: pd.DataFrame, samples: pd.DataFrame) -> Figure:
    """Left: every seed's slope over ½ ln χ against σ_w, for each R. Right: decay per step of gated cells."""
    own = samples[samples["kind"] == "slope"]
    note = (
        "Circles: every seed, before training. Curves: ½ ln χ, theory. Diamonds: mean and 95 % t-interval over seeds."
    )
    figure, axes = style.panels(1, 2, height=1.9, left=0.55, gap=(1.75, 0.2), note=note)
    ax = axes[0, 0]
    theory = np.linspace(max(0.3, own["sigma_w"].min() - 0.1), own["sigma_w"].max() + 0.1, 60)
    for colour, (R, rows) in zip((*CELLS.values(), *OTHERS), own.groupby("R"), strict=False):
        ax.plot(theory, [mean_field(float(sigma), float(R)).slope for sigma in theory], color=colour, linewidth=0.8)
        ax.plot(
            rows["sigma_w"],
            rows["slope"],
            "o",
            color=colour,
            markersize=2.5,
            markerfacecolor="none",
            label=f"R = {R:g}",
        )
    ax.axhline(0, color=GREY, linewidth=0.5)
    ax.set_xlabel("σ_w")
    ax.set_ylabel("slope of ln‖dL/dh_t‖ a step")
    ax.legend(loc="lower right")
    _gates(axes[0, 1], runs)
    return figure


def _gates(ax: Axes, runs: pd.DataFrame) -> None:
    names = []
    for cell, init, bias, name in GATES:
        rows = runs[(runs["cell"] == cell) & (runs["init"] == init)]
        rows = rows[rows["init.b_f"] == bias] if bias is not None else rows
        values = rows["gradient/decay_rate_before"].astype(float).dropna()
        if len(values):
            style.interval(ax, mean_interval(values), values, len(names), CELLS[cell])
            names.append(name)
    style.rows(ax, names)
    ax.set_xlabel("slope of ln‖dL/d(h, c)_t‖ a step")


@style.paper()
def trainable(runs: pd.DataFrame, samples: pd.DataFrame) -> Figure:
    """Solved fraction over σ_w and T, with T = 6 ξ."""
    own = runs.loc[(runs["task"] == "recall") & (runs["init"] == "gaussian"), [*_KEYS]]
    own = own[~own["outcome"].isin(grid.HOLES)]
    sigmas, lengths = sorted(set(own["init.sigma_w"])), sorted(set(own["length"]))
    share = own.assign(solved=own["outcome"] == "solved").pivot_table(
        index="length", columns="init.sigma_w", values="solved"
    )
    seeds = own["seed"].nunique()
    note = f"Share of {seeds} seeds that solved recall over T steps (accuracy ≥ .99); line: T = 6 ξ, R = .1."
    figure, axes = style.panels(1, 1, width=3.4, height=2.0, left=0.5, right=0.75, note=note)
    ax = axes[0, 0]
    image = ax.imshow(
        share.reindex(index=lengths, columns=sigmas), origin="lower", aspect="auto", cmap="cividis", vmin=0, vmax=1
    )
    limits = samples[samples["kind"] != "slope"].groupby("sigma_w")["scale"].first()
    places = [(x, limits[sigma]) for x, sigma in enumerate(sigmas) if lengths[0] <= limits[sigma] <= lengths[-1]]
    log = np.log2(np.array(lengths, dtype=float))
    xs, ys = [x for x, _ in places], [np.interp(np.log2(y), log, np.arange(len(log))) for _, y in places]
    ax.plot(xs, ys, "-o", color="#D55E00", markersize=2.5)
    ax.set_xticks(range(len(sigmas)), [f"{sigma:g}" for sigma in sigmas])
    ax.set_yticks(range(len(lengths)), [str(length) for length in lengths])
    ax.minorticks_off()
    ax.set_xlabel("σ_w")
    ax.set_ylabel("T")
    bar = figure.colorbar(image, cax=ax.inset_axes((1.05, 0, 0.05, 1)))
    bar.set_label("solved")
    return figure
