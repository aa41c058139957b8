"""The CUDA kernels under the compiler's sanitizers: no unaligned access, none beyond a tensor or a block's memory."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.engines import cuda_sanitized
from tests.engines.cuda_emulator import needs_compiler

pytestmark = [
    needs_compiler,
    pytest.mark.skipif(cuda_sanitized.runtime() is None, reason="the compiler has no sanitizers"),
]
CELLS = ("rnn", "gru", "lstm")


def _run(folder: Path, *asked: str) -> str:
    found = cuda_sanitized.start(folder, *asked)
    assert "runtime error" not in found.stderr, found.stderr
    assert "AddressSanitizer: " not in found.stderr, found.stderr
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.sample
def test_some_sizes(tmp_path: Path) -> None:
    """At H = 16 the sums of a tile of one row once started 8 bytes beside a multiple of 16; all tiles agree."""
    said = _run(tmp_path, "rnn:float32:16", "lstm:float64:5", "gru:float32:33").splitlines()
    assert [line.split(": ")[1] for line in said] == ["tiles [1, 2, 4, 8]"] * 3


@pytest.mark.slow
def test_a_fault_is_reported(tmp_path: Path) -> None:
    """Sums that start on 8 bytes are what the sanitizer stops at."""
    found = cuda_sanitized.start(tmp_path, "rnn:float32:16", "--shifted")
    assert found.returncode != 0
    assert "misaligned address" in found.stderr


@pytest.mark.faults
@pytest.mark.timeout(14400)
@pytest.mark.parametrize("first", range(1, 512, 64))
def test_every_size(first: int, tmp_path: Path) -> None:
    """H = 1 … 512 in every tile; cells and dtypes take turns."""
    for H in range(first, first + 64):
        dtype = "float64" if H % 2 else "float32"
        said = _run(tmp_path, f"{CELLS[H % 3]}:{dtype}:{H}")
        assert said.count("tiles [1, 2, 4") == 1 or "beyond" in said
        for file in tmp_path.iterdir():
            file.unlink()
