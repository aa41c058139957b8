"""Figures and table of the goldfish's memory: gradients and accuracy by words back; all read from the tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from goldfish.errors import ConfigError
from goldfish.figures import gradient_norm, grid, style
from goldfish.figures.palette import cell_colours, cell_order, init_order, init_styles
from goldfish.figures.recall_horizon import HORIZON, REACHED, across_lengths
from goldfish.figures.statistics import mean_interval
from goldfish.figures.table import aligned, piped

QUANTITY = "recall/accuracy_by_lag"
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
    table = summary(runs, curves)
    written = out / "table.md"
    rows = _rows(table)
    written.write_text(f"`goldfish reproduce goldfish`\n\n{piped(rows)}\n\n{LEGEND}", encoding="utf-8")
    table.to_csv(out / "summary.csv", index=False)
    files = [written, out / "summary.csv"]
    files += style.save(gradient_norm.draw(runs, curves), out / "figure1_gradient_norm")
    text = runs[runs["task"] == TEXT]
    if len(text):
        files += style.save(accuracy_by_lag(text, curves), out / "figure2_accuracy_by_lag")
    return files


def table(runs: pd.DataFrame) -> str:
    """What the experiment ends with: the gradients' part, which the table of runs holds."""
    return aligned(_rows(summary(runs, pd.DataFrame(columns=["fingerprint", "quantity", "phase", "x", "value"]))))


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
    horizons = across_lengths(runs[runs["task"] == SYNTHETIC])
    named = {HORIZON: "survival", REACHED: "survival_reached_end"}
    return horizons.rename(columns=named)[[*HEAD, "seed", *named.values()]]


def _text(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """How many filler words back sentiment is known, inside one model."""
    rows = runs[runs["task"] == TEXT]
    named = {"lag": "survival", "reached_end": "survival_reached_end"}
    if rows.empty or curves.empty:
        return pd.DataFrame(columns=[*HEAD, "seed", *named.values()])
    lags = survival(by_lag(rows, curves), grid.chance(runs, TEXT) or 0.5)
    return lags.rename(columns=named)[[*HEAD, "seed", *named.values()]]


def _rows(table: pd.DataFrame) -> list[list[str]]:
    rows = [[*HEAD, *COLUMNS]]
    for task in grid.tasks(table):
        for cell, init in grid.arms(table, task):
            arm = table[(table["task"] == task) & (table["cell"] == cell) & (table["init"] == init)]
            rows.append([task, cell, init, *(_written(arm, *columns) for columns in COLUMNS.values())])
    return rows


def _written(arm: pd.DataFrame, column: str, reached: str | None) -> str:
    values = grid.column(arm, column).dropna()
    if values.empty:
        return "–"
    interval = mean_interval(values)
    digits = 2 if column.startswith("rho") else 1
    bound = "≥ " if reached is not None and (grid.column(arm, reached) == 1.0).any() else ""
    some = "" if len(values) == len(arm) else f" (n={len(values)})"
    return f"{bound}{interval.written(digits)}{some}"


@style.paper()
def accuracy_by_lag(runs: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Draw the test accuracy by lag of the runs of one task and length. A diverged run stands at chance.

    Raises ConfigError when the table has two runs of one place, or no such curve.
    """
    covered = grid.coverage(runs)
    points = by_lag(runs, curves)
    cells = cell_order(points["cell"])
    figure, axes = style.panels(
        1, len(cells), height=1.5, left=0.42, bottom=style.legends_height(runs), gap=(0.14, 0.4),
        note="Thin: every seed; thick: mean over seeds. Lags are binned; a bin stands at its largest lag. "
        + covered.note("at chance"),
    )  # fmt: skip
    (task,) = set(points["task"])
    level = grid.chance(runs, task)
    for ax, cell in zip(axes.flat, cells, strict=True):
        _panel(ax, points[points["cell"] == cell], runs)
        if level is not None:
            style.threshold(ax, level, "chance")
        ax.set_title(cell.upper())
        ax.set_xlabel("lag $k$, words")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    style.share(axes, x=True)
    axes[0, 0].set_ylabel("test accuracy")
    style.legends_below(figure, axes, runs)
    return figure


def by_lag(runs: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """The curves' points (x = lag, value = accuracy) with task, cell, init and seed beside them.

    A diverged run answers nothing: it is at chance at every lag that its task's other runs were asked at.
    Raises ConfigError when there is none.
    """
    rows = runs[~runs["outcome"].isin((*grid.HOLES, "diverged"))]
    kept = curves[(curves["quantity"] == QUANTITY) & curves["value"].notna()]
    points = kept.merge(rows[["fingerprint", "task", "cell", "init", "seed"]], on="fingerprint")
    if points.empty:
        raise ConfigError(f"quantity={QUANTITY}: the curves hold none")
    lost = runs[runs["outcome"] == "diverged"]
    parts = [points]
    for task, rows in lost.groupby("task"):
        lags = points.loc[points["task"] == task, ["quantity", "phase", "x"]].drop_duplicates()
        level = grid.chance(runs, str(task)) or 0.0
        parts.append(rows[["fingerprint", "task", "cell", "init", "seed"]].merge(lags.assign(value=level), how="cross"))
    return pd.concat(parts, ignore_index=True)


def survival(points: pd.DataFrame, chance: float) -> pd.DataFrame:
    """How many words back accuracy survives: task, cell, init, seed, lag and reached_end for each run of `by_lag`.

    The largest lag such that accuracy is above the midpoint of chance and what the best cell × initialisation has, on
    average over seeds, at the smallest lag, at it and every smaller one: on real text nobody is right every time. A
    network that has learnt nothing survives nothing: 0.
    """
    smallest = points[points["x"] == points["x"].min()]
    best = float(smallest.groupby(["cell", "init"])["value"].mean().max())
    rows = []
    for (task, cell, init, seed), run in points.groupby(["task", "cell", "init", "seed"], sort=False):
        ordered = run.sort_values("x")
        passed = ordered["value"] > (chance + best) / 2
        passed = passed.cummin()
        lag = float(ordered.loc[passed, "x"].max()) if passed.any() else 0.0
        rows.append((task, cell, init, seed, lag, bool(passed.all())))
    return pd.DataFrame(rows, columns=["task", "cell", "init", "seed", "lag", "reached_end"])


def _panel(ax: Axes, panel: pd.DataFrame, runs: pd.DataFrame) -> None:
    styles, colours = init_styles(runs["init"]), cell_colours(runs["cell"])
    for init in init_order(panel["init"]):
        rows = panel[panel["init"] == init]
        by_seed = rows.pivot(index="x", columns="seed", values="value").sort_index()
        colour, look = colours[rows["cell"].iloc[0]], styles[init]
        for seed in by_seed:
            ax.plot(by_seed.index, by_seed[seed], color=colour, linewidth=0.4, alpha=0.5, zorder=2)
        mean = by_seed.mean(axis=1)
        ax.plot(
            mean.index, mean, color=colour, linestyle=look.linestyle, marker=look.marker, zorder=3,
            markeredgecolor="white", markeredgewidth=0.3, gid=f"{init} mean",
        )  # fmt: skip
