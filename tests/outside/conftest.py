"""A sweep recorded where nothing is comfortable: C locale, no home, a dumb terminal of 40 columns."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]
SWEEP = (
    "train -m cell=lstm,gru init=chrono seed=0,1 task.length=5 cell.hidden_size=4 trainer.max_steps=20"
    " trainer.evaluation_size=16 trainer.accelerator=cpu engine=stepwise tracking.experiment_name=outside"
)


@pytest.fixture(scope="session")
def bare() -> dict[str, str]:
    """An environment with nothing in it but a PATH, the C locale without UTF-8, no home and a dumb terminal."""
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME"), "/dev/null/home")
    terminal = {"TERM": "dumb", "COLUMNS": "40", "NO_COLOR": "1"}
    return {"PATH": os.defpath, **locale, **nowhere, **terminal}


@pytest.fixture(scope="session")
def recorded(bare: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of four runs, trained by the command line in the bare environment."""
    folder = tmp_path_factory.mktemp("recorded")
    done = command(folder, bare)(*SWEEP.split())
    assert done.returncode == 0, done.stderr
    return folder


def command(folder: Path, environment: dict[str, str]) -> Run:
    """Runs `goldfish` in a folder and an environment."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        whole = [sys.executable, "-m", "goldfish", *arguments]
        return subprocess.run(whole, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)

    return run
