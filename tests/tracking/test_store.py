"""What is recorded comes back exactly, whichever way the store is read."""

from __future__ import annotations

import math
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from tests.tracking.outcomes import fingerprint_of, make_outcome, record

from goldfish.config.settings import Tracking
from goldfish.errors import ConfigError
from goldfish.tracking import names, sql
from goldfish.tracking.client import ClientReader
from goldfish.tracking.store import Store
from goldfish.training.outcome import Point, Verdict

FRAME = ["fingerprint", "quantity", "phase", "x", "value"]


def points_of(frame: pd.DataFrame) -> set[tuple]:
    return {
        tuple(row)
        for row in frame[FRAME[1:]].astype(object).where(frame[FRAME[1:]].notna(), None).itertuples(index=False)
    }


def test_parameters_metrics_and_curves_come_back(store: Store):
    outcome = make_outcome("lstm", "chrono", 40, 1)
    run_id = record(store, outcome, source_hash="a" * 64, sweep="first")
    (row,) = store.runs("study").to_dict("records")
    assert row["run_id"] == run_id
    assert row["fingerprint"] == fingerprint_of(outcome)
    assert (row["outcome"], row["reason"], row["status"]) == ("solved", "", "FINISHED")
    assert (row["sweep"], row["source_hash"], row["experiment_name"]) == ("first", "a" * 64, "study")
    assert row["started"].timestamp() == outcome.started
    for key, value in names.flatten(outcome.config).items():
        assert row[key] == value or (value is None and pd.isna(row[key])), key
    for key, value in outcome.metrics.items():
        assert row[key] == value, key
    assert (row["parameters"], row["steps"], row["seconds"], row["packed"]) == (1672, 600, 0.75, 16)
    curves = store.curves([run_id])
    assert list(curves.columns) == FRAME
    assert set(curves["fingerprint"]) == {fingerprint_of(outcome)}
    assert points_of(curves) == {tuple(point) for point in outcome.curves}
    assert len(curves) == len(outcome.curves)


def test_infinity_and_nan_come_back_as_they_were(store: Store):
    outcome = make_outcome()
    outcome.curves = [
        Point("gradient/log10_norm_by_lag", "after", 0, -1.0),
        Point("gradient/log10_norm_by_lag", "after", 1, -math.inf),
        Point("gradient/log10_norm_by_lag", "after", 2, math.nan),
        Point("train/loss", "training", 50, math.inf),
        Point("train/loss", "training", 100, math.nan),
    ]
    outcome.metrics = {
        "test/loss": math.nan,
        "test/worst": math.inf,
        "gradient/lowest": -math.inf,
        "test/largest": 1.7e308,
    }
    record(store, outcome)
    curves = store.curves()
    assert curves["value"].tolist()[:2] == [-1.0, -math.inf]
    assert math.isnan(curves["value"].tolist()[2])
    assert curves["value"].tolist()[3] == math.inf
    assert math.isnan(curves["value"].tolist()[4])
    (row,) = store.runs().to_dict("records")
    assert math.isnan(row["test/loss"])
    assert math.isnan(row["train/loss"])
    assert (row["test/worst"], row["gradient/lowest"], row["test/largest"]) == (math.inf, -math.inf, 1.7e308)


def read(store: Store) -> tuple[Any, ...]:
    """Everything that a store tells."""
    finished = {key: (run.run_id, run.outcome, run.started) for key, run in store.finished("study").items()}
    attempts = [(run.key, run.settings, run.status, run.tags[names.SWEEP]) for run in store.attempts()]
    return store.runs(), store.runs("study"), store.curves(), store.experiments(), finished, attempts


def test_reading_by_sql_equals_reading_through_mlflow(store: Store, monkeypatch: pytest.MonkeyPatch):
    verdicts: list[Verdict | None] = [None, "diverged", "failed", "unsolved"]
    for seed, verdict in enumerate(verdicts):
        for cell, init in (("rnn", "orthogonal"), ("gru", "chrono")):
            outcome = make_outcome(
                cell, init, 20, seed, verdict=verdict, reason="why" if seed else "", started=1e9 + seed
            )
            if verdict == "diverged":
                outcome.curves.append(Point("train/loss", "training", 650, math.nan))
                outcome.metrics["test/loss"] = -math.inf
            record(store, outcome)
    record(store, make_outcome(length=10, experiment_name="other", started=2e9))
    by_sql = read(store)
    monkeypatch.setattr(Store, "_reader", lambda self: ClientReader(self.client))
    through_mlflow = read(store)
    for left, right in zip(by_sql[:3], through_mlflow[:3], strict=True):
        pd.testing.assert_frame_equal(left, right)
    assert by_sql[3:] == through_mlflow[3:]
    assert len(by_sql[0]) == 9
    assert list(by_sql[3]) == ["other", "study", "Default"]


def test_columns_missing_for_some_runs_keep_whole_numbers_whole(store: Store):
    record(store, make_outcome(symbols=8))
    digits = make_outcome(seed=1)
    digits.config |= {"task": {"name": "digits", "length": 64}}
    record(store, digits)
    frame = store.runs()
    assert frame["task.symbols"].tolist() == [8, pd.NA]
    assert frame["task.length"].tolist() == [40, 64]


def test_finished_runs_are_results_and_nothing_else(store: Store):
    results: list[Verdict] = ["solved", "unsolved", "diverged"]
    kept = {verdict: make_outcome(seed=seed, verdict=verdict) for seed, verdict in enumerate(results)}
    for outcome in kept.values():
        record(store, outcome)
    record(store, make_outcome(seed=7, verdict="failed", reason="out of memory"))
    record(store, make_outcome(seed=8, experiment_name="other"))
    found = store.finished("study")
    assert {row.outcome: row.fingerprint for row in found.values()} == {k: fingerprint_of(o) for k, o in kept.items()}
    assert {row.source_hash for row in found.values()} == {"5" * 64}
    wanted = fingerprint_of(kept["diverged"])
    assert list(store.finished("study", [wanted, "0" * 64])) == [wanted]
    assert store.finished("study", []) == {}
    assert store.finished("nothing") == {}


def test_of_two_runs_with_one_fingerprint_the_newer_counts(store: Store):
    record(store, make_outcome(started=1e9), source_hash="old")
    newer = record(store, make_outcome(started=1.1e9), source_hash="new")
    (row,) = store.finished("study").values()
    assert (row.run_id, row.source_hash) == (newer, "new")
    assert len(store.runs()) == 2
    assert len(store.curves()) == len(make_outcome().curves)


def test_a_run_deleted_in_mlflow_is_gone(store: Store):
    outcome = make_outcome()
    store.client.delete_run(record(store, outcome))
    assert store.finished("study") == {}
    assert store.runs().empty
    assert store.curves().empty


KILLED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size = 1")  # so that it writes to the file before it commits
connection.execute("UPDATE tags SET value = value || hex(zeroblob(100000))")
os._exit(1)
"""


def test_a_store_that_a_killed_writer_left_is_read(store: Store):
    before = record(store, make_outcome())
    assert store.path is not None
    subprocess.run([sys.executable, "-c", KILLED, store.path], check=False)
    assert store.path.with_name(f"{store.path.name}-journal").stat().st_size
    (row,) = store.finished("study").values()
    assert row.run_id == before


def test_a_failed_run_is_recorded_as_failed(store: Store):
    record(store, make_outcome(verdict="failed", reason="MemoryError: no room"))
    (row,) = store.runs().to_dict("records")
    assert (row["outcome"], row["status"], row["reason"]) == ("failed", "FAILED", "MemoryError: no room")


def test_the_first_error_is_raised_when_even_marking_the_run_fails(store: Store, monkeypatch: pytest.MonkeyPatch):
    def fail(self, *arguments, **named):
        raise OSError("database is locked")

    monkeypatch.setattr(sql, "REVISION", "another")
    monkeypatch.setattr(type(store.client), "log_batch", fail)
    monkeypatch.setattr(type(store.client), "set_terminated", fail)
    with pytest.raises(OSError, match="locked") as caught:
        record(store, make_outcome())
    assert "still marked as running" in caught.value.__notes__[0]


def test_an_x_that_is_no_whole_number_is_refused(store: Store):
    outcome = make_outcome()
    outcome.curves.append(Point("val/loss", "training", 0.5, 1.0))
    with pytest.raises(ValueError, match="whole numbers"):
        record(store, outcome)
    assert store.runs().empty


def test_more_metrics_than_mlflow_takes_at_once(store: Store):
    outcome = make_outcome()
    outcome.curves = [Point("gradient/log10_norm_by_lag", "after", lag, -0.01 * lag) for lag in range(2500)]
    record(store, outcome)
    curves = store.curves()
    assert curves["x"].tolist() == list(range(2500))
    assert curves["value"].tolist() == [point.value for point in outcome.curves]


def test_artifacts_hold_configuration_curves_and_weights(store: Store, tmp_path: Path):
    outcome = make_outcome()
    outcome.state_dict = {"weight_hh": torch.arange(6.0).reshape(2, 3)}
    run_id = record(store, outcome)
    folder = tmp_path / "mlruns" / "study" / run_id / "artifacts"
    assert {file.name for file in folder.iterdir()} == {"config.yaml", "curves.parquet", "weights.pt"}
    assert yaml.safe_load((folder / "config.yaml").read_text()) == outcome.config
    table = pd.read_parquet(folder / "curves.parquet")
    assert [tuple(row) for row in table.itertuples(index=False)] == [tuple(point) for point in outcome.curves]
    assert torch.equal(
        torch.load(folder / "weights.pt", weights_only=True)["weight_hh"], outcome.state_dict["weight_hh"]
    )


def test_weights_that_a_worker_saved_are_stored_as_they_are(store: Store, tmp_path: Path):
    outcome = make_outcome()
    outcome.state_dict = {"weights.pt": b"saved elsewhere"}
    run_id = record(store, outcome)
    assert (tmp_path / "mlruns" / "study" / run_id / "artifacts" / "weights.pt").read_bytes() == b"saved elsewhere"


def test_the_dataset_is_an_input_of_the_run(store: Store):
    schema = '{"inputs": "int64"}'
    data = {"name": "recall", "digest": "0123abcd", "source": "synthetic", "schema": schema, "profile": '{"n": 256}'}
    runs = [record(store, make_outcome(seed=seed), dataset=data) for seed in (0, 1)]
    for run_id in runs:
        inputs = store.client.get_run(run_id).inputs
        assert inputs is not None
        (found,) = inputs.dataset_inputs
        assert (found.dataset.name, found.dataset.digest, found.dataset.schema) == ("recall", "0123abcd", schema)


def test_tags_say_where_a_run_comes_from(store: Store):
    run_id = record(store, make_outcome("gru", "chrono"))
    tags = store.client.get_run(run_id).data.tags
    assert tags["mlflow.source.git.commit"] == tags["goldfish.commit"] == "c" * 40
    assert tags["goldfish.dirty"] == "false"
    assert tags["goldfish.machine"] == "a CPU, 2 cores"
    assert tags["mlflow.runColor"] == "#009E73"
    assert tags["mlflow.source.name"] == "goldfish"
    assert "goldfish.reason" not in tags


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..", "/absolute/path", "a/b", ".hidden", "…", "x" * 300, "50 % ü"]
)
def test_names_of_experiments_stay_inside_the_folder(store: Store, tmp_path: Path, name: str):
    outcome = make_outcome()
    # that a configuration refuses some is no reason to trust one
    outcome.config = replace(outcome.config, tracking=Tracking(experiment_name=name))
    run_id = record(store, outcome)
    assert store.runs(name)["run_id"].tolist() == [run_id]
    made = list(tmp_path.rglob("config.yaml"))
    assert len(made) == 1
    assert made[0].relative_to(tmp_path / "mlruns").parts[1:] == (run_id, "artifacts", "config.yaml")
    assert len(made[0].relative_to(tmp_path / "mlruns").parts[0]) <= 80
    assert {entry.name for entry in tmp_path.iterdir()} <= {"mlflow.db", "mlruns"}


def test_an_experiment_deleted_in_mlflow_is_named(store: Store):
    store.client.delete_experiment(store.experiment("study"))
    with pytest.raises(ConfigError, match=r"tracking.experiment_name=study: deleted in MLflow"):
        record(Store(store.uri), make_outcome())


def test_where_there_is_no_store_nothing_is_found_and_nothing_made(tmp_path: Path):
    store = Store(root=tmp_path, uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert not store.exists()
    assert store.finished("study") == {}
    assert store.runs().empty
    assert store.curves().empty
    assert store.experiments() == {}
    assert list(tmp_path.iterdir()) == []


def test_recording_creates_the_store_that_nobody_prepared(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prepared = []

    def prepare(self: Store) -> None:
        prepared.append(self.path)
        shutil.copy(template, tmp_path / "mlflow.db")

    monkeypatch.setattr(Store, "prepare", prepare)
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    assert store.client is not None
    assert prepared == [tmp_path / "mlflow.db"]


def test_a_finished_sweep_answers_without_importing_mlflow_or_torch(store: Store):
    outcome = make_outcome()
    record(store, outcome)
    code = (
        "import sys; from goldfish.tracking.store import Store; store = Store()\n"
        f"assert store.exists() and list(store.finished('study')) == ['{fingerprint_of(outcome)}']\n"
        "heavy = {'mlflow', 'torch', 'pandas', 'sqlalchemy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=store.path.parent if store.path else None)


def test_telemetry_is_switched_off(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    fresh = Store(store.uri)
    assert fresh.client is not None
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert is_telemetry_disabled()


def test_runs_that_others_logged_are_left_alone(store: Store):
    experiment = store.experiment("study")
    foreign = store.client.create_run(experiment, run_name="by hand")
    store.client.set_terminated(foreign.info.run_id)
    record(store, make_outcome())
    assert len(store.runs()) == 1
    assert len(store.finished("study")) == 1


def test_reading_waits_for_a_writer(store: Store):
    """A long write of another process delays a reader; it does not fail it."""
    record(store, make_outcome())
    assert store.path is not None
    with closing(sqlite3.connect(store.path)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        assert len(store.finished("study")) == 1
