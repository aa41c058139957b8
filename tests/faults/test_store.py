"""A store under pressure: many writers at once, locked by somebody else, a server that is stopped and started."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.faults.server import Server
from tests.stores import copy_store
from tests.tracking.outcomes import fingerprint_of, make_outcome

from goldfish.sweep.packs import Run
from goldfish.sweep.recorder import Recorder
from goldfish.tracking.store import Store
from goldfish.training.outcome import Outcome

WRITER = """
import sys
from tests.tracking.outcomes import make_outcome, record
from goldfish.tracking.store import Store
store = Store()
for seed in range(int(sys.argv[2])):
    outcome = make_outcome("rnn", "orthogonal", 10, 1000 * int(sys.argv[1]) + seed)
    record(store, outcome, source_hash="a" * 64, sweep="s")
"""
ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("writers", "runs"), [pytest.param(4, 10, marks=pytest.mark.sample), pytest.param(8, 50, marks=pytest.mark.faults)]
)
def test_many_writers_on_a_store_that_does_not_exist_yet(writers: int, runs: int, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(writer), str(runs)],
            cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True,
        )
        for writer in range(writers)
    ]  # fmt: skip
    for process in started:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    found = Store(root=tmp_path).runs("study")
    assert len(found) == len(set(found["fingerprint"])) == writers * runs
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT DISTINCT status FROM runs").fetchall() == [("FINISHED",)]


def outcomes(count: int) -> list[Outcome]:
    return [make_outcome("gru", "chrono", 20, seed) for seed in range(count)]


def recorded_through(store: Store, meanwhile: Callable[[], None], runs: list[Outcome]) -> float:
    """Record runs one by one, `meanwhile` somewhere in between; the longest time that the training side waited."""
    recorder = Recorder(store, ["study"], lambda run: None)
    recorder.start()
    longest = 0.0
    disturbance = threading.Thread(target=meanwhile)
    for index, outcome in enumerate(runs):
        if index == 1:
            disturbance.start()
            time.sleep(0.5)
        begun = time.perf_counter()
        recorder.put(Run(outcome.config, ("study", fingerprint_of(outcome)), "a" * 64, "", "", "s"), outcome)
        recorder.check()
        longest = max(longest, time.perf_counter() - begun)
    disturbance.join()
    recorder.close()
    assert recorder.unrecorded == []
    return longest


def check_complete(store: Store, runs: list[Outcome]) -> None:
    """Every run once, and not a point lost."""
    assert len(store.finished("study")) == len(runs)
    assert len(store.runs("study")) == len(runs)
    curves = store.curves()
    assert set(curves["fingerprint"]) == {fingerprint_of(outcome) for outcome in runs}
    assert len(curves) == sum(len(outcome.curves) for outcome in runs)


@pytest.mark.slow
@pytest.mark.parametrize(
    "seconds", [pytest.param(3, marks=pytest.mark.sample), pytest.param(60, marks=pytest.mark.faults)]
)
def test_a_store_locked_by_somebody_else(seconds: float, template: Path, tmp_path: Path) -> None:
    store = copy_store(template, tmp_path)
    store.experiment("study")

    def lock() -> None:
        with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            time.sleep(seconds)
            connection.execute("ROLLBACK")

    runs = outcomes(6)
    longest = recorded_through(store, lock, runs)
    assert longest < 1.0
    check_complete(store, runs)
    print(f"locked for {seconds} s: {len(runs)} of {len(runs)} runs recorded, training waited {1000 * longest:.1f} ms")


@pytest.fixture
def server(template: Path, tmp_path: Path) -> Iterator[Server]:
    shutil.copy(template, tmp_path / "server.db")
    made = Server(tmp_path, f"sqlite:///{tmp_path / 'server.db'}")
    made.start()
    yield made
    made.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    "seconds", [pytest.param(3, marks=pytest.mark.sample), pytest.param(30, marks=pytest.mark.faults)]
)
def test_a_server_that_is_stopped_and_started(seconds: float, server: Server, tmp_path: Path) -> None:
    store = Store(server.uri, root=tmp_path)
    store.experiment("study")

    def outage() -> None:
        server.stop()
        time.sleep(seconds)
        server.start()

    runs = outcomes(4)
    longest = recorded_through(store, outage, runs)
    assert longest < 1.0
    check_complete(store, runs)
    print(f"stopped for {seconds} s: {len(runs)} of {len(runs)} runs recorded, training waited {1000 * longest:.1f} ms")
