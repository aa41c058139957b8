"""SQL on MLflow's SQLite file: it is read without importing MLflow, and each run is written in one transaction.

MLflow owns the schema. What is written is row for row what its client writes. Where the schema is not the one that is
known here, or where the client would do more than insert (refuse a name, cut a text, choose a time, send artifacts
elsewhere), the client is left to do it.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from goldfish.errors import ConfigError
from goldfish.tracking import names
from goldfish.tracking.run import Data, NewRun, Run, number, stored

REVISION = "dc11669786a5"  # of MLflow's schema
SOURCE_TYPE = "goldfish"  # of datasets
CONTEXT = ("mlflow.data.context", "evaluation")
_KEY = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*")
_NAME, _TEXT = 250, 6000  # characters that MLflow takes of a name, and of any value
_PATIENCE = 60.0  # seconds to wait for another process that writes
_CACHE = 16000  # KiB, more than the pages that a run changes: they are written once
_Row = tuple[str, float, int, int, bool]  # key, value, timestamp, step, is_nan
_OURS = """
    WITH ours AS (
        SELECT r.*, e.name AS experiment FROM runs r JOIN experiments e USING (experiment_id)
        JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = :mark
        WHERE r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active' AND (:name IS NULL OR e.name = :name)
    )
"""
_PARAMETERS = "run_uuid, key, x.value FROM ours JOIN params x"
_METRICS = "run_uuid, key, x.value, is_nan FROM ours JOIN latest_metrics x"
_PLACES = {"experiments": "artifact_location", "runs": "artifact_uri"}
_BELOW = re.compile(r"(?P<root>(?:file:|/).*/mlruns)/(?P<rest>.+)")


def database(uri: str) -> Path | None:
    """The file of an SQLite URI, as SQLAlchemy reads it; None for another kind of store."""
    match = re.fullmatch(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)(?:\?.*)?", uri)
    if match is None:
        return None
    return Path(unquote(match["path"]) if _decodes() else match["path"])


def uri_of(path: Path) -> str:
    """The URI of an SQLite file. Raises ConfigError for a path that no URI can hold."""
    text = str(path)
    if not text.isprintable() or (not _decodes() and "?" in text):
        version = importlib.metadata.version("sqlalchemy")
        raise ConfigError(f"{text}: SQLAlchemy {version} takes no database there; expected a folder of another name")
    quoted = text
    for mark in "%?#" if _decodes() else "":
        quoted = quoted.replace(mark, f"%{ord(mark):02X}")
    # of a plain sqlite:/// MLflow makes the parent folders, of the name as it is written here
    return f"sqlite:///{text}" if quoted == text else f"sqlite+pysqlite:///{quoted}"


@cache
def _decodes() -> bool:
    """Whether %20 in a URI is a space: SQLAlchemy takes the path as it stands before 2.1."""
    major, minor = importlib.metadata.version("sqlalchemy").split(".")[:2]
    return (int(major), int(re.sub(r"\D.*", "", minor))) >= (2, 1)


class SqlReader:
    """Reads one database file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def experiments(self) -> dict[str, str]:
        """Experiments that were not deleted, name → id, those with the newest runs first."""
        return dict(
            _query(
                self.path,
                "SELECT e.name, CAST(e.experiment_id AS TEXT) FROM experiments e LEFT JOIN runs r "
                "ON r.experiment_id = e.experiment_id AND r.lifecycle_stage = 'active' "
                "WHERE e.lifecycle_stage = 'active' GROUP BY e.experiment_id "
                "ORDER BY coalesce(max(r.start_time), 0) DESC, e.name",
            )
        )

    def runs(self, experiment_name: str | None, tags: Collection[str] = (), *, more: Collection[str] = ()) -> list[Run]:
        """Every run of ours, of one experiment or of all, with these tags, or all of them, and with `more`.

        `more` may name "params" and "metrics".
        """
        given = {"name": experiment_name, "mark": names.FINGERPRINT, "tags": json.dumps(list(tags))}
        chosen = "WHERE key IN (SELECT value FROM json_each(:tags))" if tags else ""
        head = "run_uuid, experiment, status, name, start_time / 1000.0"
        runs: dict[str, Run] = {}
        for *row, key, text in self._of_ours(f"{head}, key, x.value FROM ours JOIN tags x", chosen, given):
            run = runs.get(row[0]) or runs.setdefault(row[0], Run(*row))
            run.tags[key] = text
        # a run may have been added between two questions
        for run_id, key, text in self._of_ours(_PARAMETERS, "", given) if "params" in more else ():
            if run_id in runs:
                runs[run_id].parameters[key] = text
        for run_id, key, value, is_nan in self._of_ours(_METRICS, "", given) if "metrics" in more else ():
            if run_id in runs:
                runs[run_id].metrics[key] = number(value, bool(is_nan))
        return list(runs.values())

    def _of_ours(self, selected: str, chosen: str, given: Mapping[str, object]) -> list[tuple[Any, ...]]:
        return _query(self.path, f"{_OURS} SELECT {selected} USING (run_uuid) {chosen}", given)

    def points(self, curves: Mapping[str, Collection[str]]) -> Iterator[tuple[str, str, int, float]]:
        """Run, metric, step and value of every point of these runs' curves; run → names of metrics."""
        chosen = "WHERE run_uuid IN (SELECT value FROM json_each(?))"
        points = f"SELECT run_uuid, key, step, value, is_nan FROM metrics {chosen}"
        for run_id, key, step, value, is_nan in _query(self.path, points, [json.dumps(list(curves))]):
            if key in curves[run_id]:
                yield run_id, key, step, number(value, bool(is_nan))


def exists(path: Path) -> bool:
    """True when MLflow has made its tables in the file."""
    return path.is_file() and bool(_query(path, "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"))


def version(path: Path) -> str:
    """The revision of MLflow's schema."""
    return str(_query(path, "SELECT version_num FROM alembic_version")[0][0])


def damage(path: Path) -> list[str]:
    """The faults that SQLite finds in the file, three at most."""
    return [str(row[0]) for row in _query(path, "PRAGMA integrity_check(3)") if row[0] != "ok"]


def run_ids(path: Path, *, active: bool) -> set[str]:
    """Every run, whoever recorded it, or those that were not deleted."""
    chosen = "WHERE lifecycle_stage = 'active'" if active else ""
    return {str(row[0]) for row in _query(path, f"SELECT run_uuid FROM runs {chosen}")}


def lock(path: Path, patience: float) -> str:
    """The reason why no transaction can begin within so many seconds; "" where one can."""
    with closing(_connect(path, patience)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            return str(error)
    return ""


def _query(path: Path, statement: str, values: Sequence[object] | Mapping[str, object] = ()) -> list[tuple[Any, ...]]:
    """The rows that an SQLite file answers with; it is opened for reading alone.

    Where a process was killed while it wrote, SQLite first has to undo what it left, which only a writer may.
    """
    try:
        return _rows(path, "ro", statement, values)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:  # the low byte is the kind of error
            raise
        return _rows(path, "rw", statement, values)


def _rows(
    path: Path, mode: str, statement: str, values: Sequence[object] | Mapping[str, object]
) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=60)) as connection:
        return connection.execute(statement, values).fetchall()


def moved(path: Path, artifacts: Path) -> Counter[str]:
    """Folders to which artifact paths in the store lead although they should not → the number of such paths.

    MLflow keeps them absolute: after a move every list of artifacts is empty, without a word. They should lead to our
    own folder `mlruns` where the old one is gone, or where the files lie below our own: the project was moved, or
    copied. A path of another kind (s3://, another folder's name) is left alone.
    """
    folders: Counter[str] = Counter()
    for table, column in _PLACES.items():
        for (place,) in _query(path, f"SELECT {column} FROM {table}"):
            if _relocated(place, artifacts) != place:
                folders[f"{place.rpartition('/mlruns/')[0]}/mlruns"] += 1
    return folders


def relocate(path: Path, artifacts: Path, backup: Path | None = None) -> None:
    """Correct the paths that `moved` finds, in one transaction, after a copy of the database where one is wanted."""
    with closing(_connect(path)) as connection:
        if backup is not None:
            with closing(sqlite3.connect(backup)) as copy:
                connection.backup(copy)
        connection.create_function("relocated", 1, lambda place: _relocated(place, artifacts), deterministic=True)
        connection.execute("BEGIN IMMEDIATE")
        for table, column in _PLACES.items():
            connection.execute(f"UPDATE {table} SET {column} = relocated({column})")
        connection.execute("COMMIT")


def _relocated(place: str | None, artifacts: Path) -> str | None:
    match = _BELOW.fullmatch(place or "")
    if match is None:
        return place
    root, rest = match["root"], match["rest"]
    is_uri = root.startswith("file:")
    own, old = artifacts.as_uri() if is_uri else str(artifacts), Path(unquote(urlsplit(root).path) if is_uri else root)
    if root == own or old.resolve() == artifacts.resolve():
        return place
    return place if old.exists() and not (artifacts / unquote(rest)).exists() else f"{own}/{rest}"


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


def _connect(path: Path, patience: float | None = None) -> sqlite3.Connection:
    """A connection in which transactions are begun explicitly; closing it undoes one that was not committed."""
    uri = f"{path.absolute().as_uri()}?mode=rw"
    timeout = _PATIENCE if patience is None else patience
    connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)
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
    row = connection.execute(query, (int(experiment_id), REVISION)).fetchone()
    return row[0] if row else None


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
    latest: dict[str, _Row] = {}
    for row in metrics:
        last = latest.get(row[0])
        if last is None or (row[3], row[2], row[1]) > (last[3], last[2], last[1]):
            latest[row[0]] = row
    return list(latest.values())


def _insert_dataset(connection: sqlite3.Connection, run_id: str, experiment_id: str, data: Data) -> None:
    """Insert the dataset, once in an experiment, and the fact that the run used it."""
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
