"""What of an outcome is written into MLflow, as plain values, whichever way they are written then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from goldfish.figures.palette import CELLS, OTHERS
from goldfish.tracking import names

if TYPE_CHECKING:
    from goldfish.training.outcome import Outcome

_TAG = 5000  # characters of a tag that servers take
_DIGEST = 36  # all that MLflow keeps


class Measured(NamedTuple):
    """One value of a metric; `timestamp` is unix time in milliseconds."""

    key: str
    value: float
    timestamp: int
    step: int


class Data(NamedTuple):
    """A run's dataset, as texts."""

    name: str
    digest: str
    source: str
    schema: str | None
    profile: str | None


@dataclass(frozen=True)
class NewRun:
    """A run to be written; `started` and `ended` are unix times in milliseconds, `status` is the one of its end.

    A result of the same run that another process has recorded stands for this one, unless it ended before `since`.
    """

    name: str
    status: str
    started: int
    ended: int
    parameters: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: list[Measured]
    dataset: Data | None
    since: int = 0


def new_run(outcome: Outcome, tags: Mapping[str, str], dataset: Mapping[str, str] | None, since: float = 0.0) -> NewRun:
    """Everything of an outcome but its artifacts; `tags` are added to its own, `since` is a unix time in seconds.

    Raises ValueError for curves that MLflow cannot hold (metrics_of, names.curve_index).
    """
    started = round(outcome.started * 1000)
    ended = started + round(outcome.seconds * outcome.packed * 1000)
    index = names.curve_index((point.quantity, point.phase) for point in outcome.curves)
    return NewRun(
        name=names.run_name(outcome.config),
        status="FAILED" if outcome.verdict == "failed" else "FINISHED",
        started=started,
        ended=ended,
        parameters=names.parameters(outcome.config),
        tags={names.CURVES: index, **run_tags(outcome), **tags},
        metrics=metrics_of(outcome, ended),
        dataset=None if dataset is None else _data(dataset),
        since=round(since * 1000),
    )


def interrupted_run(
    config: Mapping[str, Any], tags: Mapping[str, str], reason: str, started: float, ended: float
) -> NewRun:
    """An attempt that was broken off, KILLED in MLflow: its configuration and why; times are unix times in seconds."""
    cell, init, task = names.kind(config)
    return NewRun(
        name=names.run_name(config),
        status="KILLED",
        started=round(started * 1000),
        ended=round(max(started, ended) * 1000),
        parameters=names.parameters(config),
        tags={
            names.INTERRUPTED: reason[:_TAG],
            names.GROUP: names.group(cell, init, task, config["task"].get("length")),
            names.ORDER: names.order(config),
            "mlflow.runColor": colour(cell),
            "mlflow.source.name": "goldfish",
            "mlflow.source.type": "LOCAL",
            **tags,
        },
        metrics=[],
        dataset=None,
    )


def metrics_of(outcome: Outcome, timestamp: int) -> list[Measured]:
    """Curves with their x as step, then final scalars at step 0: MLflow draws a metric without steps as bars.

    A scalar that has the name of a curve, such as val/accuracy, is that curve's last point. Raises ValueError for an x
    that is no whole number, as MLflow's steps are.
    """
    found = []
    for point in outcome.curves:
        if point.x != int(point.x):
            raise ValueError(f"{point.quantity} at {point.x}: MLflow's steps are whole numbers")
        found.append(Measured(names.metric(point.quantity, point.phase), float(point.value), timestamp, int(point.x)))
    curves = {metric.key for metric in found}
    counts = {stored: getattr(outcome, column) for column, stored in names.COUNTS.items()}
    scalars = {key: value for key, value in (outcome.metrics | counts).items() if key not in curves}
    return found + [Measured(key, float(value), timestamp, 0) for key, value in scalars.items()]


def run_tags(outcome: Outcome) -> dict[str, str]:
    """What the run's own configuration and result say: its outcome, group, colour and description."""
    cell, init, task = names.kind(outcome.config)
    said = {
        names.REASON: outcome.reason[:_TAG],
        names.ENGINE: outcome.engine,
        names.NONDETERMINISTIC: outcome.nondeterministic[:_TAG],
    }
    return {key: text for key, text in said.items() if text} | {
        names.OUTCOME: outcome.verdict,
        names.GROUP: names.group(cell, init, task, outcome.config["task"].get("length")),
        names.ORDER: names.order(outcome.config),
        "mlflow.runColor": colour(cell),
        "mlflow.note.content": names.description(outcome)[:_TAG],
        "mlflow.source.name": "goldfish",
        "mlflow.source.type": "LOCAL",
    }


def colour(cell: str) -> str:
    """The colour of a cell, the same as in the figures for rnn, lstm and gru."""
    return CELLS.get(cell) or OTHERS[sum(cell.encode()) % len(OTHERS)]


def _data(dataset: Mapping[str, str]) -> Data:
    name, digest, source = dataset["name"], dataset["digest"][:_DIGEST], dataset["source"]
    return Data(name, digest, source, dataset.get("schema"), dataset.get("profile"))
