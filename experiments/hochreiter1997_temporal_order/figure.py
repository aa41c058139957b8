"""Sequences until temporal order is solved, beside the first published ones."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from goldfish.papers import figure


def draw(runs: pd.DataFrame, curves: pd.DataFrame, out: Path) -> list[Path]:
    """Draw the figure into `out`, as PDF and PNG; returns the files written."""
    return figure.save(Path(__file__).parent, runs, out)


def table(runs: pd.DataFrame) -> str:
    """What the experiment ends with."""
    return figure.text(Path(__file__).parent, runs)
