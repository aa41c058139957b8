"""What is read back from a store, whichever way: plain rows, and the tables made of them."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from goldfish.tracking import names

if TYPE_CHECKING:
    import pandas as pd

CURVE_COLUMNS = ["fingerprint", "quantity", "phase", "x", "value"]
_RUN_COLUMNS = [
    *("run_id", "fingerprint", "experiment_name", "sweep", "outcome", "reason"),
    *("source_hash", "status", "started", "name"),
]


class RunRow(NamedTuple):
    """A finished run, enough to know that it need not be trained again."""

    fingerprint: str
    run_id: str
    outcome: str
    source_hash: str
    started: float


class CurvePoint(NamedTuple):
    """One stored point of a metric."""

    run_id: str
    metric: str
    step: int
    value: float


@dataclass
class Recorded:
    """One recorded run as MLflow holds it; `started` is unix time in milliseconds, `metrics` the last value of each."""

    run_id: str
    experiment_name: str
    status: str
    name: str
    started: int
    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def number(value: float, is_nan: bool = False) -> float:
    """A stored metric as it was: MLflow keeps ±inf as ±1.797e308, and NaN as 0 with a mark in SQL."""
    if is_nan:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else float(value)


def stored(value: float) -> tuple[float, bool]:
    """A metric as MLflow keeps it in SQL, the inverse of `number`: (number, whether it is NaN)."""
    if math.isnan(value):
        return 0.0, True
    return (math.copysign(sys.float_info.max, value) if math.isinf(value) else value), False


def newest(rows: Iterable[RunRow]) -> dict[str, RunRow]:
    """One row for each fingerprint: the one that started last."""
    return {row.fingerprint: row for row in sorted(rows, key=lambda row: (row.started, row.run_id))}


def runs_frame(runs: Iterable[Recorded]) -> pd.DataFrame:
    """One row per run, oldest first, the runs of a pack in a fixed order: identity, configuration, metrics."""
    import pandas as pd

    ordered = sorted(runs, key=lambda run: (run.started, run.tags.get(names.ORDER, ""), run.run_id))
    parts = [(_head(run), names.typed(run.parameters), _scalars(run)) for run in ordered]
    settings = sorted({key for _, config, _ in parts for key in config}, key=_config_order)
    metrics = sorted({key for _, _, scalars in parts for key in scalars} - set(names.COUNTS))
    columns = [*_RUN_COLUMNS, *settings, *metrics, *names.COUNTS]
    frame = pd.DataFrame([head | config | scalars for head, config, scalars in parts], columns=columns)
    for key in settings:
        kinds = {type(config[key]) for _, config, _ in parts if config.get(key) is not None}
        if kinds == {int} and frame[key].isna().any():
            frame[key] = frame[key].astype("Int64")  # some tasks lack the argument; 8 must not become 8.0
    typed = frame.astype(dict.fromkeys(metrics, float) | {"started": "datetime64[ms, UTC]"})
    return typed.copy()  # in one piece: pandas warns of a frame in more than a hundred


def _head(run: Recorded) -> dict[str, Any]:
    """The first columns of a run's row."""
    import pandas as pd

    tags = run.tags
    return {
        "run_id": run.run_id,
        "fingerprint": tags.get(names.FINGERPRINT, ""),
        "experiment_name": run.experiment_name,
        "sweep": tags.get(names.SWEEP, ""),
        "outcome": tags[names.OUTCOME],
        "reason": tags.get(names.REASON, ""),
        "source_hash": tags.get(names.SOURCE_HASH, ""),
        "status": run.status,
        "started": pd.Timestamp(run.started, unit="ms", tz="UTC"),
        "name": run.name,
    }


def _scalars(run: Recorded) -> dict[str, Any]:
    """A run's final metrics; of curves the last value of those over training only."""
    curves = names.curve_metrics(run.tags.get(names.CURVES, ""))
    counts = {stored: column for column, stored in names.COUNTS.items()}
    found: dict[str, Any] = {}
    for name, value in run.metrics.items():
        if name in counts:
            found[counts[name]] = value if name == names.COUNTS["seconds"] else int(value)
        elif name not in curves or curves[name][1] == "training":
            found[name] = value
    return found


def _config_order(key: str) -> tuple[int, str]:
    head = ["model", "cell", "init", "task", "optimizer", "seed", "engine"]
    return (head.index(key) if key in head else len(head), key)


def curves_frame(points: Iterable[CurvePoint], tags: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """The points of curves; `tags` holds the tags of each run, and the runs' order is that of the table."""
    import pandas as pd

    place = {run_id: index for index, run_id in enumerate(tags)}
    curves = {run_id: names.curve_metrics(tags[run_id].get(names.CURVES, "")) for run_id in tags}
    rows = [
        (place[run_id], *curves[run_id][metric], float(step), value, tags[run_id].get(names.FINGERPRINT, ""))
        for run_id, metric, step, value in points
        if metric in curves[run_id]
    ]
    columns = ["place", "quantity", "phase", "x", "value", "fingerprint"]
    frame = pd.DataFrame(rows, columns=columns).astype({"x": float, "value": float})
    return frame.sort_values(["place", "quantity", "phase", "x"], kind="stable", ignore_index=True)[CURVE_COLUMNS]
