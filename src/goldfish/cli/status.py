"""`goldfish status`: what the store holds, counted."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from goldfish import registry
from goldfish.config import CHOICES

if TYPE_CHECKING:
    import pandas as pd

OUTCOMES = ("solved", "unsolved", "diverged", "failed")


def status() -> str:
    """One line for each MLflow experiment: runs by outcome, and those made by code that has changed since."""
    from goldfish.tracking.export import newest
    from goldfish.tracking.store import Store

    store = Store()
    runs = store.runs()
    if runs.empty:
        return f"nothing is recorded in {store.uri}"
    rows = [["experiment", *OUTCOMES, "stale"]]
    for name, group in newest(runs).groupby("experiment_name"):
        counts = Counter(group["outcome"])
        rows.append([str(name), *(str(counts[outcome]) for outcome in OUTCOMES), str(stale(group))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def stale(runs: pd.DataFrame) -> int:
    """The number of runs whose code is no longer there or has changed since they were made."""
    from goldfish.sweep.source import source_hash

    current: dict[tuple[str, ...], str | None] = {}
    count = 0
    for _, run in runs.iterrows():
        chosen = tuple(str(run[group]) for group in CHOICES)
        if chosen not in current:
            there = all(name in registry.modules(group) for group, name in zip(CHOICES, chosen, strict=True))
            config: dict[str, Any] = {group: {"name": name} for group, name in zip(CHOICES, chosen, strict=True)}
            current[chosen] = source_hash(config) if there else None
        count += run["source_hash"] != current[chosen]
    return count


def _line(row: list[str], widths: list[int]) -> str:
    cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
    return "  ".join(cells)
