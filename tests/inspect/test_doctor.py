"""doctor: a line each, what it finds when something is wrong, and what it repairs."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.tracking.outcomes import make_outcome

from goldfish.cli import main
from goldfish.inspect import doctor as module
from goldfish.inspect.doctor import Line, doctor
from goldfish.sweep.claims import Claims
from goldfish.sweep.identity import fingerprint
from goldfish.tracking import spool, sql
from goldfish.tracking.store import Store

SUBJECTS = ["store", "locks", "claims", "disk", "GPU", "versions", "artifacts", "leftovers", "spool"]


def looked(**options: Any) -> dict[str, Line]:
    return {line.subject: line for line in doctor(**options)}


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of temporary files of its own."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def recorded(store: Store) -> Path:
    """A run with its artifacts; their folder."""
    outcome = make_outcome(verdict="solved")
    made = fingerprint(outcome.config)
    run_id = store.record(outcome, experiment_name="study", sweep="s", fingerprint=made, source_hash="", provenance={})
    assert store.artifacts is not None
    return store.artifacts / "study" / run_id


def test_all_is_well(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(store)
    before = sorted(store.path.parent.rglob("*")) if store.path else []
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == SUBJECTS
    assert not [line for line in lines if line.startswith("bad")]
    assert lines[0].startswith(f"ok   store      {store.path}: 1 runs, schema ")
    assert lines[0].endswith("integrity ok")
    assert sorted(store.path.parent.rglob("*")) == before if store.path else False


def test_without_a_store_nothing_is_made(here: Path) -> None:
    assert main(["doctor"]) == 0
    assert list(here.iterdir()) == []


def test_a_damaged_store(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert store.path is not None
    size = store.path.stat().st_size
    with store.path.open("r+b") as file:
        for place in range(size // 2, size - 4096, 4096):
            file.seek(place)
            file.write(b"\xff" * 64)
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.startswith("bad  store ")


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be taken for one" * 100])
def test_a_file_that_is_no_store(content: bytes, here: Path) -> None:
    (here / "mlflow.db").write_bytes(content)
    assert looked()["store"].grade == "bad"


def test_a_schema_that_mlflow_does_not_know(store: Store) -> None:
    assert store.path is not None
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'fedcba987654'")
    line = looked()["store"]
    assert line.grade == "bad"
    assert "older than the store" in line.words


def test_an_older_schema(store: Store) -> None:
    assert store.path is not None
    older = next(parent for parent in module._parents().values() if parent)
    with closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (older,))
    line = looked()["store"]
    assert (line.grade, "up to date" in line.words) == ("ok", True)


def test_a_locked_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    assert store.path is not None
    with closing(sqlite3.connect(store.path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        line = looked()["locks"]
    assert (line.grade, "locked" in line.words) == ("warn", True)


def test_a_lock_that_is_held(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    monkeypatch.setattr(module, "_PATIENCE", 0.1)
    with FileLock(f"{store.path}.lock"):
        line = looked()["locks"]
    assert (line.grade, "held by another process" in line.words) == ("warn", True)


def test_claims_of_the_dead_and_of_others(store: Store) -> None:
    claims = Claims(store.state / "claims")
    wanted = [claims.of(("study", digit * 64), f"seed={digit}", "s") for digit in "0123"]
    claims.take([wanted[0], wanted[2]._replace(host="elsewhere"), wanted[3]])
    Claims(claims.folder).take([wanted[1]._replace(owner="gone")])
    line = looked()["claims"]
    assert line.grade == "warn"
    assert "3 runs are being trained" in line.words
    assert f"1 claims of dead processes (1 of process {os.getpid()} on " in line.words
    assert "1 released" in looked(release="")["claims"].words
    assert {claim.label for claim in claims.all()} == {"seed=0", "seed=2", "seed=3"}
    assert "1 released" in looked(release="elsewhere")["claims"].words
    assert {claim.label for claim in claims.all()} == {"seed=0", "seed=3"}
    assert looked()["claims"].grade == "ok"


@pytest.mark.parametrize(("free", "grade"), [(2**20, "bad"), (2**30, "warn"), (2**40, "ok")])
def test_disk(free: int, grade: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=free))
    assert looked()["disk"].grade == grade


def test_torch_is_asked_only_on_demand(here: Path) -> None:
    import torch

    assert f"torch {torch.__version__}" in looked()["GPU"].words
    assert ("sees no GPU" in looked(torch=True)["GPU"].words) is not torch.cuda.is_available()


def test_a_driver_that_torch_does_not_use(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23\n")
    version = tmp_path / "torch" / "version.py"
    version.parent.mkdir()
    monkeypatch.setattr(module, "_DRIVER", driver)
    spec = SimpleNamespace(origin=str(version.with_name("__init__.py")))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: spec)
    version.write_text("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n")
    assert module._gpu().grade == "warn"
    version.write_text("__version__ = '2.13.0'\ncuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n")
    assert module._gpu() == Line("ok", "GPU", "torch 2.13.0, built for CUDA 12.8; NVIDIA driver: 570.86.15")


def test_a_version_that_is_not_supported(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0.0" if name == "mlflow" else real(name))
    line = looked()["versions"]
    assert (line.grade, "mlflow 1.0.0, required " in line.words) == ("bad", True)


def test_what_is_not_installed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version

    def version(name: str) -> str:
        if name == "mlflow":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    line = looked()["versions"]
    assert (line.grade, "mlflow is not installed" in line.words) == ("bad", True)


def moved(store: Store, here: Path) -> Store:
    """The store after its folder was moved."""
    new = here / "new place"
    new.mkdir()
    for name in ("mlflow.db", "mlruns"):
        shutil.move(here / name, new / name)
    return Store(root=new)


def places(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT artifact_location FROM experiments UNION SELECT artifact_uri FROM runs")
        return {str(place) for (place,) in found}


def test_a_moved_project(store: Store, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = recorded(store)
    assert store.path is not None
    before = places(store.path)
    other = moved(store, here)
    monkeypatch.chdir(here / "new place")
    assert other.path is not None
    assert other.artifacts is not None
    line = looked()["artifacts"]
    assert line.grade == "bad"
    assert line.words.startswith("3 paths lead to file://")  # two experiments and a run
    assert places(other.path) == before
    line = looked(move=True)["artifacts"]
    assert (line.grade, line.words.split(" from ")[0]) == ("ok", "3 paths corrected")
    assert all(place.startswith(f"{other.artifacts.as_uri()}/") for place in places(other.path))
    assert places(Path(line.words.rpartition("backup: ")[2])) == before
    assert looked()["artifacts"].grade == "ok"
    listed = other.client.list_artifacts(run.name)
    assert {item.path for item in listed} == {"config.yaml", "curves.parquet"}


def test_relocation_is_one_transaction(store: Store, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(store)
    other = moved(store, here)
    assert other.path is not None
    assert other.artifacts is not None
    before = places(other.path)
    with closing(sqlite3.connect(other.path)) as connection, connection:
        connection.execute("CREATE TRIGGER no BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(sqlite3.IntegrityError, match="no"):
        sql.relocate(other.path, other.artifacts)
    assert places(other.path) == before
    monkeypatch.chdir(other.path.parent)
    line = looked(move=True)["artifacts"]  # and the doctor goes on to the next line
    assert (line.grade, "no" in line.words) == ("bad", True)


def test_what_was_not_moved_is_left_alone(store: Store, here: Path) -> None:
    """Another place that is there, another kind of place, and a link to the same place."""
    recorded(store)
    elsewhere = here / "elsewhere" / "mlruns" / "x"
    elsewhere.mkdir(parents=True)
    assert store.path is not None
    kept = [elsewhere.as_uri(), "s3://bucket/mlruns/x", "/gone/artifacts/x"]
    with closing(sqlite3.connect(store.path)) as connection, connection:
        for index, place in enumerate(kept):
            row = (100 + index, f"other {index}", place, "active")
            fields = "experiment_id, name, artifact_location, lifecycle_stage"
            connection.execute(f"INSERT INTO experiments ({fields}) VALUES (?, ?, ?, ?)", row)
    assert looked()["artifacts"].grade == "ok"
    link = here.with_name("link")
    link.symlink_to(here)
    assert store.artifacts is not None
    assert not sql.moved(store.path, link / "mlruns")


def test_leftovers(store: Store, temporary: Path) -> None:
    assert store.path is not None
    recorded(store)
    assert store.artifacts is not None
    old = [store.path.with_name("mlflow.7.tmp"), store.artifacts / "study" / ("f" * 32), temporary / "goldfish-abc"]
    old += [store.state / "checkpoints" / "a.tmp"]
    new = temporary / "goldfish-new"
    foreign = [temporary / "other-abc", store.path.with_name("mine.tmp"), store.artifacts / "study" / "notes"]
    for path in [*old, new, *foreign]:
        path.mkdir(parents=True)
        if path is not new:
            os.utime(path, (time.time() - 7200,) * 2)
    line = looked()["leftovers"]
    assert line.grade == "warn"
    assert line.words.startswith("4 of killed processes, up to 2 h 00 min old")
    found = sorted(path for path in module._temporary(store) if module._age(path) > module.OLD)
    assert found == sorted(old)


def test_what_waits(store: Store) -> None:
    for seed in (0, 1):
        outcome = make_outcome(seed=seed, verdict="solved")
        spool.put(store.state, spool.About("study", fingerprint(outcome.config), "s", "", {}), outcome)
    store.client.delete_experiment(store.experiment("study"))  # in MLflow's UI
    found = looked()["spool"]
    assert (found.grade, found.words.partition(": ")[0]) == (
        "warn",
        f"2 outcomes wait in {store.state / 'spool'} to be recorded",
    )
    (store.state / "spool" / "other.outcome").write_bytes(b"x")
    assert "1 damaged files may be removed, their runs are trained again" in looked()["spool"].words


def test_what_waited_is_recorded(store: Store) -> None:
    outcome = make_outcome(verdict="solved")
    spool.put(store.state, spool.About("study", fingerprint(outcome.config), "s", "", {}), outcome)
    assert looked()["spool"] == Line("ok", "spool", "1 outcome that had waited is recorded now")
    assert looked()["spool"] == Line("ok", "spool", "empty")
    assert store.finished("study").keys() == {fingerprint(outcome.config)}


def test_a_server_that_does_not_answer(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    found = looked()
    assert (found["store"].grade, "does not answer" in found["store"].words) == ("bad", True)
    assert list(found) == SUBJECTS
