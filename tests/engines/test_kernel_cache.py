"""Kernels are compiled once, however many processes need them at the same time, and whatever becomes of one of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from goldfish.engines import cpu
from goldfish.engines.cpu import kernel_cache

LOADS = """
import sys
from goldfish.engines import cpu
from goldfish.engines.cpu import passes
print("ready", flush=True)
sys.stdin.readline()
cpu.load("rnn", "float32")
print(passes.forward("rnn", "float32").cache_hits, passes.backward("rnn", "float32").cache_hits)
"""
HOLDS = """
import time
from goldfish.engines.cpu import kernel_cache
with kernel_cache.alone("rnn-float32"):
    print("ready", flush=True)
    time.sleep(600)
"""
FORKS = """
import os, threading
import goldfish.sweep.work
from goldfish.engines import cpu
print(cpu.load.cache_info().currsize, threading.active_count(), len(os.listdir("/proc/self/task")))
"""


def started(code: str, place: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "GOLDFISH_CACHE_DIR": str(place), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def loaded_at_once(place: Path, processes: int) -> list[str]:
    """How often each process found its two kernels kept."""
    found = [started(LOADS, place) for _ in range(processes)]
    for process in found:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in found:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    hits = [process.communicate()[0].strip() for process in found]
    assert [process.returncode for process in found] == [0] * processes
    return sorted(hits)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of this test's own."""
    monkeypatch.setenv("GOLDFISH_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(kernel_cache, "PATIENCE", 0.2)
    kernel_cache.folder.cache_clear()
    made = kernel_cache.folder()
    assert made is not None
    yield made
    kernel_cache.folder.cache_clear()


@pytest.mark.slow
def test_one_process_compiles_and_the_others_load(tmp_path: Path) -> None:
    assert loaded_at_once(tmp_path, 2) == ["0 0", "1 1"]

    server = started(FORKS, tmp_path)
    assert server.communicate()[0].split() == ["1", "1", "1"]  # kernels, and threads, of which a fork would keep one

    damaged = list(tmp_path.rglob("*.nbc"))
    assert damaged
    for file in damaged:
        file.write_bytes(file.read_bytes()[:100])
    assert loaded_at_once(tmp_path, 1) == ["0 0"]


def test_the_lock_of_a_killed_process_is_free(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    holder = started(HOLDS, place.parent)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    with kernel_cache.alone("rnn-float32"):
        pass
    (record,) = caplog.records
    assert "rnn-float32 are compiled without waiting" in record.getMessage()
    (place / "rnn-float32.kept").unlink()
    caplog.clear()
    holder.kill()
    holder.communicate()
    with kernel_cache.alone("rnn-float32"):
        pass
    assert not caplog.records
    assert kernel_cache.names() == ["rnn-float32"]


def test_what_did_not_compile_is_not_kept(place: Path) -> None:
    with pytest.raises(RuntimeError, match="no memory"), kernel_cache.alone("rnn-float32"):
        raise RuntimeError("no memory")
    assert kernel_cache.names() == []
    assert not kernel_cache.forget()


def test_an_error_that_no_damaged_file_explains_is_raised(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, str]] = []

    def fails(cell: str, dtype: str) -> None:
        tried.append((cell, dtype))
        raise RuntimeError("no memory")

    monkeypatch.setattr(cpu, "_load", fails)
    with pytest.raises(RuntimeError, match="no memory"):
        cpu.load.__wrapped__("gru", "float64")
    (place / "gru-float64.kept").touch()
    with pytest.raises(RuntimeError, match="no memory"):
        cpu.load.__wrapped__("gru", "float64")
    assert tried == [("gru", "float64")] * 3  # the second time once more, with nothing kept
    assert kernel_cache.names() == []
