"""Figures and table of the headline sweep, drawn from its table of runs; cells, tasks and lengths are read from it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from goldfish.figures import accuracy_by_length, gradient_norm, horizons, recall_horizon, style
from goldfish.figures.table import markdown, text

CHANGED = """\
Rule changed on 2026-11-27, after the results were seen: until then a point whose longest network had diverged was put
at recall horizon 0, whatever its shorter networks recalled. The results of scale cpu of commit ebbce21 then read
ρ = .57 [.13, .83] for recall and ρ = .20 [−.45, .68] for digits; the interval of digits differs in the order of the
bootstrap's draws alone."""


def draw(runs: pd.DataFrame, curves: pd.DataFrame, out: Path) -> list[Path]:
    """Draw the three figures into `out`, each as PDF and PNG, and write the tables; returns the files written."""
    table_file, horizons_file = out / "table.md", out / "horizons.md"
    table_file.write_text(f"`goldfish reproduce forgetting`\n\n{markdown(runs)}", encoding="utf-8")
    horizons_file.write_text(f"{recall_horizon.markdown(runs)}\n\n{CHANGED}\n", encoding="utf-8")
    figures = {
        "figure1_gradient_norm": gradient_norm.draw(runs, curves),
        "figure2_accuracy_by_length": accuracy_by_length.draw(runs),
        "figure3_horizons": horizons.draw(runs, remark=CHANGED.replace("\n", " ")),
    }
    return [table_file, horizons_file] + [
        path for name, figure in figures.items() for path in style.save(figure, out / name)
    ]


def table(runs: pd.DataFrame) -> str:
    """The table that the sweep ends with, and what it says about the two horizons."""
    return f"{text(runs)}\n\n{recall_horizon.text(runs)}"
