"""Creating a database for MLflow and bringing an older one up to date; the caller holds a lock."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from goldfish.errors import ConfigError
from goldfish.tracking.sqlite import uri_of

_ROOM = 4 * 2**20  # bytes that must be free before a database is made, which takes about one

if TYPE_CHECKING:
    import sqlalchemy


def prepare(uri: str, path: Path | None, artifacts: Path) -> None:
    """Create or migrate the database at `uri`; `path` is its file when it is SQLite.

    Raises ConfigError when the tables are of another version of MLflow and it is not for us to change them.
    """
    from goldfish.tracking.client import quiet

    quiet()
    if path is not None and not path.exists():
        _create(path, artifacts)
    elif path is not None:
        follow(path, artifacts)
        _upgrade(uri, path)
    _open(uri, artifacts)


def _create(path: Path, artifacts: Path) -> None:
    """Build the database in a file of its own and put it in place whole: nobody ever sees half of it."""
    check_room(path.parent)
    scratch = path.with_name(f"{path.name}.new")
    _remove(scratch)  # of a process that was killed here
    try:
        _open(uri_of(scratch), artifacts).dispose()
        os.replace(scratch, path)
    except BaseException:
        _remove(scratch)
        raise


def check_room(folder: Path) -> None:
    """Raise OSError where a database has no room: half of it would be of no use."""
    free = shutil.disk_usage(folder).free
    if free < _ROOM:
        raise OSError(errno.ENOSPC, f"a new store takes {_ROOM // 1024} kB, and {free // 1024} are free", str(folder))


def _remove(scratch: Path) -> None:
    """Remove a database, and the journal of a transaction that did not end."""
    for path in (scratch, *scratch.parent.glob(f"{glob.escape(scratch.name)}-*")):
        path.unlink(missing_ok=True)


def _open(uri: str, artifacts: Path) -> sqlalchemy.Engine:
    """Open a database as MLflow does, which creates missing tables and its experiment "Default"."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    from goldfish.tracking.store import without_password

    try:
        return SqlAlchemyStore(uri, artifacts.as_uri()).engine
    except MlflowException as error:
        raise ConfigError(f"MLFLOW_TRACKING_URI={without_password(uri)}: {str(error).splitlines()[0]}") from error


def _upgrade(uri: str, path: Path) -> None:
    """Migrate an SQLite file that an older MLflow made."""
    from alembic.util import CommandError
    from mlflow.store.db import utils

    engine = utils.create_sqlalchemy_engine_with_retry(uri)
    try:
        version = utils._get_schema_version(engine)
        if version is not None and version != utils._get_latest_schema_revision():
            utils._upgrade_db(engine)
    except CommandError as error:
        raise ConfigError(f"{path}: made by a newer MLflow than the one installed ({error})") from error
    finally:
        engine.dispose()


def follow(path: Path, artifacts: Path) -> None:
    """Correct artifact locations after the folder was moved: MLflow stores them absolute.

    Only those whose old mlruns folder is gone are changed.
    """
    with closing(sqlite3.connect(path, timeout=60)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"experiments", "runs"} <= tables:
            return
        places = [row for (row,) in connection.execute("SELECT artifact_location FROM experiments")]
        found = (re.fullmatch(r"(.*/mlruns)/[^/]+/?", place or "") for place in places)
        for old in {match[1] for match in found if match}:
            if _local(old) != artifacts and not _local(old).exists():
                new = artifacts.as_uri() if old.startswith("file:") else str(artifacts)
                for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                    statement = (
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE substr({column}, 1, ?) = ?"
                    )
                    connection.execute(statement, (new, len(old) + 1, len(old) + 1, f"{old}/"))


def _local(place: str) -> Path:
    return Path(unquote(urlsplit(place).path)) if place.startswith("file:") else Path(place)
