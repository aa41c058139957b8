"""Figures and table of what is lost without order, and outside a window; all read from the table of runs."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from goldfish.figures import compare, style
from goldfish.figures.compare import Panel
from goldfish.figures.table import aligned, piped

PAIR = "test/pair_accuracy"


def draw(runs: pd.DataFrame, curves: pd.DataFrame, out: Path) -> list[Path]:
    """Draw both figures into `out`, each as PDF and PNG, and write the table; returns the files written."""
    written = out / "table.md"
    blocks = [f"**{title}**\n\n{piped(compare.rows(panels))}\n" for title, panels in _blocks(runs).items()]
    written.write_text("`goldfish reproduce order_matters`\n\n" + "\n".join(blocks), encoding="utf-8")
    files = [written]
    for name, panels in _figures(runs).items():
        columns = 3 if len(panels) > 4 else 4
        files += style.save(compare.draw(panels, "test accuracy", limits=(0.0, 1.0), columns=columns), out / name)
    return files


def table(runs: pd.DataFrame) -> str:
    """The tables that the experiment ends with."""
    return "\n\n".join(f"{title}\n{aligned(compare.rows(panels))}" for title, panels in _blocks(runs).items())


def _figures(runs: pd.DataFrame) -> dict[str, list[Panel]]:
    figures = {"figure1_temporal_order": [*_order(runs, "test/accuracy"), *_order(runs, PAIR)]}
    sentiment = _sentiment(runs)
    return figures | ({"figure2_sentiment": sentiment} if sentiment else {})


def _blocks(runs: pd.DataFrame) -> dict[str, list[Panel]]:
    blocks = {
        "Temporal order: test accuracy, four classes": _order(runs, "test/accuracy"),
        "Temporal order: test accuracy on the pair AB, BA": _order(runs, PAIR),
    }
    sentiment = _sentiment(runs)
    return blocks | ({"Sentiment: test accuracy": sentiment} if sentiment else {})


def _order(runs: pd.DataFrame, metric: str) -> list[Panel]:
    """A panel for each length; counts alone cannot do better than the dashed line."""
    here = runs[runs["task"] == "temporal_order"]
    ceiling, what = (0.75, "four classes") if metric == "test/accuracy" else (0.5, "AB or BA")
    return [
        Panel(f"T = {length}, {what}", here[here["length"] == length], metric, {ceiling: "ceiling of counts"})
        for length in sorted(set(here["length"]))
    ]


def _sentiment(runs: pd.DataFrame) -> list[Panel]:
    here = runs[runs["task"] == "sentiment"]
    if here.empty:
        return []
    chance = float(here["recall/chance"].dropna().iloc[0])
    shuffled = here["task.shuffle_words"].astype(str) == "True"
    kinds = {"words as written": here[~shuffled], "words shuffled": here[shuffled]}
    return [Panel(title, rows, levels={chance: "chance"}) for title, rows in kinds.items() if len(rows)]
