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
    """Charts and sections for runs with these metrics; `parameters` are the axes of the parallel coordinates.

    MLflow adds a chart for every metric that has none: they go into closed sections below ours.
    """
    sections = {
        "Gradient norm against lag": [
            _line("gradient/log10_norm_by_lag_before", "log10 gradient norm against lag, before training"),
            _line("gradient/log10_norm_by_lag", "log10 gradient norm against lag, after training"),
        ],
        "Recall": [
            _line("recall/accuracy_by_length", "Accuracy against sequence length, after training"),
            _line("recall/accuracy_by_lag", "Accuracy against lag, after training"),
        ],
        "Learning curves": [
            _line("val/accuracy", "Validation accuracy against training step"),
            _line("val/loss", "Validation loss against training step", logarithmic=True),
        ],
        "Horizons": [
            _scatter(
                "gradient/horizon_before", "recall/horizon", "Recall horizon against gradient horizon before training"
            ),
            _chart("BAR", "test/accuracy", "Test accuracy", metricKey="test/accuracy", runsCountToCompare=100),
        ],
        "Settings and results": [
            _chart(
                "PARALLEL",
                "parallel coordinates",
                "Settings, horizons and accuracy",
                selectedParams=parameters,
                selectedMetrics=_HORIZONS,
                showAllRuns=False,
            )
        ],
    }
    charts = [chart | {"metricSectionId": _id(name)} for name, cards in sections.items() for chart in cards]
    opened = [_section(name, shown=True, columns=len(cards)) for name, cards in sections.items()]
    closed = [_section(name, shown=False, columns=3) for name in _generated(metrics)]
    return {"compareRunCharts": charts, "compareRunSections": opened + closed, "isAccordionReordered": True}


def _generated(metrics: Iterable[str]) -> list[str]:
    """The sections that MLflow makes: a metric's name before its last slash."""
    names = {name.rpartition("/")[0] for name in metrics}
    return [*sorted(names - {""}), _PLAIN_SECTION]


def _section(name: str, *, shown: bool, columns: int) -> dict[str, Any]:
    fixed = {"isReordered": False, "deleted": False, "isGenerated": False, "cardHeight": 360}
    return {"uuid": _id(name), "name": name, "display": shown, "columns": columns} | fixed


def _line(metric: str, title: str, *, logarithmic: bool = False) -> dict[str, Any]:
    return _chart(
        "LINE",
        metric,
        title,
        metricKey=metric,
        selectedMetricKeys=[metric],
        lineSmoothness=0,
        useGlobalLineSmoothing=False,
        scaleType="log" if logarithmic else "linear",
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


def _scatter(x: str, y: str, title: str) -> dict[str, Any]:
    axes = {axis: {"key": key, "type": "METRIC"} for axis, key in (("xaxis", x), ("yaxis", y))}
    return _chart("SCATTER", f"{x} {y}", title, runsCountToCompare=100, **axes)


def _chart(kind: str, key: str, title: str, **settings: Any) -> dict[str, Any]:
    """A card; `key` tells it from others of its kind."""
    fixed = {"uuid": _id(f"{kind} {key}"), "type": kind, "displayName": title, "deleted": False, "isGenerated": False}
    return {"runsCountToCompare": 10} | fixed | settings


def _id(name: str) -> str:
    return uuid.uuid5(_SPACE, name).hex
