"""Figures and table of the headline sweep, drawn from its table of runs; cells, tasks and lengths are read from it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from goldfish.figures import accuracy_by_length, gradient_norm, horizons, style
from goldfish.figures.recall_horizon import across_lengths
from goldfish.figures.table import markdown, text


def draw(runs: pd.DataFrame, curves: pd.DataFrame, out: Path) -> list[Path]:
    """Draw the three figures into `out`, each as PDF and PNG, and write the table; returns the files written."""
    written = out / "table.md"
    written.write_text(f"`goldfish reproduce forgetting`\n\n{markdown(runs)}", encoding="utf-8")
    figures = {
        "figure1_gradient_norm": gradient_norm.draw(runs, curves),
        "figure2_accuracy_by_length": accuracy_by_length.draw(runs),
        "figure3_horizons": horizons.draw(across_lengths(runs)),
    }
    return [written] + [path for name, figure in figures.items() for path in style.save(figure, out / name)]


def table(runs: pd.DataFrame) -> str:
    """The table that the sweep ends with."""
    return text(runs)
