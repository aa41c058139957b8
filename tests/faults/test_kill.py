"""kill -9 and SIGTERM at random moments; then the same command finishes the sweep, bit for bit."""

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
    "times", [1, pytest.param(4, marks=pytest.mark.sample), pytest.param(30, marks=pytest.mark.faults)]
)
def test_stopped_at_random_moments(times: int, whole: Whole, tmp_path: Path) -> None:
    """Three times of four by a kill of the whole group, else by SIGTERM, to the parent or to the whole group."""
    moments = random.Random(times)
    stopped = rounds = 0
    while stopped < times:
        folder = tmp_path / str(rounds)
        rounds += 1
        while stopped < times:
            number = signal.SIGTERM if stopped % 4 == 1 else signal.SIGKILL
            group = number == signal.SIGKILL or stopped % 8 == 5
            if not was_stopped(folder, number, group, moments.uniform(0, 0.7 * whole.seconds)):
                break  # all was recorded before the signal could change anything: looked at below
            stopped += 1
        sweeps.finish(folder)
        sweeps.check_whole(folder, whole.contents)
    print(f"stopped {stopped} times in {rounds} sweeps of {sweeps.RUNS} runs: all finished, each once, bit for bit")


def was_stopped(folder: Path, number: int, group: bool, moment: float) -> bool:
    """Start the sweep and send a signal at that second; False where it was faster."""
    process = sweeps.start(folder)
    try:
        process.communicate(timeout=moment if number == signal.SIGKILL else max(moment, 0.3))  # it has a handler then
    except subprocess.TimeoutExpired:
        (os.killpg if group else os.kill)(process.pid, number)
        _, err = process.communicate(timeout=sweeps.LIMIT)
        assert "Traceback" not in err
        assert process.returncode in (0, -number, 128 + number)
    else:
        assert process.returncode == 0
    return process.returncode != 0
