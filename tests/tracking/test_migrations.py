"""Creating a store: once, whole, whoever else tries; and after the folder has moved."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.tracking.outcomes import fingerprint_of, make_outcome, record

from goldfish.errors import ConfigError
from goldfish.tracking import client
from goldfish.tracking.store import Store


@pytest.mark.slow
def test_four_processes_preparing_one_fresh_store(tmp_path: Path):
    code = (
        "import sys, time; from pathlib import Path\n"
        "from goldfish.tracking.store import Store\n"
        "from tests.tracking.outcomes import make_outcome, record\n"
        "import mlflow.store.tracking.sqlalchemy_store\n"
        "Path(f'ready/{sys.argv[1]}').touch()\n"
        "while len(list(Path('ready').iterdir())) < 4: time.sleep(0.01)\n"
        "store = Store(root=Path('.')); store.prepare(); record(store, make_outcome(seed=int(sys.argv[1])))"
    )
    (tmp_path / "ready").mkdir()  # so that all four come to it at the same moment
    root = Path(__file__).parents[2]
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    environment["PYTHONPATH"] = os.pathsep.join([str(root), environment.get("PYTHONPATH", "")])
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(seed)], cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
        for seed in range(4)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
        assert errors == b""
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    assert set(store.finished("study")) == {fingerprint_of(make_outcome(seed=seed)) for seed in range(4)}
    assert set(store.experiments()) == {"study", "Default"}
    assert {entry.name for entry in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock", "mlruns", "ready"}


def test_preparing_again_changes_nothing(store: Store):
    record(store, make_outcome())
    assert store.path is not None
    with closing(sqlite3.connect(store.path)) as connection:
        before = list(connection.iterdump())
        store.prepare()
        assert list(connection.iterdump()) == before


def test_a_database_that_is_not_whole_is_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def breaks(uri: str, artifacts: Path) -> None:
        Path(uri.removeprefix("sqlite:///")).write_bytes(b"half a database")
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "migrate", breaks)
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(KeyboardInterrupt):
        store.prepare()
    assert not store.exists()
    assert list(tmp_path.iterdir()) == []


def test_artifacts_follow_a_folder_that_was_moved(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run_id = record(store, make_outcome())
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    monkeypatch.chdir(moved)
    again = Store(root=moved)
    again.prepare()
    assert {item.path for item in again.client.list_artifacts(run_id)} == {"config.yaml", "curves.parquet"}
    record(again, make_outcome(seed=1))
    assert not tmp_path.exists()


def test_artifacts_that_lie_elsewhere_on_purpose_stay(store: Store, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere" / "mlruns"
    elsewhere.mkdir(parents=True)
    store.client.create_experiment("apart", artifact_location=(elsewhere / "apart").as_uri())
    store.prepare()
    found = store.client.get_experiment_by_name("apart")
    assert found is not None
    assert found.artifact_location == (elsewhere / "apart").as_uri()


def test_a_database_of_a_newer_mlflow_is_refused_in_one_line(store: Store):
    assert store.path is not None
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    with pytest.raises(ConfigError, match=r"mlflow\.db: made by a newer MLflow") as caught:
        store.prepare()
    assert "\n" not in str(caught.value)


def test_an_older_database_is_migrated(store: Store, monkeypatch: pytest.MonkeyPatch):
    from mlflow.store.db import utils

    upgraded: list[str] = []

    def upgrade(engine: Any) -> None:
        upgraded.append(str(engine.url))
        monkeypatch.undo()  # its schema is the newest now

    monkeypatch.setattr(utils, "_upgrade_db", upgrade)
    monkeypatch.setattr(utils, "_get_schema_version", lambda engine: "0123456789ab")
    store.prepare()
    assert upgraded == [store.uri]
