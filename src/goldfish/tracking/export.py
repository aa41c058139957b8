"""The store as tidy tables: one row per run, and every point of the curves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from goldfish.errors import ConfigError
from goldfish.tracking import names
from goldfish.tracking.rows import CURVE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

    from goldfish.tracking.store import Store

SUFFIXES = (".csv", ".parquet")
_HEAD = ["fingerprint", "outcome", "reason", "cell", "init", "task", "length", "seed", "hidden_size"]
_INTERNAL = ["run_id", "experiment_name", "sweep", "source_hash", "status", "started", "name", "packed"]
_SHORT = {"length": "task.length", "hidden_size": "cell.hidden_size"}


def runs_table(runs: pd.DataFrame) -> pd.DataFrame:
    """The tidy table of what Store.runs returned: each run once, the newest finished one of several.

    Columns: fingerprint, outcome, reason, cell, init, task, length, seed, hidden_size; every configuration key with
    dots; every metric by name; parameters, seconds, steps.
    """
    kept = newest(runs)
    short = {name: kept.get(key) for name, key in _SHORT.items()}
    settings = [column for column in kept.columns if column not in (*_HEAD, *_INTERNAL, *names.COUNTS)]
    counts = [name for name in names.COUNTS if name not in _INTERNAL]
    return kept.assign(**short).reindex(columns=[*_HEAD, *settings, *counts])


def newest(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per experiment and fingerprint: the newest result, or the newest failure where there is no result."""
    order = runs.assign(result=runs["outcome"].isin(names.FINISHED)).sort_values(["result", "started"], kind="stable")
    kept = order.drop_duplicates(["experiment_name", "fingerprint"], keep="last").drop(columns="result")
    return kept.sort_index().reset_index(drop=True)  # the order of Store.runs


def curves_table(store: Store, runs: pd.DataFrame) -> pd.DataFrame:
    """The curves of these rows of Store.runs: fingerprint, quantity, phase, x, value."""
    return store.curves(run_ids=newest(runs)["run_id"])[CURVE_COLUMNS]


def export(store: Store, to: Path, experiment_name: str | None = None) -> pd.DataFrame:
    """Write every recorded run, or those of one MLflow experiment, into one table, and return it.

    Raises ConfigError for a file that is neither CSV nor Parquet, for a folder that is not there, and without runs.
    """
    if to.suffix not in SUFFIXES:
        raise ConfigError(f"--to={to}: expected a name that ends in {' or '.join(SUFFIXES)}")
    if not to.parent.is_dir():
        raise ConfigError(f"--to={to}: no such folder as {to.parent}")
    runs = store.runs(experiment_name)
    if runs.empty:
        raise ConfigError(f"--to={to}: nothing is recorded{f' as {experiment_name}' if experiment_name else ''}")
    table = runs_table(runs)
    if to.suffix == ".csv":
        table.to_csv(to, index=False)
    else:
        table.to_parquet(to, index=False)
    return table
