"""SIGTERM and Ctrl-C: the sweep ends within seconds with its own exit code, and the same command goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.faults import sweeps
from tests.faults.conftest import Whole

LIMIT = 30.0  # seconds after which an end is no end; what is promised is 5, on a machine that is not overloaded


def stop(process: subprocess.Popen[str], *numbers: int, group: bool = False, apart: float = 0.0) -> tuple[int, str]:
    """Send signals to a sweep that runs; its exit code as a shell has it, and what it said."""
    sent = time.monotonic()
    for number in numbers:
        (os.killpg if group else os.kill)(process.pid, number)
        time.sleep(apart)
    _, err = process.communicate(timeout=LIMIT)
    print(f"{time.monotonic() - sent - apart * len(numbers):.2f} s after {numbers}")
    assert "Traceback" not in err
    return (process.returncode if process.returncode >= 0 else 128 - process.returncode), err


def half_way(folder: Path) -> subprocess.Popen[str]:
    """The sweep as soon as a pack of it is recorded: most others are not, however fast the machine."""
    process = sweeps.start(folder)
    while not sweeps.statuses(folder)["FINISHED"]:
        assert process.poll() is None
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    "times", [pytest.param(2, marks=pytest.mark.sample), pytest.param(10, marks=pytest.mark.faults)]
)
@pytest.mark.slow
def test_sigterm_at_random_moments(times: int, whole: Whole, tmp_path: Path) -> None:
    moments = random.Random(times)
    stopped = rounds = 0
    while stopped < times:
        folder = tmp_path / str(rounds)
        rounds += 1
        while stopped < times:
            process = sweeps.start(folder)
            try:
                process.communicate(timeout=moments.uniform(0.3, 0.7 * whole.seconds))
            except subprocess.TimeoutExpired:
                code, _ = stop(process, signal.SIGTERM, group=stopped % 2 == 1)
            else:
                code = process.returncode
            if not code:  # all was recorded before the signal could change anything: looked at below
                break
            assert code == 143
            stopped += 1
        sweeps.finish(folder)
        sweeps.check_whole(folder, whole.contents)


@pytest.mark.slow
def test_ctrl_c_goes_on_where_it_stopped(whole: Whole, tmp_path: Path) -> None:
    code, err = stop(half_way(tmp_path), signal.SIGINT, group=True)
    assert code == 130
    assert "goldfish: interrupted; 24 runs: trained" in err
    sweeps.finish(tmp_path)
    sweeps.check_whole(tmp_path, whole.contents)


@pytest.mark.slow
def test_a_second_signal_ends_at_once(whole: Whole, tmp_path: Path) -> None:
    code, _ = stop(half_way(tmp_path), signal.SIGTERM, signal.SIGTERM, apart=0.02)
    assert code == 143
    sweeps.finish(tmp_path)
    sweeps.check_whole(tmp_path, whole.contents)


@pytest.mark.faults
@pytest.mark.slow
def test_slurm_announces_preemption_with_its_own_signal(
    whole: Whole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    code, err = stop(half_way(tmp_path), signal.SIGUSR1, group=True)
    assert code == 143
    assert "goldfish: terminated; 24 runs: trained" in err
    monkeypatch.delenv("SLURM_JOB_ID")
    sweeps.finish(tmp_path)
    sweeps.check_whole(tmp_path, whole.contents)
