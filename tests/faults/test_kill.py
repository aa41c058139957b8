"""kill -9 of everything at random moments; then the same command finishes the sweep, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest
from tests.faults import sweeps
from tests.faults.conftest import Whole


@pytest.mark.parametrize(
    "kills", [1, pytest.param(3, marks=pytest.mark.sample), pytest.param(20, marks=pytest.mark.faults)]
)
def test_kill_9_at_random_moments(kills: int, whole: Whole, tmp_path: Path) -> None:
    moments = random.Random(kills)
    killed = rounds = 0
    while killed < kills:
        folder = tmp_path / str(rounds)
        rounds += 1
        while killed < kills and not ended_by_itself(folder, moments.uniform(0, 0.7 * whole.seconds)):
            killed += 1
        sweeps.finish(folder)
        sweeps.check_whole(folder, whole.contents)
    print(f"{killed} kills in {rounds} sweeps of {sweeps.RUNS} runs: all finished, each once, bit for bit")


def ended_by_itself(folder: Path, moment: float) -> bool:
    """Start the sweep, kill its process group at that second; True where it was faster."""
    process = sweeps.start(folder)
    try:
        process.communicate(timeout=moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=20)
        return False
    assert process.returncode == 0
    return True
