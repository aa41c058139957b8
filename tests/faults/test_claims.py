"""The same sweep started eight times at once trains each run once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.faults import sweeps
from tests.faults.conftest import Whole

AT_ONCE = 8


@pytest.mark.parametrize(
    "at_once", [pytest.param(3, marks=pytest.mark.sample), pytest.param(AT_ONCE, marks=pytest.mark.faults)]
)
@pytest.mark.slow
def test_started_at_once(at_once: int, whole: Whole, tmp_path: Path) -> None:
    processes = [sweeps.start(tmp_path, "hydra.launcher.workers=1") for _ in range(at_once)]
    ends = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * at_once, [err for _, err in ends]
    counts = [re.search(r"24 runs: trained (\d+) .*?(?:, (\d+) recorded already)?;", out) for out, _ in ends]
    assert all(counts), ends
    trained = [int(found[1]) for found in counts if found]
    assert sum(trained) == sweeps.RUNS
    assert [int(found[2] or 0) for found in counts if found] == [sweeps.RUNS - count for count in trained]
    sweeps.check_whole(tmp_path, whole.contents)
