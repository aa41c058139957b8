"""Reading an SQLite store by SQL with the standard library: a finished sweep answers without importing MLflow."""

from __future__ import annotations

import importlib.metadata
import re
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import cache
from pathlib import Path
from urllib.parse import unquote

from goldfish.errors import ConfigError
from goldfish.tracking import names
from goldfish.tracking.rows import CurvePoint, Recorded, RunRow, number

_CHUNK = 900  # SQLite's older limit of 999 variables in a statement
_ACTIVE = "r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'active'"


def database(uri: str) -> Path | None:
    """The file of an SQLite URI, as SQLAlchemy reads it; None for another kind of store."""
    found = re.fullmatch(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)(?:\?.*)?", uri)
    if found is None:
        return None
    return Path(unquote(found["path"]) if _decodes() else found["path"])


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


class SqliteReader:
    """Reads one database file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        """True when there is a store: the file is put in place only when it is complete."""
        return self.path.is_file() and bool(self._query("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"))

    def experiments(self) -> dict[str, str]:
        """Experiments that were not deleted, name → id, those with the newest runs first."""
        return dict(
            self._query(
                "SELECT e.name, CAST(e.experiment_id AS TEXT) FROM experiments e LEFT JOIN runs r "
                "ON r.experiment_id = e.experiment_id AND r.lifecycle_stage = 'active' "
                "WHERE e.lifecycle_stage = 'active' GROUP BY e.experiment_id "
                "ORDER BY coalesce(max(r.start_time), 0) DESC, e.name"
            )
        )

    def finished(self, experiment_name: str | None) -> list[RunRow]:
        """Runs of an experiment, or of all, that came to a result."""
        marks = ", ".join("?" for _ in names.FINISHED)
        rows = self._query(
            "SELECT f.value, r.run_uuid, o.value, coalesce(s.value, ''), r.start_time FROM experiments e "
            "JOIN runs r ON r.experiment_id = e.experiment_id "
            "JOIN tags f ON f.run_uuid = r.run_uuid AND f.key = ? "
            "JOIN tags o ON o.run_uuid = r.run_uuid AND o.key = ? "
            "LEFT JOIN tags s ON s.run_uuid = r.run_uuid AND s.key = ? "
            f"WHERE (? IS NULL OR e.name = ?) AND r.status = 'FINISHED' AND {_ACTIVE} AND o.value IN ({marks})",
            [names.FINGERPRINT, names.OUTCOME, names.SOURCE_HASH, experiment_name, experiment_name, *names.FINISHED],
        )
        return [RunRow(*row)._replace(started=row[4] / 1000) for row in rows]

    def runs(self, experiment_name: str | None) -> list[Recorded]:
        """Every recorded run, of one experiment or of all."""
        rows = self._query(
            "SELECT r.run_uuid, e.name, r.status, r.name, r.start_time, o.value FROM runs r "
            "JOIN experiments e ON e.experiment_id = r.experiment_id "
            "JOIN tags o ON o.run_uuid = r.run_uuid AND o.key = ? "
            f"WHERE {_ACTIVE} AND (? IS NULL OR e.name = ?)",
            [names.OUTCOME, experiment_name, experiment_name],
        )
        found = {row[0]: Recorded(*row[:5]) for row in rows if names.whole(row[2], row[5])}
        for table, attribute in (("params", "parameters"), ("tags", "tags")):
            for run_id, key, value in self._of_runs(f"SELECT run_uuid, key, value FROM {table}", found):
                getattr(found[run_id], attribute)[key] = value
        metrics = "SELECT run_uuid, key, value, is_nan FROM latest_metrics"
        for run_id, key, value, is_nan in self._of_runs(metrics, found):
            found[run_id].metrics[key] = number(value, bool(is_nan))
        return list(found.values())

    def tags(self, run_ids: Sequence[str]) -> dict[str, dict[str, str]]:
        """The fingerprint and the names of curves of these runs."""
        found: dict[str, dict[str, str]] = defaultdict(dict)
        wanted = f"SELECT run_uuid, key, value FROM tags WHERE key IN ('{names.FINGERPRINT}', '{names.CURVES}')"
        for run_id, key, value in self._of_runs(wanted, run_ids):
            found[run_id][key] = value
        return {run_id: found[run_id] for run_id in run_ids if run_id in found}

    def points(self, tags: dict[str, dict[str, str]]) -> Iterator[CurvePoint]:
        """Every stored value of every metric of these runs."""
        for row in self._of_runs("SELECT run_uuid, key, step, value, is_nan FROM metrics", tags):
            run_id, key, step, value, is_nan = row
            yield CurvePoint(run_id, key, step, number(value, bool(is_nan)))

    def _of_runs(self, select: str, run_ids: Iterable[str]) -> Iterator[tuple]:
        """The rows of a table that belong to these runs."""
        wanted = list(run_ids)
        word = "AND" if " WHERE " in select else "WHERE"
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            yield from self._query(f"{select} {word} run_uuid IN ({', '.join('?' for _ in chunk)})", chunk)

    def _query(self, statement: str, values: Sequence[object] = ()) -> list[tuple]:
        return query(self.path, statement, values)


def query(path: Path, statement: str, values: Sequence[object] = ()) -> list[tuple]:
    """The rows that an SQLite file answers with; it is opened for reading alone.

    Where a process was killed while it wrote, SQLite first has to undo what it left, which only a writer may.
    """
    try:
        return _rows(path, "ro", statement, values)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:  # the low byte is the kind of error
            raise
        return _rows(path, "rw", statement, values)


def _rows(path: Path, mode: str, statement: str, values: Sequence[object]) -> list[tuple]:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=60)) as connection:
        return connection.execute(statement, values).fetchall()
