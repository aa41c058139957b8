"""Through MLflow's client, too, a record is whole, once, whatever breaks off and whoever else records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.tracking.outcomes import DATA, fingerprint_of, make_outcome, record

from goldfish.tracking import client, names, sql
from goldfish.tracking.run import Run
from goldfish.tracking.store import Store
from goldfish.training.outcome import Outcome

CALLS = ("search_runs", "create_run", "log_batch", "log_inputs", "log_artifacts", "set_terminated", "set_tag")


@pytest.fixture(autouse=True)
def through_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "REVISION", "another")


def active(store: Store) -> list[Any]:
    return list(store.client.search_runs([store.experiment("study")]))


def check_whole(store: Store, outcome: Outcome) -> str:
    """One run, and nothing of it twice."""
    (run,) = active(store)
    assert (run.info.status, run.data.tags[names.OUTCOME]) == ("FINISHED", outcome.verdict)
    assert list(store.finished("study")) == [fingerprint_of(outcome)]
    assert len(store.curves()) == len(outcome.curves)
    for name in run.data.metrics:
        steps = [point.step for point in store.client.get_metric_history(run.info.run_id, name)]
        assert len(steps) == len(set(steps)), name
    assert len(run.inputs.dataset_inputs) == 1
    assert {item.path for item in store.client.list_artifacts(run.info.run_id)} >= {"config.yaml", "curves.parquet"}
    return str(run.info.run_id)


@pytest.mark.parametrize("lost", [False, True], ids=["fails", "loses its answer"])
@pytest.mark.parametrize("broken", CALLS)
def test_a_record_that_breaks_off_is_gone_on_with(
    store: Store, monkeypatch: pytest.MonkeyPatch, broken: str, lost: bool
) -> None:
    outcome = make_outcome()
    whole = getattr(type(store.client), broken)

    def fail(self: Any, *arguments: Any, **named: Any) -> None:
        if lost:
            whole(self, *arguments, **named)
        raise OSError("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(type(store.client), broken, fail)
        with pytest.raises(OSError, match="connection reset"):
            record(store, outcome, dataset=DATA)
    runs = active(store)
    assert {run.info.status for run in runs} <= {"KILLED", "RUNNING"}  # or "FINISHED" would look like a result
    assert store.finished("study") == {}
    run_id = record(store, outcome, dataset=DATA)
    assert check_whole(store, outcome) == run_id
    assert [run.info.run_id for run in runs] in ([], [run_id])


def other(outcome: Outcome, after: float) -> Outcome:
    """The same run, trained by somebody else, who began so many seconds later."""
    return replace(outcome, started=outcome.started + after)


@pytest.mark.parametrize("after", [-1000.0, 0.01, 1000.0])
def test_of_two_processes_that_train_the_same_run_one_records_it(store: Store, after: float) -> None:
    outcome = make_outcome()
    first = record(store, outcome, dataset=DATA)
    assert record(store, other(outcome, after), dataset=DATA) == first
    assert check_whole(store, outcome) == first


@pytest.mark.parametrize("first_sees", [False, True])
def test_two_that_record_at_the_same_moment_agree_who_goes(
    store: Store, monkeypatch: pytest.MonkeyPatch, first_sees: bool
) -> None:
    """Neither sees the other's record before its own is whole; in the end the second does, or both do."""
    outcome, attempts = make_outcome(), client._attempts
    blind = [True, True, True, False]
    monkeypatch.setattr(client, "_attempts", lambda *given: [] if blind.pop(0) else attempts(*given))
    for after in (0, 0.01):
        record(store, other(outcome, after), dataset=DATA)
    monkeypatch.undo()
    monkeypatch.setattr(sql, "REVISION", "another")
    stays = check_whole(store, outcome)
    if first_sees:
        assert record(store, outcome, dataset=DATA) == stays
        assert check_whole(store, outcome) == stays


def test_a_run_that_is_repeated_is_recorded_anew(store: Store) -> None:
    outcome = make_outcome()
    ended = outcome.seconds * outcome.packed
    again = other(outcome, ended + 2)
    assert record(store, outcome) != record(store, again, since=outcome.started + ended + 1)
    assert [run.info.status for run in active(store)] == ["FINISHED"] * 2


def test_what_is_recorded_while_it_is_taken_for_dead_stays(store: Store) -> None:
    """A sweep in another folder knows nothing of our claim: it sees a run that goes on, and we finish it just then."""
    outcome = make_outcome()
    seen = store.client.create_run(
        store.experiment("study"),
        start_time=round(outcome.started * 1000),
        tags={names.FINGERPRINT: fingerprint_of(outcome)},
    )
    record(store, outcome, dataset=DATA)
    before = Run(seen.info.run_id, "study", "RUNNING", seen.info.run_name, outcome.started, tags=dict(seen.data.tags))
    assert client.supersede(store.client, [before]) == 1
    run = store.client.get_run(seen.info.run_id)
    assert names.SUPERSEDED not in run.data.tags
    assert check_whole(store, outcome) == seen.info.run_id
