"""Stores made by copying one that is migrated already: creating one takes seconds."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from goldfish.tracking.store import Store


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, created once: it takes seconds."""
    folder = tmp_path_factory.mktemp("template")
    store = Store(root=folder, uri=f"sqlite:///{folder / 'mlflow.db'}")
    store.prepare()
    assert store.path is not None
    return store.path


@pytest.fixture
def store(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of its own in an otherwise empty folder, which is the working directory."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return copy_store(template, tmp_path)


def copy_store(template: Path, folder: Path) -> Store:
    """Copy the template; the experiment "Default" must not point to the template's artifacts."""
    shutil.copy(template, folder / "mlflow.db")
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        place = (folder / "mlruns" / "0").as_uri()
        connection.execute("UPDATE experiments SET artifact_location = ?", (place,))
    return Store(root=folder)
