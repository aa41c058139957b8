"""The charts of the prepared views, in the form in which MLflow's front end keeps them.

That form is MLflow's own and undocumented; it was read from the front end of MLflow 3.17, and a test in a real browser
guards it. The ids of charts and sections are derived from their names: preparing a view twice changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

_SPACE = uuid.UUID("6f1c2b1e-6d0a-4c57-9b39-8f5f0b6f7a11")
_PLAIN_SECTION = "Model metrics"  # where MLflow puts a metric without a slash
_HORIZONS = ["gradient/horizon_before", "gradient/horizon", "recall/horizon", "test/accuracy"]


def layout(metrics: Iterable[str], parameters: list[str]) -> dict[str, Any]:
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
    closed = [_section(name, shown=False, columns=3) for name in _generated(left)]
    return {"compareRunCharts": charts, "compareRunSections": opened + closed, "isAccordionReordered": True}


def _generated(metrics: Iterable[str]) -> list[str]:
    """The sections that MLflow makes: a metric's name before its last slash."""
    names = {name.rpartition("/")[0] for name in metrics}
    return [*sorted(names - {""}), _PLAIN_SECTION]


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
