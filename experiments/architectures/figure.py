"""Figure, tables and translations of three cells in three architectures; all read from the tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from goldfish.figures import compare, style
from goldfish.figures.compare import Panel
from goldfish.figures.table import aligned, piped

PUBLISHED = pd.read_csv(Path(__file__).with_name("published.csv"))
# task, dataset → what is told of it, the first in the figure
METRICS = {
    ("series", "japanese_vowels"): ("test/accuracy",),
    ("digits", ""): ("test/accuracy",),
    ("sentiment", ""): ("test/accuracy", "test/macro_f1"),
    ("tagging", "ud_english_ewt"): ("test/accuracy", "test/macro_f1"),
    ("tagging", "snips_slots"): ("test/entity_f1", "test/accuracy"),
    ("tagging", "wnut_17"): ("test/entity_f1", "test/accuracy"),
    ("characters", ""): ("test/bits_per_character", "test/accuracy"),
    ("translation", ""): ("test/bleu", "test/chrf", "test/exact"),
}


def draw(runs: pd.DataFrame, curves: pd.DataFrame, out: Path) -> list[Path]:
    """Draw the figure into `out`, as PDF and PNG, and write the table; returns the files written."""
    written = out / "table.md"
    blocks = [f"**{title}**\n\n{piped(compare.rows(panels))}\n" for title, panels in _blocks(runs).items()]
    written.write_text("`goldfish reproduce architectures`\n\n" + "\n".join(blocks), encoding="utf-8")
    translations = out / "translations.md"
    translations.write_text(_translations(runs), encoding="utf-8")
    first = [panels[0] for panels in _blocks(runs).values()]
    panels = [
        Panel(f"{_what(panel)}: {_short(panel.metric)}", panel.runs, panel.metric, panel.levels) for panel in first
    ]
    figures = style.save(compare.draw(panels, "on the test split", columns=3), out / "figure1_architectures")
    return [written, translations, *figures]


def table(runs: pd.DataFrame) -> str:
    """The tables that the experiment ends with."""
    return "\n\n".join(f"{title}\n{aligned(compare.rows(panels))}" for title, panels in _blocks(runs).items())


def _blocks(runs: pd.DataFrame) -> dict[str, list[Panel]]:
    """A block for each dataset, a panel for each of its metrics, and for what decided on validation."""
    blocks = {}
    for (task, dataset), metrics in METRICS.items():
        rows = runs[runs["task"] == task]
        if dataset and "task.dataset" in rows:
            rows = rows[rows["task.dataset"] == dataset]
        if rows.empty:
            continue
        levels = {float(rows["recall/chance"].dropna().iloc[0]): "chance"} if "accuracy" in metrics[0] else {}
        panels = [Panel(_short(metric), rows, metric, levels | _published(task, dataset, metric)) for metric in metrics]
        panels += [Panel("validation " + _short(metrics[0]), rows, metrics[0].replace("test/", "val/"))]
        panels += [Panel("seconds a run", rows, "train/seconds")]
        blocks[_title(rows)] = panels
    return blocks


def _published(task: str, dataset: str, metric: str) -> dict[float, str]:
    """Reference values of published.csv."""
    own = PUBLISHED[(PUBLISHED["task"] == task) & (PUBLISHED["dataset"] == dataset) & (PUBLISHED["metric"] == metric)]
    return {float(row["value"]): f"{row['network']} ({row['source']})" for row in own.to_dict("records")}


def _translations(runs: pd.DataFrame) -> str:
    """What samples.py picked, and its rule."""
    lines = ["| rank of chrF | source | reference | translation |", "|---|---|---|---|"]
    for row in runs.attrs.get("samples", ()):
        told = [
            f"{row['percentile']} %: {row['chrf']:.0f}",
            *(row[key] for key in ("source", "reference", "translation")),
        ]
        lines.append("| " + " | ".join(str(value).replace("|", "\\|") for value in told) + " |")
    return "\n".join(lines) + "\n"


def _title(rows: pd.DataFrame) -> str:
    architecture = {"tagging": "many-to-many", "characters": "many-to-many", "translation": "encoder-decoder"}
    return f"{architecture.get(rows['task'].iloc[0], 'many-to-one')}: {_name(rows)}"


def _what(panel: Panel) -> str:
    return _name(panel.runs)


def _name(rows: pd.DataFrame) -> str:
    dataset = str(rows["task.dataset"].iloc[0]) if "task.dataset" in rows else ""
    return dataset if dataset not in ("", "nan", "None") else str(rows["task"].iloc[0])


def _short(metric: str) -> str:
    return metric.partition("/")[2].replace("_", " ")
