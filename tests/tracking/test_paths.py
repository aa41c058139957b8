"""Folders with marks that mean something in a URI: the store lies where it should, and nowhere else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.tracking.outcomes import fingerprint_of, make_outcome, record

from goldfish.errors import ConfigError
from goldfish.tracking import sql
from goldfish.tracking.client import ClientReader
from goldfish.tracking.store import Store

ODD = "run%201 a?b#c 'd' \"e\" &f=g;h%%s{i}ä%2F"


def test_a_store_in_a_folder_of_any_name(tmp_path: Path) -> None:
    for name in ("run 1", "run%201", ODD):
        (tmp_path / name).mkdir()
    store = Store(root=tmp_path / ODD)
    outcome = make_outcome(seed=1)
    run_id = record(store, outcome)
    assert store.finished("study").keys() == {fingerprint_of(outcome)}
    assert [run.run_id for run in ClientReader(store.client).runs("study")] == [run_id]  # MLflow's own reading
    assert sorted(path.name for path in store.run_artifacts(run_id).iterdir()) == [
        *("config.yaml", "curves.parquet"),
    ]
    assert store.run_artifacts(run_id).is_relative_to(tmp_path / ODD)
    store.prepare()  # the second time it migrates, and looks whether the folder was moved
    assert store.run_artifacts(run_id).is_relative_to(tmp_path / ODD)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["run 1", "run%201", ODD])
    assert not list((tmp_path / "run 1").iterdir())
    assert not list((tmp_path / "run%201").iterdir())
    assert {path.name for path in (tmp_path / ODD).iterdir()} == {"mlflow.db", "mlflow.db.lock", "mlruns"}


def test_a_moved_store_is_found_again(store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    run_id = record(store, make_outcome(seed=1))
    assert store.path is not None
    moved = tmp_path_factory.mktemp("moved to") / ODD
    store.path.parent.rename(moved)
    again = Store(root=moved)
    again.prepare()
    assert (again.run_artifacts(run_id) / "config.yaml").is_file()
    with closing(sqlite3.connect(moved / "mlflow.db")) as connection:
        places = {place for (place,) in connection.execute("SELECT artifact_uri FROM runs")}
    assert places == {f"{(moved / 'mlruns').as_uri()}/study/{run_id}/artifacts"}


@pytest.mark.parametrize("version", ["2.0.40", "2.1.0b2", "2.1.9"])
def test_a_uri_means_the_file_that_sqlalchemy_opens(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    monkeypatch.setattr(sql, "_decodes", sql._decodes.__wrapped__)
    for path in (Path("/a b/x.db"), Path('/it\'s/"x".db'), Path("/a%20b/x.db"), Path("/a#b/x.db")):
        assert sql.database(sql.uri_of(path)) == path
    if version == "2.0.40":
        with pytest.raises(ConfigError, match=r"/a\?b/x.db: SQLAlchemy 2.0.40 takes no database there"):
            sql.uri_of(Path("/a?b/x.db"))
    else:
        assert sql.database(sql.uri_of(Path("/a?b/x.db"))) == Path("/a?b/x.db")


def test_a_folder_whose_name_is_no_text_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a folder of another name"):
        Store(root=tmp_path / "caf\udce9")
