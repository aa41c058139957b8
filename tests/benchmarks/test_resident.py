"""Memory in use is this program's own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from benchmarks import resident


def test_the_peak_is_not_that_of_the_process_before() -> None:
    """A child of a large process, as the benchmark's are."""
    large = np.ones(50_000_000)
    done = subprocess.run(
        [sys.executable, "-c", "from benchmarks import resident; print(resident.peak())"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert 1e6 < int(done.stdout) < 2e8 < large.nbytes < resident.now()


def test_the_peak_goes_back_to_where_it_was_forgotten() -> None:
    resident.forget()
    before = resident.peak()
    large = np.ones(20_000_000)
    del large
    assert resident.peak() - before > 1.5e8
