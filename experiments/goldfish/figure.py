"""Figures and table of the goldfish's memory: gradients and accuracy by words back; all read from the tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from goldfish.figures import accuracy_by_lag, gradient_norm, grid, style
from goldfish.figures.recall_horizon import HORIZON, REACHED, across_lengths
from goldfish.figures.statistics import mean_interval

TEXT, SYNTHETIC = "sentiment", "recall"
HEAD = ["task", "cell", "init"]
COLUMNS = {  # heading → column of the summary, and its tick that the end was reached
    "ρ before": ("rho_before", None),
    "ρ after": ("rho_after", None),
    "1 % before": ("gradient/horizon_before", "gradient/horizon_reached_end_before"),
    "1 % after": ("gradient/horizon", "gradient/horizon_reached_end"),
    "1e-6 before": ("gradient/far_horizon_before", "gradient/far_horizon_reached_end_before"),
    "1e-6 after": ("gradient/far_horizon", "gradient/far_horizon_reached_end"),
    "accuracy": ("survival", "survival_reached_end"),
}
LEGEND = """\
Words back, mean ± half of the 95 % t-interval over seeds, ≥ where some seed reached the longest lag: up to where the
gradient's norm is at least 1 % (a millionth) of that at the last word, before and after training; up to where accuracy
survives (recall: over networks trained at each length, above the midpoint of chance and 1; sentiment: inside one
model, above the midpoint of chance and what the best cell and initialisation have at the smallest lag). ρ: the largest
spectral radius of a gate's recurrent weights.
"""


def draw(runs: pd.DataFrame, curves: pd.DataFrame, out: Path) -> list[Path]:
    """Draw the figures into `out`, each as PDF and PNG, and write the table; returns the files written."""
    found = summary(runs, curves)
    written = out / "table.md"
    rows = _rows(found)
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|{'---|' * len(rows[0])}")
    written.write_text("`goldfish reproduce goldfish`\n\n" + "\n".join(lines) + f"\n\n{LEGEND}", encoding="utf-8")
    found.to_csv(out / "summary.csv", index=False)
    files = [written, out / "summary.csv"]
    files += style.save(gradient_norm.draw(runs, curves), out / "figure1_gradient_norm")
    text = runs[runs["task"] == TEXT]
    if len(text):
        files += style.save(accuracy_by_lag.draw(text, curves), out / "figure2_accuracy_by_lag")
    return files


def table(runs: pd.DataFrame) -> str:
    """What the experiment ends with: the gradients' part, which the table of runs holds."""
    rows = _rows(summary(runs, pd.DataFrame(columns=["fingerprint", "quantity", "phase", "x", "value"])))
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def summary(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """A row for each task × cell × initialisation × seed, at the task's longest sequences."""
    longest = {task: max(grid.lengths(runs, task)) for task in grid.tasks(runs)}
    rows = runs[runs["length"] == runs["task"].map(longest)].copy()
    for name, ending in (("before", r"_before"), ("after", "")):
        gates = rows.filter(regex=rf"^rho/[^_]+{ending}$").astype(float)
        rows[f"rho_{name}"] = gates.max(axis=1)
    survived = [_recall(runs), _text(runs, curves)]
    joined = pd.concat([part for part in survived if len(part)]) if any(map(len, survived)) else survived[0]
    return rows.merge(joined, on=[*HEAD, "seed"], how="left")


def _recall(runs: pd.DataFrame) -> pd.DataFrame:
    """How many distractors back a symbol is recalled, over the networks trained at each length."""
    found = across_lengths(runs[runs["task"] == SYNTHETIC])
    named = {HORIZON: "survival", REACHED: "survival_reached_end"}
    return found.rename(columns=named)[[*HEAD, "seed", *named.values()]]


def _text(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """How many filler words back sentiment is known, inside one model."""
    rows = runs[runs["task"] == TEXT]
    named = {"lag": "survival", "reached_end": "survival_reached_end"}
    if rows.empty or curves.empty:
        return pd.DataFrame(columns=[*HEAD, "seed", *named.values()])
    found = accuracy_by_lag.survival(accuracy_by_lag.by_lag(rows, curves), grid.chance(runs, TEXT) or 0.5)
    return found.rename(columns=named)[[*HEAD, "seed", *named.values()]]


def _rows(found: pd.DataFrame) -> list[list[str]]:
    rows = [[*HEAD, *COLUMNS]]
    for task in grid.tasks(found):
        for cell, init in grid.arms(found, task):
            arm = found[(found["task"] == task) & (found["cell"] == cell) & (found["init"] == init)]
            rows.append([task, cell, init, *(_written(arm, *columns) for columns in COLUMNS.values())])
    return rows


def _written(arm: pd.DataFrame, column: str, reached: str | None) -> str:
    values = grid.column(arm, column).dropna()
    if values.empty:
        return "–"
    interval = mean_interval(values)
    digits = 2 if column.startswith("rho") else 1
    half = f" ± {(interval.high - interval.low) / 2:.{digits}f}" if interval.known else ""
    bound = "≥ " if reached is not None and (grid.column(arm, reached) == 1.0).any() else ""
    some = "" if len(values) == len(arm) else f" (n={len(values)})"
    return f"{bound}{interval.estimate:.{digits}f}{half}{some}"
