"""The page of claims and verdicts, written from the table; there is nothing to draw but a table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from goldfish.figures import style
from goldfish.figures.table import piped

COLOURS = {"holds": "#009E73", "holds under conditions": "#E69F00", "does not hold": "#D55E00"}


def draw(runs: pd.DataFrame, curves: pd.DataFrame, out: Path) -> list[Path]:
    """Write the page, and draw the claims with their verdicts as PDF and PNG; returns the files written."""
    written = out / "table.md"
    head = ["claim", "verdict", "measured", "rule", "experiment"]
    rows = [[str(row[key]) for key in head] for row in runs.to_dict("records")]
    written.write_text(f"`goldfish reproduce claims`\n\n{piped([head, *rows])}\n", encoding="utf-8")
    return [written, *style.save(figure(runs), out / "figure1_claims")]


def table(runs: pd.DataFrame) -> str:
    """What the experiment ends with."""
    rows = runs.to_dict("records")
    return "\n\n".join(f"{row['claim']}\n  {row['verdict']}: {row['measured']}  [{row['experiment']}]" for row in rows)


@style.paper()
def figure(runs: pd.DataFrame) -> Figure:
    """A line for each claim, and its verdict in colour."""
    figure, axes = style.panels(1, 1, height=0.2 * len(runs), left=0.05, right=0.05, top=0.1, bottom=0.1)
    ax = axes[0, 0]
    ax.axis("off")
    ax.set_xlim(0, 1)
    ax.set_ylim(len(runs), 0)
    for place, row in enumerate(runs.to_dict("records")):
        ax.text(0, place + 0.5, row["claim"], va="center", size=6)
        colour = COLOURS.get(str(row["verdict"]), "#7F7F7F")
        ax.text(0.82, place + 0.5, row["verdict"], va="center", size=6, color=colour, weight="bold")
    return figure
