"""What a whole process of a sweep does: it ends, leaves nothing behind, and never imports torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.sweep.stand_ins import HANGS, RAISES, alive, trained

HERE = Path(__file__).parent


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


SCRIPT = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from goldfish.sweep.run import run_sweep
from goldfish.tracking import views
from stand_ins import FakeStore, config
views.prepare_views = lambda store, name: None
store = FakeStore(delay=0.3)  # slower than the runs
try:
    report = run_sweep([config(seed, {log!r}, cell=cell) for seed, cell in {runs!r}],
                       store=store, workers=2, trainer="stand_ins:{trainer}")
    print(report.summary())
finally:
    print("recorded", store.seeds(), "torch" in sys.modules)
"""


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(log: Path) -> Iterator[Start]:
    """Starts a script without `if __name__ == "__main__"`: workers must not run it again."""
    started = []

    def start(runs: list[tuple[int, str]], trainer: str = "train") -> subprocess.Popen[str]:
        file, pipe = log.with_name("script.py"), subprocess.PIPE
        file.write_text(SCRIPT.format(here=str(HERE), log=str(log), runs=runs, trainer=trainer))
        command = [sys.executable, str(file)]
        started.append(
            subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True, cwd=log.parent)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_parent_never_imports_torch(start: Start) -> None:
    out, err = start([(0, "rnn"), (1, "rnn"), (RAISES, "rnn")], "train_with_weights").communicate(timeout=60)
    assert "recorded [0, 1, 101] False" in out
    assert "3 of 3 runs: 2 solved, 1 unsolved, 0 diverged, 0 failed, 0 packs running, nothing left" in err
    assert "Traceback" not in err


def test_ctrl_c_records_what_is_there_and_leaves_no_process(start: Start, log: Path) -> None:
    """The terminal sends SIGINT to the whole group: to workers and to the server they are forked from."""
    process = start([(0, "rnn"), (1, "rnn"), (HANGS, "lstm"), (2, "gru")])
    deadline = time.monotonic() + 60
    while {seed for seed, *_ in trained(log)} < {0, 1, 2, HANGS}:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert "recorded [0, 1, 2] False" in out
    assert "goldfish: interrupted; 4 runs: trained 3 (1 solved, 2 unsolved, 0 diverged, 0 failed)" in err
    assert err.count("Traceback") == 1  # the script's own
    assert not alive(pid for *_, pid in trained(log))


def test_workers_of_a_parent_that_was_killed_end_too(start: Start, log: Path) -> None:
    process = start([(HANGS, "rnn"), (HANGS, "lstm")])
    deadline = time.monotonic() + 60
    while len(trained(log)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.communicate(timeout=20)
    while alive(pid for *_, pid in trained(log)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
