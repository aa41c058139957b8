"""What the machine offers: cores, and whether torch could use a GPU."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from tests.sweep.stand_ins import config

from goldfish.sweep import machine

CPU, AUTO, GPU = ([config(trainer={"accelerator": name})] for name in ("cpu", "auto", "gpu"))


def test_cores_are_those_this_process_may_use() -> None:
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(("text", "cores"), [("max 100000\n", 64), ("250000 100000\n", 2), ("50000 100000\n", 1)])
def test_a_control_groups_share_limits_them(tmp_path: Path, text: str, cores: int) -> None:
    file = tmp_path / "cpu.max"
    assert machine._quota(file, 64) == 64
    file.write_text(text)
    assert machine._quota(file, 64) == cores


def test_torchs_build_is_told_without_importing_it() -> None:
    assert machine._torch_has_gpu() == (torch.version.cuda is not None or torch.version.hip is not None)


def test_a_gpu_is_found_where_torch_finds_one() -> None:
    """A GPU that torch uses must be found: packs side by side on one would only disturb each other."""
    assert machine.has_gpu() or not torch.cuda.is_available()


def test_a_hidden_gpu_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_torch_has_gpu", lambda: True)
    monkeypatch.setattr(machine, "_DEVICES", ("null",))  # /dev/null is always there
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.has_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not machine.has_gpu()


@pytest.mark.parametrize("there", [True, False])
def test_who_uses_it(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(machine, "has_gpu", lambda: there)
    assert [machine.uses_gpu(runs) for runs in (CPU, AUTO, GPU, [*CPU, *AUTO])] == [False, there, there, there]


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, ["0", "1", "2"]),
        ("1", ["1"]),
        ("2,0", ["2", "0"]),
        ("GPU-1a, MIG-2b", ["GPU-1a", "MIG-2b"]),
        ("0,-1,1", ["0"]),
        ("1,1", ["1"]),
        ("", []),
        ("-1", []),
        ("-1,0", []),
    ],
)
def test_gpus_are_those_that_are_visible(
    visible: str | None, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As CUDA understands the variable: what stands behind an entry that is none is not seen."""
    monkeypatch.setattr(machine, "_torch_has_gpu", lambda: True)
    monkeypatch.setattr(machine, "_FOLDER", tmp_path)
    for index in range(3):
        (tmp_path / f"nvidia{index}").touch()
    (tmp_path / "nvidiactl").touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine.gpus() == found


@pytest.mark.parametrize(
    ("script", "patience", "found"),
    [
        ("print(3 * 2**30, 5)", 60, (3 * 2**30, 5)),
        ("print()", 60, ()),
        ("print(5); raise SystemExit(1)", 60, ()),
        ("import time; time.sleep(60)", 0.2, ()),
    ],
)
def test_the_memory_of_gpus_is_asked_in_a_process_of_its_own(
    monkeypatch: pytest.MonkeyPatch, script: str, patience: float, found: tuple[int, ...]
) -> None:
    monkeypatch.setattr(machine, "_FREE", script)
    monkeypatch.setattr(machine, "_PATIENCE", patience)
    assert machine.gpu_memory.__wrapped__() == found


def test_torch_is_asked_for_what_it_has() -> None:
    assert len(machine.gpu_memory.__wrapped__()) == torch.cuda.device_count()
