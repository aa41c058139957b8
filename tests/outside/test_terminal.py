"""The command line in a C locale, without a home, on a dumb terminal of 40 columns."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from tests.outside.conftest import SWEEP, command

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("--help", 0, "reproduce  Train what an experiment lacks"),
        ("train --help", 0, "max_steps"),
        (SWEEP, 0, "4 recorded already"),
        ("train init=chrno", 2, "did you mean 'chrono'?"),
        ("train task=tagging task.data=f\u00fcr/nichts", 2, "task.data"),
        ("status", 0, "outside"),
        ("explain cell=lstm", 0, "not recorded"),
        ("doctor", 0, "4 runs"),
        ("check chen2018_mean_field", 0, "reproduced"),
    ],
)
def test_every_command_answers_in_plain_bytes(recorded: Path, bare: dict[str, str], line: str, code: int, said: str):
    done = command(recorded, bare)(*line.split())
    assert done.returncode == code, done.stderr
    text = done.stdout + done.stderr
    assert said in text
    assert "Traceback" not in text
    assert text.isascii()
    assert "\x1b" not in text, "escape sequences on a dumb terminal"


def test_what_is_written_is_utf_8_whatever_the_locale(recorded: Path, bare: dict[str, str], tmp_path: Path):
    run = command(recorded, bare)
    assert run("export", "--to", str(tmp_path / "runs.csv")).returncode == 0
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text(encoding="utf-8").splitlines()))
    assert sorted((row["cell"], row["seed"]) for row in rows) == [(c, s) for c in ("gru", "lstm") for s in "01"]
    done = run("paper", "--to", str(tmp_path / "paper.pdf"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")
