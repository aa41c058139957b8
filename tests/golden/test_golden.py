"""No number moves: a fixed set of runs gives, to the last bit, the fingerprints, metrics and curves that are kept."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from pyarrow import parquet
from tests.golden import runs


def test_every_number_is_the_one_that_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = parquet.read_table(runs.KEPT)
    where = kept.schema.metadata[b"instruction_set"].decode()
    if where != runs.instruction_set():
        pytest.skip(f"golden numbers were made on {where}; here is {runs.instruction_set()}")
    monkeypatch.setenv("GOLDFISH_CACHE_DIR", str(tmp_path / "cache"))
    runs.write_data(tmp_path)
    pd.testing.assert_frame_equal(runs.table(tmp_path), kept.to_pandas(), check_exact=True, check_dtype=False)


def test_the_set_has_what_it_should_have() -> None:
    kept = parquet.read_table(runs.KEPT).to_pandas()
    verdicts = kept.groupby("run")["verdict"].first()
    assert len(verdicts) == 2 * 2 * 3 * len(runs.TASKS) + 2 * 2 * len(runs.FURTHER)
    assert (verdicts[verdicts.index.str.startswith("diverging")] == "diverged").all()
    assert not (verdicts == "failed").any()
    assert kept["fingerprint"].nunique() == len(verdicts)
