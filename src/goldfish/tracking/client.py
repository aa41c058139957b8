"""Access to the store through MLflow: creating and migrating databases, and the client for other stores than SQLite."""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldfish import files
from goldfish.errors import ConfigError
from goldfish.tracking import names, sql
from goldfish.tracking.run import Data, NewRun, Run, number

if TYPE_CHECKING:
    import mlflow.entities
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

_PAGE = 1000
_REQUESTS = 8  # at a time, when the history of metrics is fetched from a server
_METRICS, _TEXTS = 1000, 100  # MLflow's largest batches
_ROOM = 4 * 2**20  # bytes that must be free before a database is made, which takes about one


def quiet() -> None:
    """Switch off MLflow's telemetry, before MLflow is imported, and the reports of its migrations."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    # the recorder tries again itself, and says so: MLflow would be silent for minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)


def connect(uri: str) -> MlflowClient:
    """Import MLflow and return a client of this store."""
    quiet()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def create(path: Path, artifacts: Path) -> None:
    """Make a database in a folder of its own and move it into place whole, so that nobody ever sees half of it."""
    check_room(path.parent)
    with tempfile.TemporaryDirectory(prefix="goldfish-") as folder:
        scratch = Path(folder) / "mlflow.db"
        migrate(sql.uri_of(scratch), artifacts)
        files.write(path, scratch.read_bytes())


def check_room(folder: Path) -> None:
    """Raise OSError where there is no room for a database: half of one would be of no use."""
    free = shutil.disk_usage(folder).free
    if free < _ROOM:
        raise OSError(errno.ENOSPC, f"a new store takes {_ROOM // 1024} kB, and {free // 1024} are free", str(folder))


def migrate(uri: str, artifacts: Path) -> None:
    """Bring the tables of a database up to date, missing ones too, and make the experiment "Default".

    Raises ConfigError when a newer MLflow made them, or when we may not change them.
    """
    quiet()
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from mlflow.store.db import utils
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    try:
        if uri.startswith("sqlite"):  # the tables of others are not ours to change
            engine = utils.create_sqlalchemy_engine_with_retry(uri)
            try:
                version = utils._get_schema_version(engine)
                if version is not None and version != utils._get_latest_schema_revision():
                    utils._upgrade_db(engine)
            finally:
                engine.dispose()
        SqlAlchemyStore(uri, artifacts.as_uri()).engine.dispose()
    except CommandError as error:
        raise ConfigError(f"{sql.database(uri)}: made by a newer MLflow than the one installed ({error})") from error
    except MlflowException as error:
        raise ConfigError(f"MLFLOW_TRACKING_URI={without_password(uri)}: {str(error).splitlines()[0]}") from error


def without_password(uri: str) -> str:
    """The URI without its password, so that it may be shown."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:…@", uri)


def find(client: MlflowClient, name: str) -> str | None:
    """The id of an MLflow experiment; None when there is none. Raises ConfigError when it was deleted in the UI."""
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return None
    if experiment.lifecycle_stage != "active":
        raise ConfigError(
            f"tracking.experiment_name={name}: deleted in MLflow; restore it there or choose another name"
        )
    return str(experiment.experiment_id)


class ClientReader:
    """Reads any store through MLflow's client, as SqlReader reads an SQLite file."""

    def __init__(self, client: MlflowClient) -> None:
        self.client = client

    def experiments(self) -> dict[str, str]:
        """Experiments that were not deleted, name → id, those with the newest runs first."""
        ids = {item.name: str(item.experiment_id) for item in self.client.search_experiments()}
        newest = {name: self.client.search_runs([ids[name]], max_results=1) for name in ids}  # MLflow's order
        started = {name: max((run.info.start_time for run in newest[name]), default=0) for name in ids}
        return {name: ids[name] for name in sorted(ids, key=lambda name: (-started[name], name))}

    def runs(self, experiment_name: str | None, tags: Collection[str] = (), *, more: Collection[str] = ()) -> list[Run]:
        """Every run of ours, of one experiment or of all, always with all its tags, parameters and metrics."""
        experiments = {str(item.experiment_id): item.name for item in self.client.search_experiments()}
        ids = [own for own, name in experiments.items() if experiment_name in (None, name)]
        return [
            Run(
                run_id=run.info.run_id,
                experiment=experiments[run.info.experiment_id],
                status=run.info.status,
                name=run.info.run_name,
                started=run.info.start_time / 1000,
                parameters=dict(run.data.params),
                metrics={key: number(value) for key, value in run.data.metrics.items()},
                tags=dict(run.data.tags),
            )
            for run in _search(self.client, ids)
            if names.FINGERPRINT in run.data.tags
        ]

    def points(self, curves: Mapping[str, Collection[str]]) -> Iterator[tuple[str, str, int, float]]:
        """Run, metric, step and value of every point of these runs' curves; run → names of metrics."""
        wanted = [(run_id, metric) for run_id in curves for metric in curves[run_id]]
        with ThreadPoolExecutor(_REQUESTS) as pool:
            histories = pool.map(lambda pair: self.client.get_metric_history(*pair), wanted)
            for (run_id, metric), history in zip(wanted, histories, strict=True):
                for point in history:
                    yield run_id, metric, point.step, number(point.value)


def _search(client: MlflowClient, experiments: list[str], wanted: str = "") -> Iterator[mlflow.entities.Run]:
    """The runs of these experiments, page by page."""
    token: str | None = ""
    while experiments and token is not None:
        page = client.search_runs(experiments, wanted, max_results=_PAGE, page_token=token or None)
        yield from page
        token = page.token or None


def supersede(client: MlflowClient, attempts: Iterable[Run]) -> int:
    """Mark those of these attempts that came to nothing and are not marked yet; return their number."""
    lost = [run for run in attempts if run.status in ("RUNNING", "KILLED") and names.SUPERSEDED not in run.tags]
    for run in lost:
        client.set_tag(run.run_id, names.SUPERSEDED, "true")
        client.set_terminated(run.run_id, "KILLED", client.get_run(run.run_id).info.end_time)
        if names.OUTCOME not in run.tags:
            _give_back(client, run.run_id)
    return len(lost)


def _give_back(client: MlflowClient, run_id: str) -> None:
    """Undo the marks on a run that turns out to have been recorded at that very moment, from another folder or host."""
    run = client.get_run(run_id)
    outcome = run.data.tags.get(names.OUTCOME)
    if outcome is not None:
        client.set_terminated(run_id, "FAILED" if outcome == "failed" else "FINISHED", run.info.end_time)
        client.delete_tag(run_id, names.SUPERSEDED)


def write(client: MlflowClient, experiment_id: str, run: NewRun, artifacts: Callable[[Path], None]) -> str:
    """Write a run: a batch of parameters, metrics and tags, then dataset, artifacts, outcome, and last the status.

    Until outcome and status agree there is no record. Whatever an earlier attempt left is continued, because an answer
    may be lost although the call succeeded; what is written twice is stored once. Where another process has recorded a
    result of the same run, that result stands.
    """
    outcome, known = run.tags.get(names.OUTCOME), _attempts(client, experiment_id, run)
    mine = next((item for item in known if item.info.start_time == run.started), None)
    if mine is not None and outcome and _outcome(mine):
        return _settled(client, experiment_id, run, str(mine.info.run_id))
    there = _result(run, known)
    if there is not None:
        if mine is not None:
            client.delete_run(mine.info.run_id)
        return there
    if mine is None:  # with the tag by which it is found again
        mark = {key: run.tags[key] for key in (names.FINGERPRINT,) if key in run.tags}
        mine = client.create_run(experiment_id, start_time=run.started, tags=mark, run_name=run.name)
    run_id = str(mine.info.run_id)
    try:
        _log(client, run_id, run)
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


def _attempts(client: MlflowClient, experiment_id: str, run: NewRun) -> list[mlflow.entities.Run]:
    """Every attempt at this run that the store holds, whatever became of it."""
    fingerprint = run.tags.get(names.FINGERPRINT, "")
    return list(_search(client, [experiment_id], f"tags.`{names.FINGERPRINT}` = '{fingerprint}'"))


def _outcome(item: mlflow.entities.Run) -> str:
    """The outcome of a run that was recorded to its end."""
    outcome = item.data.tags.get(names.OUTCOME)
    return str(outcome) if names.whole(item.info.status, outcome) else ""


def _result(run: NewRun, known: Iterable[mlflow.entities.Run]) -> str | None:
    """The result of the same run that another process has recorded, the first of several."""
    if run.tags.get(names.OUTCOME) not in names.FINISHED:
        return None
    others = [item.info for item in known if _outcome(item) in names.FINISHED and item.info.start_time != run.started]
    return min((str(info.run_id) for info in others if (info.end_time or 0) >= run.since), default=None)


def _settled(client: MlflowClient, experiment_id: str, run: NewRun, run_id: str) -> str:
    """Look once more, and return the id of the record that stays.

    Of two processes that record the same result at once, the one that ends later at least sees the other's: the run of
    the larger id goes, whoever made it. A process that took this attempt for a dead one's may have marked it KILLED.
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
    """Mark a run that could not be recorded completely; if that fails too, `error` gets a note."""
    try:
        client.set_terminated(run_id, "KILLED")
    except Exception as second:
        error.add_note(f"MLflow run {run_id} is still marked as running: {second}")


def _log(client: MlflowClient, run_id: str, run: NewRun) -> None:
    from mlflow.entities import Metric, Param, RunTag

    metrics = [Metric(*metric) for metric in run.metrics]
    parameters = [Param(key, value) for key, value in run.parameters.items()]
    tags = [RunTag(key, value) for key, value in run.tags.items() if key != names.OUTCOME]
    batches = zip_longest(_parts(metrics, _METRICS), _parts(parameters, _TEXTS), _parts(tags, _TEXTS), fillvalue=())
    for batch in batches:
        client.log_batch(run_id, *batch)
    if run.dataset is not None:
        client.log_inputs(run_id, [_input(run.dataset)])


def _input(data: Data) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    described = Dataset(data.name, data.digest, sql.SOURCE_TYPE, data.source, data.schema, data.profile)
    return DatasetInput(described, [InputTag(*sql.CONTEXT)])


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Consecutive parts of at most `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
