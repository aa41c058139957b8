"""A real MLflow server on PostgreSQL, with sweeps that record into it: whatever is stopped, every run is there once."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults import sweeps
from tests.faults.server import Database, Server, missing

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]
WEIGHTS = "weights.pt"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    made = Database()
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def server(place: Path, database: Database) -> Iterator[Server]:
    made = Server(place, database.uri)
    try:
        made.start()
        yield made
    finally:
        made.stop()


class Study:
    """An MLflow experiment on the server, a folder to sweep from, and what the database holds of it."""

    def __init__(self, name: str, folder: Path, database: Database, server: Server, settings: list[str]) -> None:
        self.name, self.folder, self.database, self.server = name, folder, database, server
        self.settings = [f"tracking.experiment_name={name}", *settings]

    def start(self, folder: Path | None = None, *, hasty: bool = False) -> subprocess.Popen[str]:
        """Begin the sweep."""
        return sweeps.start(folder or self.folder, *self.settings, uri=self.server.uri, hasty=hasty)

    def finish(self, code: int = 0) -> str:
        """Say the same command (again) until it ends; what it printed at last."""
        return self.end(self.start(), code)

    def end(self, process: subprocess.Popen[str], code: int = 0) -> str:
        """Wait for a sweep."""
        out, err = process.communicate(timeout=300)
        assert process.returncode == code, err
        assert "Traceback" not in err, err
        return out.strip().splitlines()[-1] if out.strip() else ""

    def statuses(self) -> Counter[str]:
        """How many MLflow runs have which status; a run that was deleted does not count."""
        rows = self.database.ask(
            "SELECT r.status, count(*) FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id "
            f"WHERE e.name = '{self.name}' AND r.lifecycle_stage = 'active' GROUP BY r.status"
        )
        return Counter(dict(rows))

    def until(self, finished: int) -> None:
        """Wait until so many runs are recorded."""
        end = time.monotonic() + 240
        while self.statuses()["FINISHED"] < finished:
            assert time.monotonic() < end, self.statuses()
            time.sleep(0.05)

    def check_whole(self) -> None:
        """Every run is FINISHED once, with all its points and files; nothing waits, and a repeat trains none."""
        found = self.statuses()
        print(f"{self.name}: {dict(found)}")
        assert found["FINISHED"] == sweeps.RUNS
        assert set(found) <= {"FINISHED", "KILLED"}  # KILLED: attempts that were broken off in training
        of = f"runs r JOIN experiments e ON e.experiment_id = r.experiment_id AND e.name = '{self.name}'"
        once = (
            "SELECT count(DISTINCT f.value), count(DISTINCT o.run_uuid) "
            f"FROM {of} JOIN tags f ON f.run_uuid = r.run_uuid AND f.key = 'goldfish.fingerprint' "
            "JOIN tags o ON o.run_uuid = r.run_uuid AND o.key = 'goldfish.outcome' "
            "WHERE r.status = 'FINISHED' AND r.lifecycle_stage = 'active'"
        )
        assert self.database.ask(once) == [(sweeps.RUNS, sweeps.RUNS)]
        points = f"SELECT count(*) FROM metrics m JOIN {of} ON r.run_uuid = m.run_uuid WHERE r.status = 'FINISHED' "
        each = self.database.ask(f"{points} AND r.lifecycle_stage = 'active' GROUP BY r.run_uuid, m.key, m.step")
        assert {count for (count,) in each} == {1}, "a point was recorded twice"
        weights = list((self.server.folder / "files").rglob(WEIGHTS))
        ids = {path.parts[-3] for path in weights}
        assert len(ids & {row for (row,) in self.database.ask(f"SELECT r.run_uuid FROM {of}")}) >= sweeps.RUNS
        assert not list(self.folder.rglob("*.outcome"))
        assert not list(self.folder.rglob("*.claim"))
        assert f"{sweeps.RUNS} runs: trained 0" in self.finish()
        assert self.statuses() == found


@pytest.fixture
def study(request: pytest.FixtureRequest, tmp_path: Path, database: Database, server: Server) -> Study:
    """A sweep of 24 runs that takes some seconds."""
    name = request.node.name.partition("[")[0].removeprefix("test_")
    return Study(name, tmp_path / "here", database, server, ["trainer.max_steps=240", "hydra.launcher.pack_size=3"])


def test_the_database_stops_in_mid_sweep(study: Study, database: Database) -> None:
    """What is trained meanwhile waits on the disk; the same command records it, and trains nothing again."""
    process = study.start(hasty=True)
    study.until(6)
    database.stop()
    try:
        study.end(process, code=1)
    finally:
        database.start()
    waiting = len(list(study.folder.rglob("*.outcome")))
    print(f"{dict(study.statuses())} in the store, {waiting} in the spool")
    assert waiting > 0
    told = study.finish()
    assert f"{sweeps.RUNS} runs: trained 0 " in told
    assert f", {sweeps.RUNS} recorded already" in told
    study.check_whole()


@pytest.mark.faults
def test_the_server_is_killed_in_mid_sweep_and_comes_back(study: Study, server: Server) -> None:
    process = study.start()
    study.until(6)
    server.stop()
    time.sleep(5)
    server.start()
    assert f"trained {sweeps.RUNS} " in study.end(process)
    study.check_whole()


@pytest.mark.faults
def test_the_sweep_is_killed_in_mid_record(study: Study) -> None:
    for recorded in (3, 9, 15):
        process = study.start()
        study.until(recorded)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    study.finish()
    study.check_whole()


@pytest.mark.faults
def test_two_sweeps_at_once(study: Study) -> None:
    processes = [study.start(), study.start()]
    for process in processes:
        study.end(process)
    study.check_whole()


@pytest.mark.faults
def test_two_sweeps_at_once_that_know_nothing_of_each_other(study: Study, tmp_path: Path) -> None:
    """As on two machines: claims lie in the working folder. Runs may be trained twice, and are recorded once."""
    processes = [study.start(), study.start(tmp_path / "there")]
    for process in processes:
        study.end(process)
    study.check_whole()
