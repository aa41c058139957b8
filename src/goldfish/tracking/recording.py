"""Recording one outcome: a run, one batch of parameters, metrics and tags, its artifacts, and only then its status."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from goldfish.figures.palette import CELLS, OTHERS
from goldfish.tracking import names

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric

    from goldfish.training.outcome import Outcome

_METRICS, _PARAMETERS, _LABELS = 1000, 100, 100  # MLflow's largest batch
_TAG = 5000  # characters of a tag that servers take
Item = TypeVar("Item")


def record(client: MlflowClient, experiment_id: str, outcome: Outcome, tags: Mapping[str, str], dataset: Any) -> str:
    """Record one outcome and return the run's id.

    Nothing is left that looks like a result when this raises: the status FINISHED is set last.
    """
    started = round(outcome.started * 1000)
    ended = started + round(outcome.seconds * outcome.packed * 1000)
    name = names.run_name(outcome.config)
    run_id = str(client.create_run(experiment_id, start_time=started, run_name=name).info.run_id)
    try:
        _log(client, run_id, outcome, tags, ended)
        if dataset is not None:
            client.log_inputs(run_id, [_input(dataset)])
        with tempfile.TemporaryDirectory(prefix="goldfish-") as folder:
            write_artifacts(outcome, Path(folder))
            client.log_artifacts(run_id, folder)
        client.set_terminated(run_id, "FAILED" if outcome.verdict == "failed" else "FINISHED", ended)
    except BaseException as error:
        _abandon(client, run_id, error)
        raise
    return run_id


def _abandon(client: MlflowClient, run_id: str, error: BaseException) -> None:
    """Mark a run that could not be recorded whole; the error that is raised is the first one."""
    try:
        client.set_terminated(run_id, "FAILED")
    except Exception as second:
        error.add_note(f"MLflow run {run_id} is still marked as running: {second}")


def _log(client: MlflowClient, run_id: str, outcome: Outcome, tags: Mapping[str, str], timestamp: int) -> None:
    from mlflow.entities import Param, RunTag

    index = names.curve_index((point.quantity, point.phase) for point in outcome.curves)
    texts = {names.CURVES: index, **run_tags(outcome), **tags}
    metrics = metrics_of(outcome, timestamp)
    parameters = [Param(key, value) for key, value in names.parameters(outcome.config).items()]
    labels = [RunTag(key, value) for key, value in texts.items()]
    batches = zip_longest(chunks(metrics, _METRICS), chunks(parameters, _PARAMETERS), chunks(labels, _LABELS))
    for metric_batch, parameter_batch, label_batch in batches:
        client.log_batch(run_id, metric_batch or [], parameter_batch or [], label_batch or [])


def metrics_of(outcome: Outcome, timestamp: int) -> list[Metric]:
    """Curves with their x as step, then final scalars at step 0: MLflow draws a metric without steps as bars.

    A scalar that has the name of a curve, such as val/accuracy, is that curve's last point. Raises ValueError for an x
    that is no whole number, as MLflow's steps are.
    """
    from mlflow.entities import Metric

    found = []
    for point in outcome.curves:
        if point.x != int(point.x):
            raise ValueError(f"{point.quantity} at {point.x}: MLflow's steps are whole numbers")
        found.append(Metric(names.metric(point.quantity, point.phase), float(point.value), timestamp, int(point.x)))
    curves = {metric.key for metric in found}
    counts = {stored: getattr(outcome, column) for column, stored in names.COUNTS.items()}
    scalars = {key: value for key, value in (outcome.metrics | counts).items() if key not in curves}
    return found + [Metric(key, float(value), timestamp, 0) for key, value in scalars.items()]


def run_tags(outcome: Outcome) -> dict[str, str]:
    """What the run's own configuration and result say: its outcome, group, colour and description."""
    cell, init, task = (outcome.config[group]["name"] for group in ("cell", "init", "task"))
    return ({names.REASON: outcome.reason[:_TAG]} if outcome.reason else {}) | {
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


def _input(dataset: Mapping[str, str]) -> DatasetInput:
    """A run's dataset, from {name, digest, source, schema, profile} as plain texts."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    described = Dataset(
        name=dataset["name"],
        digest=dataset["digest"][:36],  # all that MLflow keeps
        source_type="goldfish",
        source=dataset["source"],
        schema=dataset.get("schema"),
        profile=dataset.get("profile"),
    )
    return DatasetInput(described, [InputTag("mlflow.data.context", "evaluation")])


def write_artifacts(outcome: Outcome, folder: Path) -> None:
    """Write config.yaml, curves.parquet and weights.pt; a run without curves or weights has no such file."""
    import yaml

    text = yaml.safe_dump(outcome.config, sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    if outcome.curves:
        import pyarrow
        import pyarrow.parquet

        columns = zip(*outcome.curves, strict=True)
        table = pyarrow.table(dict(zip(("quantity", "phase", "x", "value"), map(list, columns), strict=True)))
        pyarrow.parquet.write_table(table, folder / "curves.parquet")
    saved = outcome.state_dict.get("weights.pt")
    if isinstance(saved, bytes):  # a worker of a sweep saved them: its parent imports no torch
        (folder / "weights.pt").write_bytes(saved)
    elif outcome.state_dict:
        import torch

        torch.save(outcome.state_dict, folder / "weights.pt")


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Consecutive parts of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def slug(name: str) -> str:
    """A folder name for an experiment: letters, digits, dots, dashes; never empty, hidden or a way up."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-")[:80]
    return plain or "experiment"
