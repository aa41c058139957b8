"""The recorder: a store that is away for a while, or until the end, loses nothing and stops nobody."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from goldfish.config.config import resolve
from goldfish.sweep import recorder as module
from goldfish.sweep.packs import Run
from goldfish.sweep.recorder import Recorder, replay
from goldfish.tracking import spool
from goldfish.training.outcome import Outcome, Point


class Away:
    """A store in memory that is away at will, and whose every call is written down."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.away = False
        self.refused: set[int] = set()
        self.attempts = 0
        self.records: list[SimpleNamespace] = []
        self.notes: list[tuple[str, Any]] = []

    def exists(self) -> bool:
        return True

    def check(self) -> None:
        pass

    def prepare(self) -> None:
        pass

    def experiment(self, name: str) -> str:
        return name

    def finished(self, experiment_name: str, fingerprints: Iterable[str] | None = None) -> dict[str, Any]:
        rows = [row for row in self.records if row.experiment_name == experiment_name]
        return {row.fingerprint: SimpleNamespace(started=row.outcome.started) for row in rows}

    def record(self, outcome: Outcome, **details: Any) -> str:
        self.attempts += 1
        if outcome.config["seed"] in self.refused:
            raise ValueError("MLflow's steps are whole numbers")
        if self.away:
            raise OSError("connection refused")
        self.records.append(SimpleNamespace(outcome=outcome, **details))
        return "id"

    def record_interrupted(self, config: Any, **details: Any) -> str:
        self.notes.append(("interrupted", details["reason"]))
        return "id"

    def supersede(self, experiment_name: str, fingerprints: Iterable[str]) -> int:
        self.notes.append((experiment_name, list(fingerprints)))
        return 0


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Away:
    monkeypatch.setattr(module, "_DELAYS", (0.01, 0.02))
    monkeypatch.setattr(Recorder, "_prepare_views", lambda self: None)
    return Away(tmp_path / "state")


def key(seed: int) -> tuple[str, str]:
    return "study", f"{seed:064x}"


def outcome(seed: int) -> Outcome:
    return Outcome(resolve({"seed": seed}), "solved", curves=[Point("val/loss", "training", 1.0, 0.5)], started=17.25)


def run(seed: int, experiment: str = "study") -> Run:
    return Run(resolve({"seed": seed}), (experiment, key(seed)[1]), "a" * 64, "", f"seed={seed}", "s")


def recorder(store: Away, safe: list[Run] | None = None) -> Recorder:
    kept: list[Run] = [] if safe is None else safe
    made = Recorder(cast(Any, store), ["study"], kept.append)
    made.start()
    return made


def wait_on_disk(store: Away, *seeds: int) -> None:
    for seed in seeds:
        spool.put(store.state, spool.About(*key(seed), "s", "a" * 64, {}), outcome(seed))


def seeds(store: Away) -> list[int]:
    return sorted(row.outcome.config["seed"] for row in store.records)


def until(true: Any) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_store_that_comes_back_gets_everything_while_training_goes_on(store: Away) -> None:
    safe: list[Run] = []
    made = recorder(store, safe)
    store.away = True
    for seed in range(5):
        made.put(run(seed), outcome(seed))
    until(lambda: store.attempts >= 8)  # it does not wait to be closed
    assert safe == []
    store.away = False
    until(lambda: len(safe) == 5)
    made.put(run(5), outcome(5))
    made.close()
    assert seeds(store) == list(range(6))
    assert made.unrecorded == []
    assert not spool.waiting(store.state)


def test_what_is_left_at_the_end_waits_on_the_disk_and_the_next_sweep_records_it_once(store: Away) -> None:
    safe: list[Run] = []
    made = recorder(store, safe)
    made.put(run(0), outcome(0))
    until(lambda: safe)
    store.away = True
    made.put(run(1), outcome(1))
    made.put(run(2), outcome(2))
    made.close(patience=0.05)
    assert sorted(item.label for item, _ in made.unrecorded) == ["seed=1", "seed=2"]
    assert all("waits in" in reason for _, reason in made.unrecorded)
    assert set(spool.keys(store.state)) == {key(1), key(2)}
    assert len(safe) == 3  # also what waits is safe
    store.away = False
    assert replay(cast(Any, store)) == ["2 outcomes that had waited are recorded now"]
    assert seeds(store) == [0, 1, 2]
    assert store.records[-1].sweep == "s"
    assert store.records[-1].outcome.curves == outcome(1).curves  # the same in both
    assert not spool.waiting(store.state)


def test_killed_between_recording_and_removing_it_is_not_recorded_twice(store: Away) -> None:
    wait_on_disk(store, 3)
    store.records.append(SimpleNamespace(outcome=outcome(3), experiment_name="study", fingerprint=key(3)[1]))
    assert replay(cast(Any, store)) == ["1 outcome that had waited is recorded now"]
    assert seeds(store) == [3]
    assert not spool.waiting(store.state)


def test_a_damaged_file_is_set_aside_and_stops_nothing(store: Away) -> None:
    wait_on_disk(store, 1, 3)
    path = spool.waiting(store.state)[0]
    path.write_bytes(path.read_bytes()[:-1])
    told, line = replay(cast(Any, store))
    assert told == "1 outcome that had waited is recorded now"
    assert len(seeds(store)) == 1
    assert line.startswith(f"{spool.damaged(store.state)[0]}: ")
    assert line.endswith("; its run is trained again")
    assert spool.waiting(store.state) == []
    assert set(spool.keys(store.state)) == set()  # the run is trained again


def test_a_store_that_is_away_is_not_asked_for_every_outcome(store: Away) -> None:
    wait_on_disk(store, *range(5))
    store.away = True
    (line,) = replay(cast(Any, store))
    assert store.attempts == 2
    assert line.startswith(f"5 outcomes wait in {store.state / 'spool'} to be recorded: OSError: connection refused")
    store.away = False
    assert replay(cast(Any, store)) == ["5 outcomes that had waited are recorded now"]
    assert seeds(store) == list(range(5))


def test_a_record_that_is_wrong_itself_is_not_tried_again(store: Away) -> None:
    store.refused = {1}
    made = recorder(store)
    for seed in range(3):
        made.put(run(seed), outcome(seed))
    made.close()
    assert seeds(store) == [0, 2]
    assert store.attempts == 3
    ((item, reason),) = made.unrecorded
    assert item.label == "seed=1"
    assert "whole numbers" in reason
    assert set(spool.keys(store.state)) == {key(1)}  # what was trained is not lost


def test_a_store_that_hangs_does_not_hold_the_end_up(store: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recorder(store)
    answers = store.record

    def hanging(outcome: Outcome, **details: Any) -> str:
        time.sleep(4)
        return answers(outcome, **details)

    monkeypatch.setattr(store, "record", hanging)
    made.put(run(0), outcome(0))
    made.put(run(1), outcome(1))
    until(lambda: made._queue.qsize() <= 1)
    made.close(patience=0.2)
    assert set(spool.keys(store.state)) == {key(0), key(1)}
    assert all("does not answer" in reason for _, reason in made.unrecorded)


def test_attempts_that_were_broken_off_are_told_in_order(store: Away) -> None:
    made = recorder(store)
    made.supersede([run(1), run(2), run(3, "other")])
    made.interrupted(run(4), "SIGTERM at step 7", 1.0)
    made.close()
    prints = [key(seed)[1] for seed in (1, 2, 3)]
    assert store.notes == [("study", prints[:2]), ("other", prints[2:]), ("interrupted", "SIGTERM at step 7")]


def test_a_store_that_cannot_be_made_is_told_at_once(store: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise PermissionError("mlflow.db")

    monkeypatch.setattr(store, "prepare", broken)
    made = recorder(store)
    with pytest.raises(PermissionError):
        made.close(patience=5)


def test_experiments_whose_names_make_one_slug_are_kept_apart(store: Away) -> None:
    for name in ("a b", "a-b"):
        spool.put(store.state, spool.About(name, "f" * 64, "s", "a" * 64, {}), outcome(1))
    assert set(spool.keys(store.state)) == {("a b", "f" * 64), ("a-b", "f" * 64)}
