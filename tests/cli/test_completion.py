"""Shell completion, called as the shell calls it, and once by bash itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from goldfish.cli import main


def complete(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    assert main(["-sc", "query=bash"]) == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("goldfish ", {"train", "reproduce", "figures", "export", "status", "ui", "bench"}),
        ("goldfish re", {"reproduce"}),
        ("goldfish --", {"--help", "--version"}),
        ("goldfish reproduce ", {"forgetting"}),
        ("goldfish reproduce --", {"--scale", "--update-results", "--rerun", "--all"}),
        ("goldfish reproduce --rerun ", {"missing", "stale", "all"}),
        ("goldfish figures forg", {"forgetting"}),
        ("goldfish export --", {"--to"}),
        ("goldfish train ce", {"cell=", "cell."}),
        ("goldfish train cell=", {"cell=rnn", "cell=lstm", "cell=gru"}),
        ("goldfish train -m cell=lstm init=or", {"init=orthogonal"}),
        ("goldfish train cell=rnn cell.", {"cell.hidden_size=", "cell.nonlinearity="}),
        ("goldfish train trainer.max_steps=", {"trainer.max_steps=1000"}),
        ("goldfish train hydra/launcher=p", {"hydra/launcher=packed"}),
    ],
)
def test_suggestions(line: str, some: set[str], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert some <= set(complete(line, monkeypatch, capsys))


def test_the_keys_are_those_of_the_choice(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert "cell.nonlinearity=" not in complete("goldfish train cell=lstm cell.", monkeypatch, capsys)
    assert "init.gain=" in complete("goldfish train init=orthogonal init.", monkeypatch, capsys)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes(tmp_path: Path) -> None:
    """What the installation line defines, called as bash calls it at a press of the tab key."""
    program = tmp_path / "goldfish"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m goldfish "$@"\n')
    program.chmod(0o755)
    script = """
eval "$(goldfish train -sc install=bash)"
press() {
    COMP_LINE="$1"; COMP_POINT=${#1}; COMP_CWORD=$2
    hydra_bash_completion
    echo "${COMPREPLY[@]}"
}
complete -p goldfish
press "goldfish tr" 1
press "goldfish train cell=ls" 2
press "goldfish reproduce forg" 2
"""
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, text=True, capture_output=True, check=True
    )
    installed, *pressed = done.stdout.splitlines()
    assert "hydra_bash_completion goldfish" in installed
    assert [words.split() for words in pressed] == [["train"], ["cell=lstm"], ["forgetting"]]
    assert done.stderr == ""
