"""A sweep beside others: it leaves their runs to them, waits, and takes over what the dead have left."""

from __future__ import annotations

import io
import json
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tests.sweep.stand_ins import FakeStore, config, outcome, trained

from goldfish.sweep import claims
from goldfish.sweep.claims import Claims
from goldfish.sweep.fingerprint import fingerprint
from goldfish.sweep.run import run_sweep
from goldfish.sweep.workload import Rerun
from goldfish.tracking import views
from goldfish.training.outcome import loads
from goldfish.training.state import checkpoint
from goldfish.training.state.checkpoint import Checkpointing

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers import the stand-in of a trainer as a module of its own; the stand-in of a store has no UI."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(views, "prepare_views", lambda store, name: None)


def claimed_elsewhere(store: FakeStore, seed: int, log: Path, seconds: float) -> subprocess.Popen[bytes]:
    """A process of so many seconds, by the look of it one that trains the run of this seed."""
    process = subprocess.Popen(["sleep", str(seconds)])
    item = claims.claim((str(log), fingerprint(config(seed, log))), f"seed={seed}", "study")
    start = claims._started(process.pid)
    assert start is not None
    Claims(store.state / "claims").take([item._replace(pid=process.pid, process_start=start)])
    return process


def test_what_a_dead_process_has_claimed_is_taken_over(tmp_path: Path) -> None:
    store, log, shown = FakeStore(), tmp_path / "log", io.StringIO()
    process = claimed_elsewhere(store, 1, log, 4)
    configs = [config(seed, log) for seed in range(3)]
    report = run_sweep(configs, store=store, workers=1, trainer="stand_ins:train", stream=shown)
    assert (report.done, report.skipped, store.seeds()) == (3, 0, [0, 1, 2])
    assert [(seed, packed) for seed, packed, _ in trained(log)] == [(0, 2), (2, 2), (1, 1)]
    assert f"1 run is trained by process {process.pid}" in shown.getvalue()
    ((seed, reason),) = store.interrupted
    assert seed == 1
    assert reason.startswith(f"process {process.pid} on ")
    assert fingerprint(configs[1]) in store.superseded
    assert Claims(store.state / "claims").all() == []
    process.wait()


def test_what_was_killed_after_recording_leaves_nothing(tmp_path: Path) -> None:
    store, log = FakeStore(), tmp_path / "log"
    configs = [config(seed, log) for seed in range(2)]

    def sweep() -> int:
        return run_sweep(configs, store=store, workers=1, trainer="stand_ins:train", stream=io.StringIO()).done

    assert sweep() == 2
    alive = claimed_elsewhere(store, 1, log, 60)
    for seed in (0, 5):  # the latter is of another sweep, and not recorded
        dead = claimed_elsewhere(store, seed, log, 60)
        dead.kill()
        dead.wait()
    names = tuple(f"{log}/{fingerprint(item)}" for item in configs)
    checkpoint.save(Checkpointing(store.state / "checkpoints", names, 1, None), configs, "torch", 1, {})
    assert sweep() == 0
    assert {item.label for item in Claims(store.state / "claims").all()} == {"seed=1", "seed=5"}
    assert list((store.state / "checkpoints").iterdir()) == []
    alive.kill()
    alive.wait()


@pytest.mark.parametrize("rerun", ["missing", "all"])
def test_what_another_process_records_meanwhile_is_not_trained_again(rerun: Rerun, tmp_path: Path) -> None:
    store, log = FakeStore(), tmp_path / "log"
    configs = [config(seed, log) for seed in range(3)]
    if rerun == "all":
        run_sweep(configs, store=store, workers=1, trainer="stand_ins:train", stream=io.StringIO())
    before = len(trained(log))
    process = claimed_elsewhere(store, 1, log, 60)

    def finish() -> None:
        deadline = time.monotonic() + 30
        while len(trained(log)) < before + 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        identity = {"experiment_name": str(log), "fingerprint": fingerprint(configs[1]), "source_hash": "", "sweep": ""}
        store.record(outcome(configs[1]), **identity)
        found = Claims(store.state / "claims")
        found.drop([item for item in found.all() if item.pid == process.pid])

    store.prepare()
    thread = threading.Thread(target=finish)
    thread.start()
    report = run_sweep(
        configs,
        store=store,
        workers=1,
        rerun=rerun,
        trainer="stand_ins:train",
        stream=io.StringIO(),
    )
    thread.join()
    process.kill()
    process.wait()
    assert (report.done, report.skipped) == (2, 1)
    assert sorted(seed for seed, *_ in trained(log)[before:]) == [0, 2]
    assert store.interrupted == []


def test_a_damaged_message_is_the_end_of_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is believed."""
    store, log = FakeStore(), tmp_path / "log"
    calls: list[str] = []

    def damaged(data: bytes) -> object:
        calls.append(json.dumps(len(data)))
        return loads(data if len(calls) > 1 else data[:-1] + b"?")

    monkeypatch.setattr("goldfish.sweep.workers.loads", damaged)
    configs = [config(seed, log) for seed in range(2)]
    report = run_sweep(configs, store=store, workers=1, trainer="stand_ins:train", stream=io.StringIO())
    assert (report.done, store.seeds()) == (2, [0, 1])
    assert [packed for _, packed, _ in trained(log)] == [2, 2, 1, 1]
