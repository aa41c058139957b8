"""What is written straight into the database is what MLflow's client writes, and it is there whole or not at all."""

from __future__ import annotations

import math
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.stores import copy_store
from tests.tracking.outcomes import DATA, make_outcome, record

from goldfish.tracking import sql
from goldfish.tracking.run import NewRun, new_run
from goldfish.tracking.store import Store
from goldfish.training.outcome import Outcome, Point

TABLES = ["runs", "params", "tags", "metrics", "latest_metrics", "datasets", "inputs", "input_tags"]


def outcomes() -> list[Outcome]:
    """A plain run, one with all that is special about numbers, one that failed, one with more than MLflow's batch."""
    odd = make_outcome(seed=1, verdict="diverged", reason="loss became nan at step 120")
    name = "gradient/log10_norm_by_lag"
    numbers = [-math.inf, math.nan, math.inf, -0.0, 0.0, 1.7e308, 5e-324, 0.1]
    odd.curves = [Point(name, "after", lag, value) for lag, value in enumerate(numbers)]
    twice = [Point("train/loss", "training", 50, value) for value in (1.0, 2.0, 1.0, 0.5, math.nan, math.nan)]
    late = [Point("val/loss", "training", step, 1.0) for step in (100, 50, -50)]
    ties = [Point("val/accuracy", "training", 50, value) for value in (math.nan, 0.0, -1.0)]
    odd.curves += twice + late + ties
    odd.metrics = {"test/loss": math.nan, "test/worst": math.inf, "gradient/lowest": -math.inf, "time_to_solve": 250.0}
    failed = make_outcome(seed=2, verdict="failed", reason="MemoryError: no room — здесь", started=1.8e9)
    long = make_outcome(seed=3)
    long.curves = [Point(name, "after", lag % 700, -0.01 * (lag % 900)) for lag in range(2500)]
    return [make_outcome(), odd, failed, long]


def interrupt(store: Store) -> str:
    """Record an attempt that was broken off."""
    return store.record_interrupted(
        make_outcome(seed=4).config,
        experiment_name="study",
        sweep="s",
        fingerprint="f" * 64,
        source_hash="a" * 64,
        provenance={"commit": "c" * 40},
        reason="SIGTERM at step 12",
        started=1.8e9,
    )


def through_client(*arguments: Any) -> None:
    """In place of sql.write: it leaves everything to MLflow's client."""


@pytest.fixture
def both(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Store]:
    """Two stores with the same outcomes, one written straight, one through MLflow's client."""
    check_schema()
    monkeypatch.setattr("goldfish.tracking.store.time.time", lambda: 1.8e9 + 60)  # when the interrupted one ends
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    stores = {}
    for name in ("straight", "client"):
        (tmp_path / name).mkdir()
        stores[name] = copy_store(template, tmp_path / name)
    for name, store in stores.items():
        with monkeypatch.context() as patch:
            if name == "client":
                patch.setattr(sql, "write", through_client)
            else:
                store.experiment("study")
                patch.setattr(type(store.client), "create_run", None)  # so that no run can be written by it
            for outcome in outcomes():
                record(store, outcome, dataset=DATA)
            interrupt(store)
    return stores


def dump(store: Store) -> dict[str, list[tuple]]:
    """Every row of every table with SQLite's types; what is drawn at random or depends on the folder is replaced."""
    assert store.path is not None
    with closing(sqlite3.connect(store.path)) as connection:
        connection.row_factory = sqlite3.Row
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {table: [dict(row) for row in connection.execute(f"SELECT * FROM {table}")] for table in tables}
    ids = {row["run_uuid"]: row["name"] for row in found["runs"]}
    ids |= {row["dataset_uuid"]: row["name"] + row["digest"] for row in found["datasets"]}
    ids |= {row["input_uuid"]: f"of {ids[row['destination_id']]}" for row in found["inputs"]}
    assert all(len(key) == 32 for key in ids)
    ids[store.path.parent.as_uri()] = "folder"

    def same(column: str, value: Any) -> Any:
        if column in ("creation_time", "last_update_time"):
            return "now"
        for key, name in ids.items():
            value = value.replace(key, name) if isinstance(value, str) else value
        return type(value).__name__, value

    rows = {table: [tuple(same(*item) for item in row.items()) for row in found[table]] for table in tables}
    return {table: sorted(rows[table], key=repr) for table in tables}


def test_every_row_of_every_table_is_what_the_client_writes(both: dict[str, Store]):
    straight, client = dump(both["straight"]), dump(both["client"])
    assert straight.keys() == client.keys()
    for table in straight:
        assert straight[table] == client[table], table
    for table in TABLES:
        assert straight[table], table
    assert [row.count(("str", "KILLED")) for row in map(list, straight["runs"])].count(1) == 1
    assert len(straight["runs"]) == 5
    assert len(straight["datasets"]) == 1
    assert len(straight["inputs"]) == len(straight["input_tags"]) == 4


def test_mlflow_shows_the_same(both: dict[str, Store]):
    shown: dict[str, list[Any]] = {}
    for name, store in both.items():
        runs = store.client.search_runs([store.experiment("study")], order_by=["attributes.run_name"])
        assert len(runs) == 5
        shown[name] = []
        for run in runs:
            run_id, histories = run.info.run_id, {}
            for key in run.data.metrics:
                history = store.client.get_metric_history(run_id, key)
                histories[key] = [(repr(point.value), point.timestamp, point.step) for point in history]
            whole = run.to_dictionary()
            whole["data"]["tags"] = dict(sorted(whole["data"]["tags"].items()))  # the client adds the outcome last
            whole["info"] |= {"run_id": "", "artifact_uri": whole["info"]["artifact_uri"].partition("mlruns")[2][:6]}
            files = {(item.path, item.is_dir) for item in store.client.list_artifacts(run_id)}
            shown[name].append((repr(whole), histories, files))
    assert shown["straight"] == shown["client"]


def test_files_are_what_the_client_copies(both: dict[str, Store]):
    files = {}
    for name, store in both.items():
        assert store.artifacts is not None
        files[name] = sorted((file.name, file.read_bytes()) for file in store.artifacts.rglob("*") if file.is_file())
        assert {len(file.relative_to(store.artifacts).parts) for file in store.artifacts.rglob("*.yaml")} == {4}
    assert files["straight"] == files["client"]
    assert len(files["straight"]) == 4 + 3


def check_schema() -> None:
    """Fail, and say what is to be done, where the installed MLflow has another schema than the one that is known."""
    from mlflow.store.db.utils import _get_latest_schema_revision
    from mlflow.version import VERSION

    latest = _get_latest_schema_revision()
    if latest != sql.REVISION:
        pytest.fail(
            f"MLflow {VERSION} has schema {latest}, sql.py knows {sql.REVISION}: the client writes every run. "
            f"Set sql.REVISION = {latest!r}, run this file, and correct sql.py until each table is the same."
        )


def test_the_schema_is_the_one_that_is_known():
    check_schema()


def test_another_schema_is_left_to_the_client(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sql, "REVISION", "000000000000")
    monkeypatch.setattr(sql, "_insert_run", None)
    run_id = record(store, make_outcome(), dataset=DATA)
    assert store.runs()["run_id"].tolist() == [run_id]
    assert len(store.curves()) == len(make_outcome().curves)


def left_to_the_client(store: Store, run: NewRun) -> bool:
    """Whether a run is refused; nothing of it may be written then."""
    assert store.path is not None
    artifacts: list[Path] = []
    run_id = sql.write(store.path, store.experiment("study"), run, artifacts.append)
    assert bool(artifacts) == (run_id is not None)
    return run_id is None


CHANGES: dict[str, Callable[[NewRun], NewRun]] = {
    "a time that MLflow chooses": lambda run: replace(run, started=0),
    "ended before it started": lambda run: replace(run, ended=run.started - 1),
    "a long name": lambda run: replace(run, name="n" * 251),
    "a long parameter": lambda run: replace(run, parameters={"task.text": "x" * 6001}),
    "a long tag": lambda run: replace(run, tags={"goldfish.sweep": "x" * 8001}),
    "a long key": lambda run: replace(run, tags={"k" * 251: "x"}),
    "a strange parameter": lambda run: replace(run, parameters={"a/../b": "x"}),
    "a strange metric": lambda run: replace(run, metrics=[run.metrics[0]._replace(key="loss%")]),
    "an empty metric": lambda run: replace(run, metrics=[run.metrics[0]._replace(key="")]),
    "a dataset with a long name": lambda run: replace(
        run, dataset=run.dataset and run.dataset._replace(name="n" * 501)
    ),
    "a dataset with a long profile": lambda run: replace(
        run, dataset=run.dataset and run.dataset._replace(profile="n" * 6001)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_mlflow_would_cut_choose_or_refuse_is_left_to_it(store: Store, change: str):
    run = new_run(replace(make_outcome(), dataset=DATA), {})
    assert left_to_the_client(store, CHANGES[change](run))
    assert store.client.search_runs([store.experiment("study")]) == []
    assert not left_to_the_client(store, run)


@pytest.mark.parametrize("place", ["s3://bucket/study", "./mlruns/study", "file:///tmp/a?b=c", "file://host/study"])
def test_artifacts_that_lie_elsewhere_are_left_to_the_client(store: Store, place: str):
    experiment = store.experiment("study")
    assert store.path is not None
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (place, experiment))
    assert left_to_the_client(store, new_run(make_outcome(), {}))


def test_a_folder_that_is_no_uri_is_written_to(store: Store, tmp_path: Path):
    place = str(tmp_path / "50 % ü")
    experiment = store.client.create_experiment("plain", artifact_location=place)
    assert store.path is not None
    run = new_run(make_outcome(), {})
    run_id = sql.write(store.path, experiment, run, lambda folder: (folder / "x").touch())
    assert (tmp_path / "50 % ü" / str(run_id) / "artifacts" / "x").is_file()
    assert [item.path for item in store.client.list_artifacts(str(run_id))] == ["x"]


def test_an_experiment_deleted_meanwhile_gets_no_run(store: Store):
    experiment = store.experiment("study")
    store.client.delete_experiment(experiment)
    assert left_to_the_client(store, new_run(make_outcome(), {}))


def empty(store: Store) -> bool:
    """Neither a row nor a file of any run."""
    assert store.path is not None
    assert store.artifacts is not None
    with closing(sqlite3.connect(store.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = sum(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES)
    return rows == 0 and not list((store.artifacts / "study").iterdir())


@pytest.mark.parametrize("broken", ["_insert", "_row", "_latest", "_insert_dataset"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["error", "interrupt"])
def test_writing_that_fails_in_the_middle_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, broken: str, error: BaseException
):
    store.experiment("study")

    def fail(*arguments: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(sql, broken, fail)
        with pytest.raises(type(error)):
            record(store, make_outcome(), dataset=DATA)
    assert empty(store)
    record(store, make_outcome(), dataset=DATA)
    assert len(store.runs()) == 1


def test_files_that_cannot_be_written_leave_nothing(store: Store):
    outcome = make_outcome()
    outcome.curves.append(Point("val/loss", "training", 700, 1.0))
    outcome.state_dict = {"weights": lambda: None}  # cannot be saved
    with pytest.raises(AttributeError, match="local object"):
        record(store, outcome)
    assert empty(store)


class Interrupted(sqlite3.Connection):
    """A connection with which an interrupt arrives just after the commit."""

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        done = super().execute(statement, *values)
        if statement == "COMMIT":
            raise KeyboardInterrupt
        return done


def test_an_interrupt_after_the_commit_leaves_the_files(store: Store, monkeypatch: pytest.MonkeyPatch):
    store.experiment("study")
    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *place, **named: connect(*place, **named, factory=Interrupted))
        with pytest.raises(KeyboardInterrupt):
            record(store, make_outcome())
    (run_id,) = store.runs()["run_id"]
    assert {item.path for item in store.client.list_artifacts(run_id)} == {"config.yaml", "curves.parquet"}


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from tests.tracking.outcomes import make_outcome
from goldfish.tracking import sql
from goldfish.tracking.run import new_run
data = {"name": "recall", "digest": "d", "source": "synthetic"}
sql._insert_dataset = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
sql._CACHE = 40  # so that rows reach the file before the transaction ends
run = new_run(replace(make_outcome(length=300), dataset=data), {})
sql.write(Path(sys.argv[1]), sys.argv[2], run, lambda folder: None)
"""


def test_a_process_that_is_killed_leaves_no_row(store: Store):
    experiment = store.experiment("study")
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", KILLED, str(store.path), experiment], cwd=root)
    assert done.returncode == -signal.SIGKILL
    assert store.artifacts is not None
    assert (store.artifacts.parent / "mlflow.db-journal").stat().st_size > 0
    (left,) = (store.artifacts / "study").iterdir()
    shutil.rmtree(left)
    assert empty(store)
    record(store, make_outcome(), dataset=DATA)
    assert len(store.runs()) == 1


def test_writing_waits_for_another_writer(store: Store):
    experiment = store.experiment("study")
    assert store.path is not None
    with closing(sqlite3.connect(store.path, check_same_thread=False, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.3, other.execute, ["COMMIT"])
        run = new_run(make_outcome(), {})
        assert sql.write(store.path, experiment, run, lambda folder: release.start()) is not None
        release.join()
    assert len(store.client.search_runs([experiment])) == 1


def test_a_database_that_stays_locked_is_told(store: Store, monkeypatch: pytest.MonkeyPatch):
    store.experiment("study")
    monkeypatch.setattr(sql, "_PATIENCE", 0.1)
    assert store.path is not None
    with closing(sqlite3.connect(store.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            record(store, make_outcome())
    assert empty(store)


def test_writers_beside_each_other_and_beside_mlflow_lose_nothing(store: Store):
    experiment = store.experiment("study")

    def write(writer: int) -> None:
        if writer == 0:
            for _ in range(5):
                run = store.client.create_run(experiment)
                store.client.log_metric(run.info.run_id, "by/hand", 1.0)
                store.client.set_terminated(run.info.run_id)
        else:
            for seed in range(5):
                record(store, make_outcome(length=10, seed=100 * writer + seed), dataset=DATA)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert len(store.runs()) == 15
    assert len(store.client.search_runs([experiment])) == 20
    assert len(store.curves()) == 15 * len(make_outcome(length=10).curves)
