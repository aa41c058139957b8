"""Recording one outcome: straight into an SQLite file where that is possible, else through MLflow's client."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from goldfish.tracking import names, sqlite_writer
from goldfish.tracking.new_run import Data, NewRun, new_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

    from goldfish.training.outcome import Outcome

_METRICS, _PARAMETERS, _LABELS = 1000, 100, 100  # MLflow's largest batch
Item = TypeVar("Item")


def record(
    client: MlflowClient,
    path: Path | None,
    experiment_id: str,
    outcome: Outcome,
    tags: Mapping[str, str],
    dataset: Mapping[str, str] | None,
    since: float = 0.0,
) -> str:
    """Record one outcome and return the run's id; `path` is the store's file when it is SQLite.

    Nothing is left that looks like a result when this raises.
    """
    run = new_run(outcome, tags, dataset, since)
    return write(client, path, experiment_id, run, lambda folder: write_artifacts(outcome, folder))


def write(
    client: MlflowClient, path: Path | None, experiment_id: str, run: NewRun, artifacts: Callable[[Path], None]
) -> str:
    """Write a run whichever way is possible and return its id; `artifacts` writes its files into a folder."""
    if path is not None:
        run_id = sqlite_writer.write(path, experiment_id, run, artifacts)
        if run_id is not None:
            return run_id
    return _through_client(client, experiment_id, run, artifacts)


def _through_client(client: MlflowClient, experiment_id: str, run: NewRun, artifacts: Callable[[Path], None]) -> str:
    """A run, one batch of parameters, metrics and tags, its dataset, its artifacts, its outcome, and last its status.

    Until both agree there is no record. Whatever an earlier attempt has left is gone on with, for an answer may be lost
    although the call was done, and what is written twice is there once. Where another process has recorded a result of
    the same run, that stands.
    """
    outcome, known = run.tags.get(names.OUTCOME), _attempts(client, experiment_id, run)
    mine = next((item for item in known if item.info.start_time == run.started), None)
    if mine is not None and outcome and names.whole(mine.info.status, mine.data.tags.get(names.OUTCOME)):
        return _settled(client, experiment_id, run, str(mine.info.run_id))
    there = _result(run, known)
    if there is not None:
        if mine is not None:
            client.delete_run(mine.info.run_id)
        return there
    run_id = str((mine or _begin(client, experiment_id, run)).info.run_id)
    try:
        _log(client, run_id, run)
        if run.dataset is not None:
            client.log_inputs(run_id, [_input(run.dataset)])
        with tempfile.TemporaryDirectory(prefix="goldfish-") as folder:
            artifacts(Path(folder))
            client.log_artifacts(run_id, folder)
        if outcome is not None:
            client.set_tag(run_id, names.OUTCOME, outcome)
        client.set_terminated(run_id, run.status, run.ended)
    except BaseException as error:
        _abandon(client, run_id, error)
        raise
    return run_id if outcome is None else _settled(client, experiment_id, run, run_id)


def _attempts(client: MlflowClient, experiment_id: str, run: NewRun) -> list[Run]:
    """What the store holds of this run, whatever became of it."""
    fingerprint = run.tags.get(names.FINGERPRINT)
    if fingerprint is None:
        return []
    return list(client.search_runs([experiment_id], f"tags.`{names.FINGERPRINT}` = '{fingerprint}'", max_results=1000))


def _result(run: NewRun, known: Iterable[Run]) -> str | None:
    """The result of the same run that another process has recorded, the first of several."""
    if run.tags.get(names.OUTCOME) not in names.FINISHED:
        return None
    others = [item for item in known if _is_result(item) and item.info.start_time != run.started]
    return min((str(item.info.run_id) for item in others if (item.info.end_time or 0) >= run.since), default=None)


def _is_result(item: Run) -> bool:
    outcome = item.data.tags.get(names.OUTCOME)
    return outcome in names.FINISHED and names.whole(item.info.status, outcome)


def _begin(client: MlflowClient, experiment_id: str, run: NewRun) -> Run:
    """Create the run, with the tag by which it is found again."""
    mark = {key: run.tags[key] for key in (names.FINGERPRINT,) if key in run.tags}
    return client.create_run(experiment_id, start_time=run.started, tags=mark, run_name=run.name)


def _settled(client: MlflowClient, experiment_id: str, run: NewRun, run_id: str) -> str:
    """Look once more, and return the id of the record that stays.

    Of two processes that record the same result at once, the one that ends later at least sees the other's: the run of
    the larger id goes, whoever made it. One that takes this attempt for a dead one's may have marked it KILLED.
    """
    known = _attempts(client, experiment_id, run)
    mine = next((item for item in known if item.info.run_id == run_id), None)
    if mine is None:
        return _result(run, known) or run_id  # the other has seen to it
    if mine.info.status != run.status:
        client.set_terminated(run_id, run.status, run.ended)
    there = _result(run, known)
    if there is None:
        return run_id
    stays, goes = sorted((run_id, there))
    client.delete_run(goes)
    return stays


def _abandon(client: MlflowClient, run_id: str, error: BaseException) -> None:
    """Mark a run that could not be recorded whole; the error that is raised is the first one."""
    try:
        client.set_terminated(run_id, "KILLED")
    except Exception as second:
        error.add_note(f"MLflow run {run_id} is still marked as running: {second}")


def _log(client: MlflowClient, run_id: str, run: NewRun) -> None:
    from mlflow.entities import Metric, Param, RunTag

    metrics = [Metric(*metric) for metric in run.metrics]
    parameters = [Param(key, value) for key, value in run.parameters.items()]
    labels = [RunTag(key, value) for key, value in run.tags.items() if key != names.OUTCOME]
    batches = zip_longest(chunks(metrics, _METRICS), chunks(parameters, _PARAMETERS), chunks(labels, _LABELS))
    for metric_batch, parameter_batch, label_batch in batches:
        client.log_batch(run_id, metric_batch or [], parameter_batch or [], label_batch or [])


def _input(data: Data) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    described = Dataset(data.name, data.digest, sqlite_writer.SOURCE_TYPE, data.source, data.schema, data.profile)
    return DatasetInput(described, [InputTag(*sqlite_writer.CONTEXT)])


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


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Consecutive parts of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def slug(name: str) -> str:
    """A folder name for an experiment: letters, digits, dots, dashes; never empty, hidden or a way up."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip(".-")[:80]
    return plain or "experiment"
