"""Our spreads, and every published score of "a plain LSTM" beside the LSTM's over optimisers and initialisations."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from goldfish.figures import grid, style
from goldfish.figures.palette import CELLS
from goldfish.papers import figure as beside
from goldfish.papers import published

FOLDER = Path(__file__).parent


def draw(runs: pd.DataFrame, curves: pd.DataFrame, out: Path) -> list[Path]:
    """Draw the figures into `out`, as PDF and PNG; returns the files written."""
    return [*beside.save(FOLDER, runs, out), *style.save(scores(runs), out / "figure2_scores")]


@style.paper()
def scores(runs: pd.DataFrame) -> Figure:
    """Test accuracy of every seed, by setting, and the published values."""
    kept = runs[~runs["outcome"].isin(grid.HOLES)]
    kept = kept.assign(**{"test/accuracy": grid.score(kept, "test/accuracy", levels=runs)})
    groups = sorted(
        kept.groupby(["cell", "optimizer", "optimizer.lr", "init"]), key=lambda item: item[1]["test/accuracy"].mean()
    )
    task = str(runs["task"].iloc[0])
    note = f"Circles: every seed, on {task}; stars: published, on sequential MNIST."
    printed = sorted((claim for claim in published.read(FOLDER) if claim.rule == "note"), key=lambda claim: claim.value)
    figure, axes = style.panels(1, 1, width=5.0, height=0.13 * (len(groups) + len(printed)) + 0.2, left=2.35, note=note)
    ax, names = axes[0, 0], []
    for place, ((cell, optimizer, lr, init), rows) in enumerate(groups):
        names.append(f"{cell.upper()}, {optimizer} {lr:g}, {init}")
        ax.plot(
            rows["test/accuracy"], [place] * len(rows), "o", color=CELLS[cell], markersize=2.5, markerfacecolor="none"
        )
    for place, claim in enumerate(printed, len(groups)):
        names.append(f"{claim.claim} ({claim.source})")
        ax.plot([claim.value], [place], "*", color="black", markersize=5)
    style.ticks(ax.yaxis, [float(place) for place in range(len(names))])
    ax.set_yticklabels(names, size=5.5)
    ax.set_ylim(-0.7, len(names) - 0.3)
    ax.set_xlim(0, 1.02)
    ax.set_xlabel("test accuracy")
    return figure
