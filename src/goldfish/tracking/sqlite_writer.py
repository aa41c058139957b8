"""Writing a run into MLflow's SQLite file in one transaction, row for row what MLflow's client writes in a dozen.

MLflow owns the schema. Where it is not the one that is known here, or where the client would do more than insert
(refuse a name, cut a text, choose a time, send artifacts elsewhere), the client is left to do it.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from goldfish.tracking.new_run import Data, NewRun
from goldfish.tracking.rows import stored

REVISION = "dc11669786a5"  # of MLflow's schema
SOURCE_TYPE = "goldfish"  # of datasets
CONTEXT = ("mlflow.data.context", "evaluation")
_KEY = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*")
_NAME, _TEXT = 250, 6000  # characters that MLflow takes of a name, and of any value
_PATIENCE = 60.0  # seconds to wait for another process that writes
_CACHE = 16000  # KiB, more than the pages that a run changes: they are written once
_Row = tuple[str, float, int, int, bool]  # key, value, timestamp, step, is_nan


def write(path: Path, experiment_id: str, run: NewRun, artifacts: Callable[[Path], None]) -> str | None:
    """Write a run and return its id; None, and nothing written, when that is left to MLflow's client.

    Args:
        path: the database.
        experiment_id: of an experiment in it.
        run: what is written.
        artifacts: writes the run's files into the folder it is given.

    Raises sqlite3.OperationalError when another process holds the database for longer than a minute. Whatever is
    raised, neither rows nor files of the run are left; a process that is killed may leave files that nothing refers to.
    """
    with closing(_connect(path)) as connection:
        location = _location(connection, experiment_id)
        folder = None if location is None else _folder(location)
        if location is None or folder is None or not _plain(run):
            return None
        run_id = uuid.uuid4().hex
        try:
            place = folder / run_id / "artifacts"
            place.mkdir(parents=True)
            artifacts(place)
            connection.execute("BEGIN IMMEDIATE")  # the files first: others wait for the rows only
            _insert_run(connection, run_id, experiment_id, run, f"{location.rstrip('/')}/{run_id}/artifacts")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            if connection.total_changes == 0 or not _exists(connection, run_id):  # an interrupt may follow the commit
                shutil.rmtree(folder / run_id, ignore_errors=True)
            raise
        return run_id


def _connect(path: Path) -> sqlite3.Connection:
    """A connection in which transactions are begun explicitly; closing it undoes one that was not committed."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=_PATIENCE, isolation_level=None)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{_CACHE}")
    return connection


def _exists(connection: sqlite3.Connection, run_id: str) -> bool:
    return connection.execute("SELECT 1 FROM runs WHERE run_uuid = ?", (run_id,)).fetchone() is not None


def _location(connection: sqlite3.Connection, experiment_id: str) -> str | None:
    """Where an experiment's artifacts lie; None when it is not active, or the schema is another one."""
    query = (
        "SELECT e.artifact_location FROM experiments e JOIN alembic_version v "
        "WHERE e.experiment_id = ? AND e.lifecycle_stage = 'active' AND v.version_num = ?"
    )
    found = connection.execute(query, (int(experiment_id), REVISION)).fetchone()
    return found[0] if found else None


def _folder(location: str) -> Path | None:
    """The folder of an artifact location; None when it is not in the local file system."""
    parts = urlsplit(location)
    if parts.query or parts.fragment or parts.netloc or parts.scheme not in ("", "file"):
        return None
    folder = Path(url2pathname(parts.path) if parts.scheme else location)
    return folder if folder.is_absolute() else None


def _plain(run: NewRun) -> bool:
    """True when MLflow's client would store everything as it is."""
    keys = {*run.parameters, *run.tags, *(metric.key for metric in run.metrics)}
    data = [] if run.dataset is None else [text for text in run.dataset if text is not None]
    texts = [*run.parameters.values(), *run.tags.values(), *data]
    return (
        0 < run.started <= run.ended
        and len(run.name) <= _NAME
        and (run.dataset is None or len(run.dataset.name) <= _NAME)
        and all(len(key) <= _NAME and _KEY.fullmatch(key) for key in keys)
        and all(len(text) <= _TEXT for text in texts)
    )


def _insert_run(connection: sqlite3.Connection, run_id: str, experiment_id: str, run: NewRun, place: str) -> None:
    """All rows of a run."""
    row = {"run_uuid": run_id, "experiment_id": int(experiment_id), "name": run.name, "artifact_uri": place}
    row |= {"status": run.status, "start_time": run.started, "end_time": run.ended, "lifecycle_stage": "active"}
    row |= {"source_type": "UNKNOWN", "source_name": "", "entry_point_name": "", "source_version": ""}
    _insert(connection, "runs", [row | {"user_id": "unknown"}])
    for table, texts in (("params", run.parameters), ("tags", {"mlflow.runName": run.name} | dict(run.tags))):
        _insert(connection, table, [{"run_uuid": run_id, "key": key, "value": text} for key, text in texts.items()])
    # a point that is given twice is one row
    metrics = list(dict.fromkeys(_row(*metric) for metric in run.metrics))
    columns = f"(run_uuid, key, value, timestamp, step, is_nan) VALUES ('{run_id}', ?, ?, ?, ?, ?)"
    connection.executemany(f"INSERT INTO metrics {columns}", metrics)
    connection.executemany(f"INSERT INTO latest_metrics {columns}", _latest(metrics))
    if run.dataset is not None:
        _insert_dataset(connection, run_id, experiment_id, run.dataset)


def _row(key: str, value: float, timestamp: int, step: int) -> _Row:
    number, is_nan = stored(value)
    return key, number, timestamp, step, is_nan


def _latest(metrics: Iterable[_Row]) -> Sequence[_Row]:
    """Of each metric the value at its largest step; among equal steps the newest, then the largest."""
    found: dict[str, _Row] = {}
    for row in metrics:
        last = found.get(row[0])
        if last is None or (row[3], row[2], row[1]) > (last[3], last[2], last[1]):
            found[row[0]] = row
    return list(found.values())


def _insert_dataset(connection: sqlite3.Connection, run_id: str, experiment_id: str, data: Data) -> None:
    """The dataset, once in an experiment, and that the run used it."""
    key = {"experiment_id": int(experiment_id), "name": data.name, "digest": data.digest}
    known = connection.execute(
        "SELECT dataset_uuid FROM datasets WHERE experiment_id = :experiment_id AND name = :name AND digest = :digest",
        key,
    ).fetchone()
    dataset_id, input_id = known[0] if known else uuid.uuid4().hex, uuid.uuid4().hex
    if not known:
        texts = {"source": data.source, "schema": data.schema, "profile": data.profile, "source_type": SOURCE_TYPE}
        row = {f"dataset_{column}": text for column, text in texts.items()}
        _insert(connection, "datasets", [key | row | {"dataset_uuid": dataset_id}])
    used = {"source_type": "DATASET", "source_id": dataset_id, "destination_type": "RUN", "destination_id": run_id}
    _insert(connection, "inputs", [used | {"input_uuid": input_id}])
    _insert(connection, "input_tags", [{"input_uuid": input_id, "name": CONTEXT[0], "value": CONTEXT[1]}])


def _insert(connection: sqlite3.Connection, table: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Insert rows that have the same columns."""
    columns = list(rows[0])
    marks = ", ".join(f":{column}" for column in columns)
    connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)
