"""Two prepared views of an MLflow experiment: curves averaged over seeds, and a table of the key columns.

A saved view is an experiment tag, `mlflow.sharedViewState.<key>`: its name and the state of MLflow's front end, packed.
That state is MLflow's own and undocumented; it was read from the front end of MLflow 3.17, and a test in a real browser
guards it. The ids of charts and sections are derived from their names: preparing a view twice changes nothing.
"""

from __future__ import annotations

import base64
import json
import time
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from goldfish.errors import ConfigError, nearest
from goldfish.tracking import names

if TYPE_CHECKING:
    import pandas as pd

    from goldfish.tracking.store import Store

AVERAGES, ALL_RUNS = "goldfish-averages", "goldfish-runs"
TITLES = {AVERAGES: "Averaged over seeds, by cell × init × length", ALL_RUNS: "All runs, key columns"}
_TAG = "mlflow.sharedViewState."
_PACKED = "deflate;"
_NOTE, _SIGNED = "mlflow.note.content", "Recorded by goldfish"
_GROUPED = ["cell", "init", "task", "task.length"]  # what the tag `goldfish.group` holds
_PARAMETERS = ("cell", "init", "task", "length", "seed", "hidden", "lr")
_METRICS = (
    *("test/accuracy", "recall/horizon", "gradient/horizon_before", "gradient/horizon", "gradient/decay_rate"),
    *("time_to_solve", "run/parameters"),
)
_RUN_NAME, _CREATED = "attributes.`Run Name`", "runDateAndNestInfo"  # MLflow always shows them
_SPACE = uuid.UUID("6f1c2b1e-6d0a-4c57-9b39-8f5f0b6f7a11")  # of the ids of charts and sections
_PLAIN_SECTION = "Model metrics"  # where MLflow puts a metric without a slash
_HORIZONS = ["gradient/horizon_before", "gradient/horizon", "recall/horizon", "test/accuracy"]
_COLUMNS = [
    f"tags.`{names.OUTCOME}`",
    *(f"params.`{name}`" for name in _PARAMETERS),
    *(f"metrics.`{name}`" for name in _METRICS),
]


def prepare_views(store: Store, experiment_name: str) -> None:
    """Prepare both views and the description of an experiment; doing it again changes only what new runs change.

    Raises ConfigError when there is no such experiment.
    """
    experiment_id = experiment(store, experiment_name)
    runs = store.runs(experiment_name)
    tags = dict(store.client.get_experiment(experiment_id).tags)
    wanted = {
        _TAG + AVERAGES: _envelope(AVERAGES, averages(runs), tags),
        _TAG + ALL_RUNS: _envelope(ALL_RUNS, all_runs(runs), tags),
        "mlflow.experimentKind": "custom_model_development",  # else a fresh browser opens on an empty page
    }
    if tags.get(_NOTE, _SIGNED).startswith(_SIGNED):  # a description that somebody wrote stays
        wanted[_NOTE] = _description(experiment_id, runs)
    for key, value in wanted.items():
        if tags.get(key) != value:
            store.client.set_experiment_tag(experiment_id, key, value)


def experiment(store: Store, name: str) -> str:
    """The id of an experiment that is there. Raises ConfigError when there is no such store or experiment."""
    if not store.exists():
        raise ConfigError(f"{name}: there is no store at {store.path}; goldfish train makes one")
    known = store.experiments()
    if name not in known:
        raise ConfigError(f"{name}: no such experiment in this store; {nearest(name, known.keys() - {'Default'})}")
    return known[name]


def link(base: str, experiment: str, view: str) -> str:
    """The address that opens an experiment in one of the views, given that of the UI."""
    query = {"workflowType": "machine_learning", "viewStateShareKey": view}
    query["compareRunsMode"] = "CHART" if view == AVERAGES else "TABLE"
    return f"{base.rstrip('/')}/#/experiments/{experiment}/runs?{urlencode(query)}"


def averages(runs: pd.DataFrame) -> dict[str, Any]:
    """The state of the view that averages over seeds: nothing but the seed differs within a group."""
    others = split_by(runs)
    keys = [("tag", names.GROUP), *(("param", key) for key in others)]
    grouping = {
        "aggregateFunction": "average",
        "groupByKeys": [{"mode": mode, "groupByData": key} for mode, key in keys],
    }
    groups = sorted({_group(run, others) for run in runs.to_dict("records")})
    labels = (zip(keys, group, strict=True) for group in groups)
    closed = {",".join(f"{mode}.{key}.{value}" for (mode, key), value in label): False for label in labels}
    state = {"groupBy": grouping, "groupsExpanded": closed, "useGroupedValuesInCharts": True}
    return _state(runs, ["length"]) | state  # of parameters MLflow averages numbers alone: cell and init are no axes


def all_runs(runs: pd.DataFrame) -> dict[str, Any]:
    """The state of the view with one row per run."""
    return _state(runs, ["cell", "init", "length"]) | {"groupBy": None}


def split_by(runs: pd.DataFrame) -> list[str]:
    """Parameters other than the seed that vary within cell × initialisation × task × length."""
    parameters: list[str] = []
    known = [column for column in _GROUPED if column in runs]
    for column in runs:
        setting = column == "optimizer" or ("." in column and not column.startswith("tracking."))
        if setting and column not in known:
            together = runs[[*known, column]].astype(str).drop_duplicates()
            if together.duplicated(known).any():
                known.append(column)
                parameters.append(names.SHORT.get(column, column))
    return parameters


def _group(run: Mapping[str, Any], others: Sequence[str]) -> tuple[str, ...]:
    """The values that MLflow knows a run's group by."""
    head = names.group(run["cell"], run["init"], run["task"], run.get("task.length"))
    return (head, *(str(run[names.LONG.get(key, key)]) for key in others))


def _state(runs: pd.DataFrame, axes: list[str]) -> dict[str, Any]:
    """The state that both views share: order, columns, charts, and that all runs are shown."""
    metrics = [column for column in runs.columns if "/" in column or column == "time_to_solve"]
    return {
        "searchFilter": "",
        "orderByKey": f"tags.`{names.ORDER}`",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": _COLUMNS,
        "columnOrder": [_RUN_NAME, _CREATED, *_COLUMNS],
        "columnWidths": {_RUN_NAME: 270, _CREATED: 125} | {column: _width(column) for column in _COLUMNS},
        "runsHiddenMode": "SHOW_ALL",
        "viewMaximized": False,
        "runListHidden": False,
        "hideEmptyCharts": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    } | _layout([*metrics, *names.COUNTS.values()], axes)


def _width(column: str) -> int:
    """Pixels that a column's heading takes, and the numbers or words below it."""
    kind, _, name = column.partition(".")
    least = {"params": 60, "params.`init`": 95, "params.`task`": 95, "tags": 90, "metrics": 110}
    return max(least.get(column, least[kind]), 24 + 7 * len(name.strip("`")))


def _layout(metrics: Iterable[str], parameters: list[str]) -> dict[str, Any]:
    """Charts and sections for runs with these metrics; `parameters` are the first axes of the parallel coordinates.

    MLflow adds a chart for every metric that has none: they go into closed sections below ours.
    """
    sections = {
        "log10 gradient norm by lag: before, after": [
            _line("gradient/log10_norm_by_lag_before"),
            _line("gradient/log10_norm_by_lag"),
        ],
        "Accuracy by length and by lag, after training": [
            _line("recall/accuracy_by_length"),
            _line("recall/accuracy_by_lag"),
        ],
        "Learning curves on the validation set": [
            _line("val/accuracy"),
            _line("val/loss"),
        ],
        "Horizons and test accuracy": [
            _scatter("gradient/horizon_before", "recall/horizon"),
            _chart("BAR", "test/accuracy", metricKey="test/accuracy", runsCountToCompare=100),
        ],
        "Settings, horizons and accuracy": [
            _chart("PARALLEL", "", selectedParams=parameters, selectedMetrics=_HORIZONS, showAllRuns=False)
        ],
    }
    charts = [chart | {"metricSectionId": _id(name)} for name, cards in sections.items() for chart in cards]
    opened = [_section(name, shown=True, columns=len(cards)) for name, cards in sections.items()]
    left = set(metrics) - {chart.get("metricKey") for chart in charts}
    generated = {name.rpartition("/")[0] for name in left} - {""}  # MLflow names a section after what precedes a slash
    closed = [_section(name, shown=False, columns=3) for name in (*sorted(generated), _PLAIN_SECTION)]
    return {"compareRunCharts": charts, "compareRunSections": opened + closed, "isAccordionReordered": True}


def _section(name: str, *, shown: bool, columns: int) -> dict[str, Any]:
    fixed = {"isReordered": False, "deleted": False, "isGenerated": False, "cardHeight": 360}
    return {"uuid": _id(name), "name": name, "display": shown, "columns": columns} | fixed


def _line(metric: str) -> dict[str, Any]:
    return _chart(
        "LINE",
        metric,
        metricKey=metric,
        selectedMetricKeys=[metric],
        lineSmoothness=0,
        useGlobalLineSmoothing=False,
        scaleType="linear",
        xAxisScaleType="linear",
        xAxisKey="step",
        selectedXAxisMetricKey="",
        useGlobalXaxisKey=False,
        yAxisKey="metric",
        yAxisExpressions=[],
        range={},
        displayPoints=False,
        ignoreOutliers=False,
    )


def _scatter(x: str, y: str) -> dict[str, Any]:
    axes = {axis: {"key": key, "type": "METRIC"} for axis, key in (("xaxis", x), ("yaxis", y))}
    return _chart("SCATTER", f"{x} {y}", runsCountToCompare=100, **axes)


def _chart(kind: str, key: str, **settings: Any) -> dict[str, Any]:
    """A card; `key` tells it from others of its kind. MLflow prints the metric's name above it, never a title."""
    fixed = {"uuid": _id(f"{kind} {key}"), "type": kind, "deleted": False, "isGenerated": False}
    return {"runsCountToCompare": 10} | fixed | settings


def _id(name: str) -> str:
    return uuid.uuid5(_SPACE, name).hex


def _envelope(key: str, state: Mapping[str, Any], tags: Mapping[str, str]) -> str:
    """The tag's value; the one that is there already when it holds the same state."""
    packed = pack(state)
    now = round(time.time() * 1000)
    before = json.loads(tags.get(_TAG + key, "{}"))
    if before.get("state") == packed and before.get("name") == TITLES[key]:
        return tags[_TAG + key]
    return json.dumps(
        {"name": TITLES[key], "createdAt": before.get("createdAt", now), "updatedAt": now, "state": packed}
    )


def pack(state: Mapping[str, Any]) -> str:
    """A state as MLflow's front end packs it."""
    text = json.dumps(state, separators=(",", ":"))
    return _PACKED + base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def unpack(packed: str) -> dict[str, Any]:
    """The state that `pack` packed."""
    state: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed.removeprefix(_PACKED))))
    return state


def _description(experiment: str, runs: pd.DataFrame) -> str:
    counts = runs["outcome"].value_counts()
    outcomes = ", ".join(f"{counts[outcome]} {outcome}" for outcome in (*names.FINISHED, "failed") if outcome in counts)
    views = "\n".join(f"- [{title}]({link('', experiment, key)})" for key, title in TITLES.items())
    return (
        f"{_SIGNED}: {len(runs)} runs ({outcomes or 'none yet'}).\n\n{views}\n\n"
        "Curves over lag and length have them as their step. MLflow loads 100 runs at first, those of the first seeds; "
        "“Load more” below the runs adds the others."
    )
