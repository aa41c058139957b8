"""The store as tidy tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tests.tracking.outcomes import fingerprint_of, make_outcome, record

from goldfish.errors import ConfigError
from goldfish.tracking.store import Store
from goldfish.tracking.tables import curves_table, export, runs_table
from goldfish.training.outcome import Verdict

HEAD = ["fingerprint", "outcome", "reason", "cell", "init", "task", "length", "seed", "hidden_size"]


def test_the_table_has_the_promised_columns_in_order(store: Store):
    outcome = make_outcome("gru", "chrono", 20, 2)
    record(store, outcome)
    table = runs_table(store.runs())
    columns = list(table.columns)
    assert columns[: len(HEAD)] == HEAD
    assert columns[-3:] == ["parameters", "seconds", "steps"]
    assert {"cell.hidden_size", "task.length", "task.symbols", "optimizer.lr", "trainer.max_steps"} <= set(columns)
    assert {"test/accuracy", "gradient/horizon_before", "recall/horizon", "val/loss"} <= set(columns)
    assert columns.index("optimizer.lr") < columns.index("gradient/decay_rate")
    assert "gradient/log10_norm_by_lag" not in columns
    assert not {"run_id", "status", "started", "sweep", "packed"} & set(columns)
    assert len(columns) == len(set(columns))
    (row,) = table.to_dict("records")
    assert (row["cell"], row["init"], row["length"], row["seed"], row["hidden_size"]) == ("gru", "chrono", 20, 2, 32)


def test_each_run_stands_once_and_a_result_goes_before_a_newer_failure(store: Store):
    outcome = make_outcome(started=1e9)
    kept = record(store, outcome)
    failure = make_outcome(started=1.1e9, verdict="failed", reason="killed")
    record(store, failure, fingerprint=fingerprint_of(outcome))
    alone = make_outcome(seed=1, started=1.2e9, verdict="failed", reason="no room")
    record(store, alone)
    record(store, make_outcome(started=1.3e9, experiment_name="other"), fingerprint=fingerprint_of(outcome))
    runs = store.runs()
    assert len(runs) == 4
    table = runs_table(runs)
    assert table["outcome"].tolist() == ["solved", "failed", "solved"]
    assert table["reason"].tolist() == ["", "no room", ""]
    curves = curves_table(store, store.runs("study"))
    assert set(curves["fingerprint"]) == {fingerprint_of(outcome)}
    assert len(curves) == len(store.curves([kept]))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_export_writes_what_the_table_holds(store: Store, tmp_path: Path, suffix: str):
    verdicts: list[Verdict | None] = [None, "diverged", "failed"]
    for seed, verdict in enumerate(verdicts):
        record(store, make_outcome(seed=seed, verdict=verdict, reason="why, it said" if seed else ""))
    file = tmp_path / f"runs{suffix}"
    table = export(store, file, "study")
    back = pd.read_csv(file, keep_default_na=False, na_values=[""]) if suffix == ".csv" else pd.read_parquet(file)
    assert list(back.columns) == list(table.columns)
    assert back["reason"].fillna("").tolist() == ["", "why, it said", "why, it said"]
    pd.testing.assert_series_equal(back["test/accuracy"], table["test/accuracy"], rtol=1e-15)
    assert back["test/accuracy"].notna().tolist() == [True, True, False]
    assert back["cell.hidden_size"].tolist() == [32, 32, 32]
    assert back["seed"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "said"),
    [("runs.xlsx", r"--to=.*runs\.xlsx: expected .*\.csv or \.parquet"), ("no/runs.csv", r"--to=.*: no such folder")],
)
def test_a_file_that_cannot_be_written_is_refused(store: Store, tmp_path: Path, name: str, said: str):
    record(store, make_outcome())
    with pytest.raises(ConfigError, match=said):
        export(store, tmp_path / name)


def test_nothing_recorded_is_said_and_nothing_written(store: Store, tmp_path: Path):
    with pytest.raises(ConfigError, match="nothing is recorded as study"):
        export(store, tmp_path / "runs.csv", "study")
    assert not (tmp_path / "runs.csv").exists()


def test_tables_of_nothing_have_their_columns(store: Store):
    assert list(store.curves().columns) == ["fingerprint", "quantity", "phase", "x", "value"]
    assert list(runs_table(store.runs()).columns) == [*HEAD, "parameters", "seconds", "steps"]
