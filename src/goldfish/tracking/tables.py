"""The store as tidy tables: one row per run, and one row per point of the curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldfish.errors import ConfigError
from goldfish.tracking import names

if TYPE_CHECKING:
    import pandas as pd

    from goldfish.tracking.run import Run
    from goldfish.tracking.store import Store

SUFFIXES = (".csv", ".parquet")
CURVES = ["fingerprint", "quantity", "phase", "x", "value"]
_RUN = [
    *("run_id", "fingerprint", "experiment_name", "sweep", "outcome", "reason"),
    *("source_hash", "status", "started", "name"),
]
_FIRST = ["model", "cell", "init", "task", "optimizer", "seed", "engine"]  # of the configuration's keys
_HEAD = ["fingerprint", "outcome", "reason", "cell", "init", "task", "length", "seed", "hidden_size"]
_INTERNAL = ["run_id", "experiment_name", "sweep", "source_hash", "status", "started", "name", "packed"]
_SHORT = {"length": "task.length", "hidden_size": "cell.hidden_size"}

Point = tuple[str, str, int, float]  # run, metric, step, value


def runs_frame(runs: Iterable[Run]) -> pd.DataFrame:
    """One row per run, oldest first, the runs of a pack in a fixed order: identity, configuration, metrics."""
    import pandas as pd

    ordered = sorted(runs, key=lambda run: (run.started, run.tags.get(names.ORDER, ""), run.run_id))
    parts = [(_head(run), names.typed(run.parameters), _scalars(run)) for run in ordered]
    order = {key: place for place, key in enumerate(_FIRST)}
    keys = {key for _, config, _ in parts for key in config}
    settings = sorted(keys, key=lambda key: (order.get(key, len(order)), key))
    metrics = sorted({key for _, _, scalars in parts for key in scalars} - set(names.COUNTS))
    columns = [*_RUN, *settings, *metrics, *names.COUNTS]
    frame = pd.DataFrame([head | config | scalars for head, config, scalars in parts], columns=columns)
    for key in settings:
        kinds = {type(config[key]) for _, config, _ in parts if config.get(key) is not None}
        if kinds == {int} and frame[key].isna().any():
            frame[key] = frame[key].astype("Int64")  # some tasks lack the argument; 8 must not become 8.0
    typed = frame.astype(dict.fromkeys(metrics, float) | {"started": "datetime64[ms, UTC]"})
    return typed.copy()  # in one piece: pandas warns of a frame in more than a hundred


def _head(run: Run) -> dict[str, Any]:
    """The first columns of a run's row."""
    import pandas as pd

    return {
        "run_id": run.run_id,
        "fingerprint": run.fingerprint,
        "experiment_name": run.experiment,
        "sweep": run.tags.get(names.SWEEP, ""),
        "outcome": run.outcome,
        "reason": run.tags.get(names.REASON, ""),
        "source_hash": run.source_hash,
        "status": run.status,
        "started": pd.Timestamp(round(run.started * 1000), unit="ms", tz="UTC"),
        "name": run.name,
    }


def _scalars(run: Run) -> dict[str, Any]:
    """A run's final metrics, with the last value of those curves alone that run over training."""
    curves = names.curve_metrics(run.tags.get(names.CURVES, ""))
    counts = {stored: column for column, stored in names.COUNTS.items()}
    scalars: dict[str, Any] = {}
    for name, value in run.metrics.items():
        if name in counts:
            scalars[counts[name]] = value if name == names.COUNTS["seconds"] else int(value)
        elif name not in curves or curves[name][1] == "training":
            scalars[name] = value
    return scalars


def curves_frame(points: Iterable[Point], runs: Sequence[Run]) -> pd.DataFrame:
    """The points of the curves of these runs, in their order."""
    import pandas as pd

    place = {run.run_id: index for index, run in enumerate(runs)}
    curves = {run.run_id: names.curve_metrics(run.tags.get(names.CURVES, "")) for run in runs}
    rows = [
        (place[run_id], *curves[run_id][metric], float(step), value, runs[place[run_id]].fingerprint)
        for run_id, metric, step, value in points
        if metric in curves[run_id]
    ]
    columns = ["place", "quantity", "phase", "x", "value", "fingerprint"]
    frame = pd.DataFrame(rows, columns=columns).astype({"x": float, "value": float})
    return frame.sort_values(["place", "quantity", "phase", "x"], kind="stable", ignore_index=True)[CURVES]


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
    return store.curves(newest(runs)["run_id"])


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
