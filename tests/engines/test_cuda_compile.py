"""The kernels compile for a GPU, where NVRTC is installed; no GPU and no driver is needed for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.engines.cuda_emulator import A100, H100

from goldfish.config import registry
from goldfish.engines.cuda import gemm, launch, plan, source, store


@pytest.fixture(autouse=True)
def _compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cuda.core", reason="cuda-core is not installed", exc_type=ImportError)
    try:
        store.compiler()
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"NVRTC cannot be loaded: {str(error).splitlines()[0]}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90"])
@pytest.mark.parametrize("size", [4, 8], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "H"), [("rnn", 32), ("rnn", 33), ("lstm", 64), ("lstm", 128), ("gru", 64), ("gru", 200)]
)
def test_cells(name: str, H: int, size: int, architecture: str) -> None:
    for rows in (1, 4):
        cell, gpu = registry.load("cell", name)(hidden_size=H, num_layers=1), H100 if architecture == "sm_90" else A100
        found = plan.lay_out(cell, size, rows, gpu)
        assert found is not None
        assert (found.cluster > 1) == (H == 200 and gpu is H100)
        code = launch.compiled(found.cell, found.macros(), architecture)
        assert code.startswith(b"\x7fELF")
        assert b"forward" in code
        assert b"backward" in code


@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90"])
@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_products(double: bool, architecture: str) -> None:
    for tile in gemm.TILES:
        kernel = gemm._kernel(double, *tile)
        assert b"gemm" in launch.compiled(kernel.source, kernel.macros, architecture)
    assert b"add_up" in launch.compiled(source.SUMS, (("DOUBLE", int(double)),), architecture)


def test_machine_code_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time nothing is compiled; another constant or architecture is other code."""
    import cuda.core

    first = launch.compiled(source.SUMS, (("DOUBLE", 0),), "sm_90")
    compiled: list[Any] = []
    program = cuda.core.Program

    def counted(*given: Any) -> Any:
        compiled.append(given)
        return program(*given)

    monkeypatch.setattr(cuda.core, "Program", counted)
    assert launch.compiled(source.SUMS, (("DOUBLE", 0),), "sm_90") == first
    assert not compiled
    launch.compiled(source.SUMS, (("DOUBLE", 0),), "sm_86")
    launch.compiled(source.SUMS, (("DOUBLE", 1),), "sm_90")
    assert len(compiled) == 2
