"""Attempts that came to nothing: KILLED in MLflow, in no table, marked once they are made again."""

from __future__ import annotations

import pytest
from tests.tracking.outcomes import fingerprint_of, make_outcome, record

from goldfish.tracking import names, sql
from goldfish.tracking.store import Store


def interrupt(store: Store, seed: int, reason: str = "SIGTERM at step 12") -> str:
    outcome = make_outcome(seed=seed)
    return store.record_interrupted(
        outcome.config,
        experiment_name="study",
        sweep="first",
        fingerprint=fingerprint_of(outcome),
        source_hash="a" * 64,
        provenance={},
        reason=reason,
        started=outcome.started,
    )


@pytest.mark.parametrize("through_the_client", [False, True])
def test_an_interrupted_attempt_is_killed_and_in_no_table(
    store: Store, monkeypatch: pytest.MonkeyPatch, through_the_client: bool
) -> None:
    if through_the_client:
        monkeypatch.setattr(sql, "REVISION", "unknown")
    run = store.client.get_run(interrupt(store, 1))
    assert run.info.status == "KILLED"
    assert run.data.tags[names.INTERRUPTED] == "SIGTERM at step 12"
    assert names.OUTCOME not in run.data.tags
    assert run.data.params["cell"] == "lstm"
    assert store.runs("study").empty
    assert store.finished("study") == {}


def test_what_is_made_again_is_marked_and_nothing_else(store: Store) -> None:
    first, second, other = interrupt(store, 1), interrupt(store, 1), interrupt(store, 2)
    done = record(store, make_outcome(seed=1), source_hash="a" * 64, sweep="first")
    tags = {names.FINGERPRINT: fingerprint_of(make_outcome(seed=1))}
    hanging = store.client.create_run(store.experiment("study"), tags=tags).info.run_id
    assert store.supersede("study", tags.values()) == 3
    for run_id in (first, second, hanging):
        run = store.client.get_run(run_id)
        assert (run.info.status, run.data.tags.get(names.SUPERSEDED)) == ("KILLED", "true")
        assert run.info.end_time is not None
    for run_id, status in ((other, "KILLED"), (done, "FINISHED")):
        run = store.client.get_run(run_id)
        assert (run.info.status, names.SUPERSEDED in run.data.tags) == (status, False)
    assert store.supersede("study", tags.values()) == 0


def test_the_state_lies_beside_the_store(store: Store, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert store.path is not None
    assert store.state == store.path.parent / "mlruns" / ".goldfish"
    server = Store("http://127.0.0.1:1", root=tmp_path_factory.mktemp("elsewhere"))
    another = Store("http://127.0.0.1:2", root=server.state.parents[2])
    assert server.state.parent == another.state.parent
    assert server.state != another.state
