"""Provenance: the commit, what was changed since, versions and the machine; nothing of the environment."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from goldfish.tracking import provenance


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a git checkout of its own."""
    folder = tmp_path / "src" / "package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("one = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return folder


def test_a_clean_checkout_is_its_commit(package: Path):
    found = provenance.git(package)
    assert found["dirty"] == "false"
    assert len(found["commit"]) == 40
    assert "diff" not in found
    (package.parent / "notes.txt").write_text("elsewhere")
    assert provenance.git(package) == found


def test_every_change_of_the_source_shows_in_the_diff(package: Path):
    clean = provenance.git(package)
    hashes = set()
    for file, text in (("__init__.py", "two = 2\n"), ("new.py", "x = 1\n"), ("new.py", "x = 2\n")):
        (package / file).write_text(text)
        found = provenance.git(package)
        assert found["commit"] == clean["commit"]
        assert found["dirty"] == "true"
        hashes.add(found["diff"])
    assert len(hashes) == 3
    (package / "new.py").unlink()
    (package / "__init__.py").write_text("one = 1\n")
    assert provenance.git(package) == clean


def test_an_installed_package_has_no_commit(package: Path, tmp_path: Path):
    installed = tmp_path / "venv" / "package"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert provenance.git(installed) == {}
    assert "mlflow.source.git.commit" not in provenance.tags({"python": "3.11"})


def test_without_git_there_is_no_commit(package: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.git(package) == {}


def test_versions_and_machine_are_those_of_this_process():
    found = provenance.collect()
    assert f"torch {importlib.metadata.version('torch')}" in found["versions"]
    assert f"mlflow {importlib.metadata.version('mlflow')}" in found["versions"]
    assert found["python"] == platform.python_version()
    assert f"{len(os.sched_getaffinity(0))} core" in found["machine"]


def test_nothing_of_the_environment_is_recorded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOLDFISH_SECRET", "hunter2-hunter2")
    monkeypatch.setenv("USER", "somebody-with-a-name")
    found = provenance.collect()
    assert set(found) <= {"commit", "dirty", "diff", "versions", "python", "machine"}
    text = " ".join(found.values())
    assert "hunter2" not in text
    assert "somebody" not in text
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text


def test_collecting_imports_neither_torch_nor_mlflow():
    code = (
        "import sys; from goldfish.tracking.provenance import collect; collect()\n"
        "assert not {'torch', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_driver_names_the_gpu_when_torch_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "0000:00:04.0"
    folder.mkdir()
    (folder / "information").write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 28\n")
    monkeypatch.setattr(provenance, "_CHIPS", tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert provenance.machine().endswith(", NVIDIA H100 80GB HBM3")
