"""SIGTERM and Ctrl-C: the sweep ends within seconds with its own exit code, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.faults import sweeps
from tests.faults.conftest import Whole


def stop(process: subprocess.Popen[str], *numbers: int, group: bool = False, apart: float = 0.0) -> tuple[int, str]:
    """Send signals to a sweep that runs; its exit code as a shell has it, and what it said."""
    sent = time.monotonic()
    for number in numbers:
        (os.killpg if group else os.kill)(process.pid, number)
        time.sleep(apart)
    _, err = process.communicate(timeout=sweeps.LIMIT)
    print(f"{time.monotonic() - sent - apart * len(numbers):.2f} s after {numbers}")
    assert "Traceback" not in err
    return (process.returncode if process.returncode >= 0 else 128 - process.returncode), err


def half_way(folder: Path) -> subprocess.Popen[str]:
    """The sweep as soon as it has recorded a pack: most others are not, however fast the machine."""
    before = sweeps.statuses(folder)["FINISHED"]
    process = sweeps.start(folder)
    while sweeps.statuses(folder)["FINISHED"] == before:
        assert process.poll() is None
        time.sleep(0.02)
    return process


@pytest.mark.slow
def test_ctrl_c_goes_on_where_it_stopped_and_a_second_signal_ends_at_once(whole: Whole, tmp_path: Path) -> None:
    code, err = stop(half_way(tmp_path), signal.SIGINT, group=True)
    assert code == 130
    assert "goldfish: interrupted; 24 runs: trained" in err
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
