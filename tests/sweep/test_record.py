"""The recorder: a store that is away for a while, or until the end, loses nothing and stops nobody."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from goldfish.config.config import resolve
from goldfish.sweep import record
from goldfish.sweep.record import Entry, Interruption, Recorder
from goldfish.sweep.replay import replay
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
    monkeypatch.setattr(record, "_DELAYS", (0.01, 0.02))
    monkeypatch.setattr(Recorder, "_prepare_views", lambda self: None)
    return Away(tmp_path / "state")


def entry(seed: int) -> Entry:
    outcome = Outcome(
        resolve({"seed": seed}), "solved", curves=[Point("val/loss", "training", 1.0, 0.5)], started=17.25
    )
    return Entry(outcome, "study", f"{seed:064x}", "a" * 64)


def recorder(store: Away, safe: list[str] | None = None) -> Recorder:
    kept: list[str] = [] if safe is None else safe
    made = Recorder(store, sweep="s", experiments=["study"], recorded=lambda key: kept.append(key[1]))
    made.start()
    return made


def seeds(store: Away) -> list[int]:
    return sorted(row.outcome.config["seed"] for row in store.records)


def until(true: Any) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_store_that_comes_back_gets_everything_while_training_goes_on(store: Away) -> None:
    safe: list[str] = []
    made = recorder(store, safe)
    store.away = True
    for seed in range(5):
        made.put(entry(seed))
    until(lambda: store.attempts >= 8)  # it does not wait to be closed
    assert safe == []
    store.away = False
    until(lambda: len(safe) == 5)
    made.put(entry(5))
    made.close()
    assert seeds(store) == list(range(6))
    assert made.unrecorded == []
    assert not spool.waiting(store.state)


def test_what_is_left_at_the_end_waits_on_the_disk_and_the_next_sweep_records_it_once(store: Away) -> None:
    safe: list[str] = []
    made = recorder(store, safe)
    made.put(entry(0))
    until(lambda: safe)
    store.away = True
    made.put(entry(1))
    made.put(entry(2))
    made.close(patience=0.05)
    assert sorted(item.outcome.config["seed"] for item, _ in made.unrecorded) == [1, 2]
    assert all("waits in" in reason for _, reason in made.unrecorded)
    assert set(spool.keys(store.state)) == {entry(1).key, entry(2).key}
    assert len(safe) == 3  # also what waits is safe
    store.away = False
    again = replay(cast(Any, store))
    assert sorted(again.recorded) == [entry(1).key, entry(2).key]
    assert again.lines() == ["2 outcomes that had waited are recorded now"]
    assert seeds(store) == [0, 1, 2]
    assert store.records[-1].sweep == "s"
    assert store.records[-1].outcome.curves == entry(1).outcome.curves  # the same in both
    assert not spool.waiting(store.state)


def test_killed_between_recording_and_removing_it_is_not_recorded_twice(store: Away) -> None:
    about = spool.About("study", entry(3).fingerprint, "s", "a" * 64, {})
    spool.put(store.state, about, entry(3).outcome)
    store.records.append(
        SimpleNamespace(outcome=entry(3).outcome, experiment_name="study", fingerprint=about.fingerprint)
    )
    assert replay(cast(Any, store)).recorded == [entry(3).key]
    assert seeds(store) == [3]
    assert not spool.waiting(store.state)


def test_a_damaged_file_is_set_aside_and_stops_nothing(store: Away) -> None:
    for seed in (1, 3):
        spool.put(store.state, spool.About("study", entry(seed).fingerprint, "s", "a" * 64, {}), entry(seed).outcome)
    path = spool.waiting(store.state)[0]
    path.write_bytes(path.read_bytes()[:-1])
    found = replay(cast(Any, store))
    assert len(found.recorded) == len(seeds(store)) == 1
    assert found.waiting == {}
    (line,) = found.damaged
    assert line.startswith(f"{spool.damaged(store.state)[0]}: ")
    assert set(spool.keys(store.state)) == set()  # the run is trained again


def test_a_store_that_is_away_is_not_asked_for_every_outcome(store: Away) -> None:
    for seed in range(5):
        spool.put(store.state, spool.About("study", entry(seed).fingerprint, "s", "a" * 64, {}), entry(seed).outcome)
    store.away = True
    found = replay(cast(Any, store))
    assert (len(found.waiting), store.attempts) == (5, 2)
    (line,) = found.lines()
    assert line.startswith(f"5 outcomes wait in {store.state / 'spool'} to be recorded: OSError: connection refused")
    store.away = False
    assert len(replay(cast(Any, store)).recorded) == 5
    assert seeds(store) == list(range(5))


def test_a_record_that_is_wrong_itself_is_not_tried_again(store: Away) -> None:
    store.refused = {1}
    made = recorder(store)
    for seed in range(3):
        made.put(entry(seed))
    made.close()
    assert seeds(store) == [0, 2]
    assert store.attempts == 3
    ((item, reason),) = made.unrecorded
    assert item.outcome.config["seed"] == 1
    assert "whole numbers" in reason
    assert set(spool.keys(store.state)) == {entry(1).key}  # what was trained is not lost


def test_a_store_that_hangs_does_not_hold_the_end_up(store: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recorder(store)
    answers = store.record

    def hanging(outcome: Outcome, **details: Any) -> str:
        time.sleep(4)
        return answers(outcome, **details)

    monkeypatch.setattr(store, "record", hanging)
    made.put(entry(0))
    made.put(entry(1))
    until(lambda: made._queue.qsize() <= 1)
    made.close(patience=0.2)
    assert set(spool.keys(store.state)) == {entry(0).key, entry(1).key}
    assert all("does not answer" in reason for _, reason in made.unrecorded)


def test_attempts_that_were_broken_off_are_told_in_order(store: Away) -> None:
    made = recorder(store)
    made.supersede([("study", "f1"), ("study", "f2"), ("other", "f3")])
    made.put_interrupted(Interruption(resolve({}), "study", "f4", "a" * 64, "SIGTERM at step 7", 1.0))
    made.close()
    assert store.notes == [("study", ["f1", "f2"]), ("other", ["f3"]), ("interrupted", "SIGTERM at step 7")]


def test_a_store_that_cannot_be_made_is_told_at_once(store: Away, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise PermissionError("mlflow.db")

    monkeypatch.setattr(store, "prepare", broken)
    made = recorder(store)
    with pytest.raises(PermissionError):
        made.close(patience=5)


def test_experiments_whose_names_make_one_slug_are_kept_apart(store: Away) -> None:
    for name in ("a b", "a-b"):
        spool.put(store.state, spool.About(name, "f" * 64, "s", "a" * 64, {}), entry(1).outcome)
    assert set(spool.keys(store.state)) == {("a b", "f" * 64), ("a-b", "f" * 64)}
