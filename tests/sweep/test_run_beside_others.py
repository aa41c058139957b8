"""A sweep beside others: it leaves their runs to them, waits, and takes over what the dead have left."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.sweep.stand_ins import FakeStore, config, outcome, trained

from goldfish.config.config import Config
from goldfish.sweep.claims import Claims
from goldfish.sweep.identity import fingerprint
from goldfish.sweep.progress import Report
from goldfish.sweep.run import Rerun, run_sweep
from goldfish.tracking import views
from goldfish.training.state import checkpoint
from goldfish.training.state.checkpoint import Checkpointing

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers import the stand-in of a trainer as a module of its own; the stand-in of a store has no UI."""
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(views, "prepare_views", lambda store, name: None)


def claimed_elsewhere(store: FakeStore, seed: int, log: Path) -> Claims:
    """Another one, by the look of it, that trains the run of this seed."""
    claims = Claims(store.state / "claims")
    claims.take([claims.of((str(log), fingerprint(config(seed, log))), f"seed={seed}", "study")])
    return claims


def die(claims: Claims) -> None:
    """What the kernel does for a process that ends."""
    assert claims._life is not None
    claims._life.release()


def once_trained(log: Path, runs: int, *steps: Callable[[], object]) -> threading.Thread:
    """Wait in the background until so many runs were trained, and take some steps."""

    def wait() -> None:
        deadline = time.monotonic() + 30
        while len(trained(log)) < runs and time.monotonic() < deadline:
            time.sleep(0.05)
        for step in steps:
            step()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def sweep(configs: list[Config], store: FakeStore, stream: io.StringIO | None = None, **options: Any) -> Report:
    return run_sweep(
        configs, store=store, workers=1, trainer="stand_ins:train", stream=stream or io.StringIO(), **options
    )


def test_what_a_dead_process_has_claimed_is_taken_over(tmp_path: Path) -> None:
    store, log, shown = FakeStore(), tmp_path / "log", io.StringIO()
    other = claimed_elsewhere(store, 1, log)
    configs = [config(seed, log) for seed in range(3)]
    thread = once_trained(log, 2, lambda: time.sleep(0.5), lambda: die(other))
    report = sweep(configs, store, shown)
    thread.join()
    assert (report.done, report.skipped, store.seeds()) == (3, 0, [0, 1, 2])
    assert [(seed, packed) for seed, packed, _ in trained(log)] == [(0, 2), (2, 2), (1, 1)]
    assert f"1 run is trained by process {os.getpid()}" in shown.getvalue()
    ((seed, reason),) = store.interrupted
    assert seed == 1
    assert reason.startswith(f"process {os.getpid()} on ")
    assert fingerprint(configs[1]) in store.superseded
    assert Claims(store.state / "claims").all() == []


def test_what_was_killed_after_recording_leaves_nothing(tmp_path: Path) -> None:
    store, log = FakeStore(), tmp_path / "log"
    configs = [config(seed, log) for seed in range(2)]
    assert sweep(configs, store).done == 2
    alive = claimed_elsewhere(store, 1, log)
    for seed in (0, 5):  # the latter is of another sweep, and not recorded
        die(claimed_elsewhere(store, seed, log))
    names = tuple(f"{log}/{fingerprint(item)}" for item in configs)
    checkpoint.save(Checkpointing(store.state / "checkpoints", names, 1, None), configs, "torch", 1, {})
    assert sweep(configs, store).done == 0
    assert {item.label for item in alive.all()} == {"seed=1", "seed=5"}
    assert list((store.state / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("rerun", ["missing", "all"])
def test_what_another_process_records_meanwhile_is_not_trained_again(rerun: Rerun, tmp_path: Path) -> None:
    store, log = FakeStore(), tmp_path / "log"
    configs = [config(seed, log) for seed in range(3)]
    if rerun == "all":
        sweep(configs, store)
    before = len(trained(log))
    other = claimed_elsewhere(store, 1, log)
    identity = {"experiment_name": str(log), "fingerprint": fingerprint(configs[1]), "source_hash": "", "sweep": ""}
    store.prepare()
    thread = once_trained(log, before + 2, lambda: store.record(outcome(configs[1]), **identity), other.close)
    report = sweep(configs, store, rerun=rerun)
    thread.join()
    assert (report.done, report.skipped) == (2, 1)
    assert sorted(seed for seed, *_ in trained(log)[before:]) == [0, 2]
    assert store.interrupted == []
