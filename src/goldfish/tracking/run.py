"""A run in MLflow: the rows that are written for an outcome, its artifacts, and the run as it is read back."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from goldfish.figures.palette import CELLS, OTHERS
from goldfish.tracking import names

if TYPE_CHECKING:
    from goldfish.training.outcome import Outcome

Key = tuple[str, str]  # MLflow experiment, fingerprint
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
    metrics: list[Measured] = field(default_factory=list)
    dataset: Data | None = None
    since: int = 0


@dataclass
class Run:
    """A run as a store holds it: `started` is unix time in seconds, `metrics` are the last value of each."""

    run_id: str
    experiment: str
    status: str
    name: str
    started: float
    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of its configuration."""
        return self.tags[names.FINGERPRINT]

    @property
    def key(self) -> Key:
        """The MLflow experiment and the fingerprint."""
        return self.experiment, self.fingerprint

    @property
    def outcome(self) -> str:
        """solved, unsolved, diverged or failed; nothing for one that was not recorded to its end."""
        outcome = self.tags.get(names.OUTCOME)
        return str(outcome) if names.whole(self.status, outcome) else ""

    @property
    def source_hash(self) -> str:
        """The hash of the source that made it."""
        return self.tags.get(names.SOURCE_HASH, "")

    @property
    def settings(self) -> dict[str, str]:
        """The flat configuration as texts."""
        return {names.LONG.get(key, key): value for key, value in self.parameters.items()}


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


def new_run(outcome: Outcome, tags: Mapping[str, str], since: float = 0.0) -> NewRun:
    """Everything of an outcome but its artifacts; `tags` are added to its own, `since` is a unix time in seconds.

    Raises ValueError for curves that MLflow cannot hold (metrics_of, names.curve_index).
    """
    started = round(outcome.started * 1000)
    ended = started + round(outcome.seconds * outcome.packed * 1000)
    said = {
        names.CURVES: names.curve_index((point.quantity, point.phase) for point in outcome.curves),
        names.OUTCOME: outcome.verdict,
        "mlflow.note.content": names.description(outcome)[:_TAG],
    }
    notes = {
        names.REASON: outcome.reason,
        names.ENGINE: outcome.engine,
        names.NONDETERMINISTIC: outcome.nondeterministic,
    }
    said |= {key: text[:_TAG] for key, text in notes.items() if text}
    return NewRun(
        name=names.run_name(outcome.config),
        status="FAILED" if outcome.verdict == "failed" else "FINISHED",
        started=started,
        ended=ended,
        parameters=names.parameters(outcome.config),
        tags={**said, **_tags(outcome.config), **tags},
        metrics=metrics_of(outcome, ended),
        dataset=_data(outcome.dataset) if outcome.dataset else None,
        since=round(since * 1000),
    )


def _data(dataset: Mapping[str, str]) -> Data:
    name, digest, source = dataset["name"], dataset["digest"][:_DIGEST], dataset["source"]
    return Data(name, digest, source, dataset.get("schema"), dataset.get("profile"))


def interrupted_run(
    config: Mapping[str, Any], tags: Mapping[str, str], reason: str, started: float, ended: float
) -> NewRun:
    """An attempt that was broken off, KILLED in MLflow: its configuration and why; times are unix times in seconds."""
    return NewRun(
        name=names.run_name(config),
        status="KILLED",
        started=round(started * 1000),
        ended=round(max(started, ended) * 1000),
        parameters=names.parameters(config),
        tags={names.INTERRUPTED: reason[:_TAG], **_tags(config), **tags},
    )


def metrics_of(outcome: Outcome, timestamp: int) -> list[Measured]:
    """Curves with their x as step, then final scalars at step 0: MLflow draws a metric without steps as bars.

    A scalar that has the name of a curve, such as val/accuracy, is that curve's last point. Raises ValueError for an x
    that is no whole number, as MLflow's steps are.
    """
    measured = []
    for point in outcome.curves:
        if point.x != int(point.x):
            raise ValueError(f"{point.quantity} at {point.x}: MLflow's steps are whole numbers")
        measured.append(
            Measured(names.metric(point.quantity, point.phase), float(point.value), timestamp, int(point.x))
        )
    curves = {metric.key for metric in measured}
    counts = {stored: getattr(outcome, column) for column, stored in names.COUNTS.items()}
    scalars = {key: value for key, value in (outcome.metrics | counts).items() if key not in curves}
    return measured + [Measured(key, float(value), timestamp, 0) for key, value in scalars.items()]


def _tags(config: Mapping[str, Any]) -> dict[str, str]:
    """The tags that follow from a run's configuration alone: its group, its place in an order, its colour."""
    cell, init, task = names.kind(config)
    return {
        names.GROUP: names.group(cell, init, task, config["task"].get("length")),
        names.ORDER: names.order(config),
        # that of the figures for rnn, lstm and gru
        "mlflow.runColor": CELLS.get(cell) or OTHERS[sum(cell.encode()) % len(OTHERS)],
        "mlflow.source.name": "goldfish",
        "mlflow.source.type": "LOCAL",
    }


def write_artifacts(outcome: Outcome, folder: Path) -> None:
    """Write config.yaml, curves.parquet, weights.pt and data.sha256, the hash of real data; each where there is one."""
    import yaml

    text = yaml.safe_dump(outcome.config.plain(), sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    if outcome.curves:
        import pyarrow
        import pyarrow.parquet

        columns = zip(*outcome.curves, strict=True)
        table = pyarrow.table(dict(zip(("quantity", "phase", "x", "value"), map(list, columns), strict=True)))
        pyarrow.parquet.write_table(table, folder / "curves.parquet")
    if outcome.content:
        (folder / "data.sha256").write_text(f"{outcome.content}\n", encoding="utf-8")
    saved = outcome.state_dict.get("weights.pt")
    if isinstance(saved, bytes):  # a worker of a sweep saved them: its parent imports no torch
        (folder / "weights.pt").write_bytes(saved)
    elif outcome.state_dict:
        import torch

        torch.save(outcome.state_dict, folder / "weights.pt")
