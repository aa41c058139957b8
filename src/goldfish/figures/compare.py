"""Networks side by side: a panel for each condition, a row for each network, every seed and the mean with its interval.

The table of the same runs has mean ± half of the interval, and the number of parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from goldfish.errors import ConfigError
from goldfish.figures import grid, style
from goldfish.figures.palette import CELLS, GREY
from goldfish.figures.statistics import BOOTSTRAP_FROM, mean_interval

ORDER = ("bag_of_words", "tfidf", "feedforward", "rnn", "lstm", "gru", "tcn", "transformer")
NAMES = {
    "bag_of_words": "bag of words",
    "tfidf": "TF-IDF",
    "tcn": "TCN",
    "transformer": "Transformer",
    "rnn": "RNN",
    "lstm": "LSTM",
    "gru": "GRU",
}
_OTHER = "#404040"


@dataclass(frozen=True)
class Panel:
    """One condition.

    Attributes:
        title: what it is.
        runs: its rows of the table of runs; no two of one network and seed.
        metric: the column that is compared.
        levels: value → what a dashed line there means, such as chance.
        published: network → value, drawn as a star.
    """

    title: str
    runs: pd.DataFrame
    metric: str = "test/accuracy"
    levels: Mapping[float, str] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)


def networks(panels: Iterable[Panel]) -> list[str]:
    """The networks of all panels (column `cell`), in the order of the figure."""
    cells = {str(cell) for panel in panels for cell in panel.runs["cell"]}
    return sorted(cells, key=lambda cell: (ORDER.index(cell) if cell in ORDER else len(ORDER), cell))


def values(panel: Panel) -> pd.DataFrame:
    """Columns cell, seed, value: a diverged run at the worst score there is, failed and missing ones left out.

    Raises ConfigError where a network has two runs of one seed: they do not count as two seeds.
    """
    rows = panel.runs[~panel.runs["outcome"].isin(grid.HOLES)]
    twice = rows[rows.duplicated(["cell", "seed"])]
    if len(twice):
        cell, seed = twice[["cell", "seed"]].iloc[0]
        raise ConfigError(f"{panel.title}: cell={cell}, seed={seed}: two runs; expected one of each network and seed")
    value = grid.score(rows, panel.metric, levels=panel.runs)
    return rows[["cell", "seed"]].assign(value=value).dropna()


@style.paper()
def draw(panels: Sequence[Panel], label: str, *, limits: tuple[float, float] | None = None, columns: int = 4) -> Figure:
    """Draw the panels, `columns` beside each other; `label` names the axis of the values."""
    order = networks(panels)
    rows, across = -(-len(panels) // columns), min(columns, len(panels))
    figure, axes = style.panels(
        rows, across, height=0.16 * len(order) + 0.15, left=0.85, bottom=0.4, gap=(0.18, 0.45), note=note(panels)
    )
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, panel in zip(axes.flat, panels, strict=False):
        scores = values(panel)
        for level in panel.levels:
            ax.axvline(level, color=GREY, linewidth=0.6, linestyle=(0, (2, 2)), zorder=0)
        for place, network in enumerate(order):
            own = scores.loc[scores["cell"] == network, "value"]
            finite = own[np.isfinite(own)]
            mean = mean_interval(own) if len(finite) == len(own) > 0 else None  # infinite values have none
            style.interval(ax, mean, finite, place, CELLS.get(network, _OTHER))
            if network in panel.published:
                ax.plot([panel.published[network]], [place], "*", color="black", markersize=5, zorder=5)
        ax.set_title(panel.title)
        style.rows(ax, [NAMES.get(network, network) for network in order])
        if limits:
            ax.set_xlim(*limits)
    for row in axes:
        for ax in row[1:]:
            ax.tick_params(labelleft=False)
    for index, ax in enumerate(axes.flat[: len(panels)]):
        if index + across >= len(panels):
            ax.set_xlabel(label)
    return figure


def note(panels: Sequence[Panel]) -> str:
    """How to read the figure, and which of each panel's runs there are."""
    seeds = max(panel.runs["seed"].nunique() for panel in panels)
    method = "t-interval" if seeds < BOOTSTRAP_FROM else "bootstrap interval"
    counted = [_counted(panel) for panel in panels]
    lacking = "; ".join(text for text in counted if text) or "None diverged, failed or missing"
    if any((panel.runs["outcome"] == "diverged").any() for panel in panels):
        lacking += (
            ". A diverged run stands at chance, or at 0; where the lowest is best it is infinite, and there is no mean"
        )
    lines = dict.fromkeys(text for panel in panels for text in panel.levels.values())
    more = f" Dashed: {', '.join(lines)}." if lines else ""
    more += " Stars: published values." if any(panel.published for panel in panels) else ""
    return f"Diamond: mean over up to {seeds} seeds; bar: its 95 % {method}; circles: every seed.{more} {lacking}."


def _counted(panel: Panel) -> str:
    outcomes = panel.runs["outcome"].value_counts()
    parts = [f"{outcomes[name]} {name}" for name in ("diverged", *grid.HOLES) if outcomes.get(name)]
    return f"{panel.title}: {', '.join(parts)}" if parts else ""


def rows(panels: Sequence[Panel]) -> list[list[str]]:
    """A row for each network, a column for each panel: mean ± half of its interval; parameters over all panels."""
    table = [["network", "parameters", *(panel.title for panel in panels)]]
    for network in networks(panels):
        cells = [_written(values(panel), network) for panel in panels]
        table.append([NAMES.get(network, network), _parameters(panels, network), *cells])
    return table


def _written(scores: pd.DataFrame, network: str) -> str:
    own = scores.loc[scores["cell"] == network, "value"]
    if own.empty:
        return "–"
    infinite = int(np.isinf(own).sum())
    if infinite:
        return f"∞ (n={len(own)}, {infinite} diverged)"
    return f"{mean_interval(own).written(3)} (n={len(own)})"


def _parameters(panels: Sequence[Panel], network: str) -> str:
    """The numbers of parameters over all panels: one, or from the least to the most."""
    counts = pd.concat([panel.runs.loc[panel.runs["cell"] == network, "parameters"] for panel in panels]).dropna()
    return "–".join(f"{int(count):,}" for count in dict.fromkeys([counts.min(), counts.max()]) if count == count) or "–"
