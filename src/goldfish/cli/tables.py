"""`goldfish export` and `goldfish status`: what the store holds, as one table and as counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldfish import registry
from goldfish.config import CHOICES
from goldfish.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

OUTCOMES = ("solved", "unsolved", "diverged", "failed")


def export(path: Path, experiment: str | None = None) -> None:
    """Write every recorded run, or those of one MLflow experiment, as CSV or Parquet. Raises ConfigError."""
    if path.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"--to={path}: expected a name that ends in .csv or .parquet")
    if not path.parent.is_dir():
        raise ConfigError(f"--to={path}: no such folder as {path.parent}")
    runs = _recorded(experiment)
    if runs is None or not len(runs):
        raise ConfigError(f"--to={path}: nothing is recorded{f' as {experiment}' if experiment else ''} in this store")
    from goldfish.tracking.export import runs_table

    table = runs_table(runs)
    if path.suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)
    print(f"{path}: {len(table)} runs")


def status() -> str:
    """One line for each MLflow experiment: runs by outcome, and those made by code that has changed since."""
    runs = _recorded()
    if runs is None or not len(runs):
        return "nothing is recorded in this store"
    rows = [["experiment", *OUTCOMES, "stale"]]
    for name, group in runs.groupby("experiment_name"):
        group = counted(group)
        counts = Counter(group["outcome"])
        rows.append([str(name), *(str(counts[outcome]) for outcome in OUTCOMES), str(stale(group))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(_line(row, widths) for row in rows)


def counted(runs: pd.DataFrame, fingerprints: Iterable[str] | None = None) -> pd.DataFrame:
    """One run for each fingerprint: the newest that came to a result, else the newest that failed."""
    told = runs[runs["outcome"].isin(OUTCOMES)]
    if fingerprints is not None:
        told = told[told["fingerprint"].isin(list(fingerprints))]
    ranked = told.assign(result=told["outcome"] != "failed").sort_values(["result", "started"], kind="stable")
    return ranked.drop_duplicates("fingerprint", keep="last").drop(columns="result")


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


def _recorded(experiment: str | None = None) -> pd.DataFrame | None:
    """The store's runs; None without a store, and none is made."""
    from goldfish.tracking.store import Store

    store = Store()
    return store.runs(experiment) if store.exists() else None


def _line(row: list[str], widths: list[int]) -> str:
    cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
    return "  ".join(cells)
