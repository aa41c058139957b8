"""Artifact paths that point to where a project's folder once was, and how they are corrected.

MLflow keeps them absolute. After a move every list of artifacts is empty, without a word.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from goldfish.tracking.sqlite import query

COLUMNS = {"experiments": "artifact_location", "runs": "artifact_uri"}
_BELOW = re.compile(r"(?P<root>(?:file:|/).*/mlruns)/(?P<rest>.+)")

Moved = Counter[tuple[str, str]]  # (table, old folder of artifacts as it is written) → paths


def find(path: Path, artifacts: Path) -> Moved:
    """The paths in an SQLite store that lead to another folder `mlruns` than its own, and should not.

    They should not where that folder is gone, and where the files lie below our own: the project was moved, or copied.
    A path of another kind (s3://, another folder's name) is left alone.
    """
    found: Moved = Counter()
    for table, column in COLUMNS.items():
        for (place,) in query(path, f"SELECT {column} FROM {table}"):
            match = _BELOW.fullmatch(place or "")
            if match and _moved(match["root"], match["rest"], artifacts):
                found[table, match["root"]] += 1
    return found


def relocate(path: Path, artifacts: Path) -> Path:
    """Correct what `find` finds, in one transaction; return the copy of the database from before, made beside it."""
    backup = path.with_name(f"{path.name}.before-relocate-{time.strftime('%Y%m%d-%H%M%S')}")
    with closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as connection:
        with closing(sqlite3.connect(backup)) as copy:
            connection.backup(copy)
        connection.create_function("relocated", 1, lambda place: _new(place, artifacts), deterministic=True)
        connection.execute("BEGIN IMMEDIATE")
        try:
            for table, column in COLUMNS.items():
                connection.execute(f"UPDATE {table} SET {column} = relocated({column}) WHERE {column} IS NOT NULL")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    return backup


def _new(place: str, artifacts: Path) -> str:
    match = _BELOW.fullmatch(place)
    if not match or not _moved(match["root"], match["rest"], artifacts):
        return place
    root = artifacts.as_uri() if match["root"].startswith("file:") else str(artifacts)
    return f"{root}/{match['rest']}"


def _moved(root: str, rest: str, artifacts: Path) -> bool:
    old = _local(root)
    return old.resolve() != artifacts.resolve() and (not old.exists() or (artifacts / unquote(rest)).exists())


def _local(place: str) -> Path:
    return Path(unquote(urlsplit(place).path)) if place.startswith("file:") else Path(place)
