"""When the CUDA engine is trusted: the comparison with eager, what is remembered, and what `unavailable` says."""

from __future__ import annotations

import json
import logging
import re
import sys
import textwrap
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engines.cuda_emulator import H100, emulated, needs_compiler

from goldfish.cells.gru import GRU
from goldfish.cells.lstm import LSTM
from goldfish.cells.rnn import RNN
from goldfish.engines import cuda, select, stepwise
from goldfish.engines.cuda import launch, plan, store, verdict

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
MACHINE = {"GPU": "emulated", "driver": "1"}
CELLS = [
    RNN(hidden_size=12, num_layers=1, nonlinearity="relu"),
    LSTM(hidden_size=12, num_layers=1),
    GRU(hidden_size=12, num_layers=1),
]
KERNELS: dict[str, Path] = {}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's cache of its own, a machine that is there, and nothing remembered in the process."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(verdict, "machine", lambda device: MACHINE)
    verdict._of.cache_clear()
    yield tmp_path / "goldfish" / "cuda"
    verdict._of.cache_clear()


@pytest.fixture
def _emulator(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels run in the emulator, and are compared in this process."""
    folder = KERNELS.setdefault("folder", tmp_path_factory.mktemp("kernels"))

    def here(kernels: Any, device: torch.device) -> Iterator[tuple[Any, Any]]:
        return ((one, verdict.compare(one, device)) for one in kernels)

    monkeypatch.setattr(verdict, "_elsewhere", here)
    with emulated(folder):
        yield


def _count(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    compared, compare = [], verdict.compare

    def counted(*given: Any) -> verdict.Verdict:
        compared.append(given)
        return compare(*given)

    monkeypatch.setattr(verdict, "compare", counted)
    return compared


@pytest.mark.slow
@needs_compiler
@pytest.mark.usefixtures("_emulator")
@pytest.mark.parametrize(
    ("cell", "dtype"),
    [(CELLS[0], torch.float32), (CELLS[0], torch.float64), (CELLS[1], torch.float32), (CELLS[2], torch.float64)],
    ids=lambda value: str(value) if isinstance(value, torch.dtype) else type(value).__name__,
)
def test_right_kernels_are_trusted(cell: Any, dtype: torch.dtype) -> None:
    """Under no_grad and in inference mode as well, and the user's random numbers stay where they are."""
    state = torch.get_rng_state()
    with torch.inference_mode():
        found = verdict.of(cell, dtype, CPU)
    assert found.reason == ""
    assert found.worst <= (2e-6 if dtype == torch.float32 else 1e-14)
    assert found.worst_norm <= (1e-5 if dtype == torch.float32 else 1e-12)
    assert torch.equal(torch.get_rng_state(), state)
    assert "exact" in str(found)
    assert "H=12" in str(found)


@pytest.mark.slow
@needs_compiler
@pytest.mark.usefixtures("_emulator")
def test_a_verdict_is_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By cell, nonlinearity, size, dtype and machine; a broken file is made anew."""
    compared = _count(monkeypatch)
    cell = RNN(hidden_size=12, num_layers=1, nonlinearity="relu")
    first = verdict.of(cell, torch.float32, CPU)
    verdict._of.cache_clear()
    assert verdict.of(RNN(hidden_size=12, num_layers=3, nonlinearity="relu"), torch.float32, CPU) == first
    assert len(compared) == 1
    assert verdict.remembered(CPU) == [first]
    (file,) = cache.glob("verdict-*.json")
    assert json.loads(file.read_text())["machine"] == MACHINE
    for broken in ("{", "[]", "{}"):
        file.write_text(broken)
        verdict._of.cache_clear()
        assert verdict.of(cell, torch.float32, CPU) == first
    assert len(compared) == 4
    monkeypatch.setattr(verdict, "machine", lambda device: MACHINE | {"driver": "2"})
    verdict._of.cache_clear()
    assert verdict.of(cell, torch.float32, CPU).machine["driver"] == "2"
    assert len(compared) == 5
    assert [found.machine["driver"] for found in verdict.remembered(CPU)] == ["2"]


@needs_compiler
@pytest.mark.usefixtures("_emulator")
def test_wrong_kernels_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault alone: numbers as TF32 would give them, bits of any tile, bits of either replica's pack."""
    cell, run = GRU(hidden_size=12, num_layers=1), launch.launch

    def fault(which: str) -> Any:
        def launched(kernel: launch.Kernel, grid: tuple[int, int, int], arguments: Any) -> None:
            macros = dict(kernel.macros)
            run(kernel, grid, arguments)
            if kernel.name == "forward":
                outputs = arguments[4]
                if which == "numbers":
                    outputs.mul_(1 + 2**-11)
                elif which == f"tile {macros['ROWS']}" or (which == "pack" and outputs.shape[0] == 1):
                    outputs.mul_(1 + 2**-23)

        return launched

    for which, expected in (
        ("numbers", "wrong numbers on this machine: gradients by"),
        *((f"tile {rows}", "bits depend on the tile") for rows in plan.TILES),
        ("pack", "bits depend on the pack"),
    ):
        monkeypatch.setattr(launch, "launch", fault(which))
        monkeypatch.setattr(verdict, "machine", lambda device, which=which: MACHINE | {"fault": which})
        verdict._of.cache_clear()
        found = verdict.of(cell, torch.float32, CPU)
        assert expected in found.reason
        assert verdict.remembered(CPU) == [found]


@pytest.mark.slow
@needs_compiler
@pytest.mark.usefixtures("_emulator")
def test_wrong_norms_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    run = launch.launch

    def launched(kernel: launch.Kernel, grid: tuple[int, int, int], arguments: Any) -> None:
        run(kernel, grid, arguments)
        if kernel.name == "backward":
            arguments[14].mul_(1.001)

    monkeypatch.setattr(launch, "launch", launched)
    found = verdict.of(RNN(hidden_size=12, num_layers=1), torch.float32, CPU)
    assert found.worst < 1e-5 < 2e-4 < found.worst_norm
    assert "wrong numbers" in found.reason


CHILD = """\
import json, os, signal, sys, time
def good(one):
    names = {name: one[name] for name in ("cell", "hidden_size", "dtype")}
    print(json.dumps(names | {"reason": "", "worst": 0.0, "worst_norm": 0.0, "machine": {}}), flush=True)
"""
ENDS = {
    "dies of a signal": ("os.kill(os.getpid(), signal.SIGSEGV)", r"exit code -11 \(Segmentation fault\)"),
    "tells an error": ("print(json.dumps('CUDA out of memory'), flush=True); sys.exit(0)", "CUDA out of memory"),
    "cannot import": ("import goldfish_has_no_such_module", "exit code 1.*ModuleNotFoundError"),
    "hangs": ("time.sleep(60)", "longer than 2 s"),
}


def _child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    program = CHILD + textwrap.dedent(code)
    monkeypatch.setattr(verdict, "command", lambda: [sys.executable, "-c", program])
    monkeypatch.setattr(verdict, "PATIENCE", 2.0 if "sleep" in code else 60.0)


@pytest.mark.parametrize("end", ENDS)
def test_what_breaks_a_comparison_off_is_no_verdict(end: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said, not trusted, and not remembered; and the process that asked is none the worse."""
    code, said = ENDS[end]
    _child(monkeypatch, code)
    found = verdict.of(GRU(hidden_size=12, num_layers=1), torch.float32, CPU)
    assert re.search(f"could not be checked on this machine: .*{said}", found.reason)
    assert verdict.remembered(CPU) == []
    assert not list(cache.glob("*"))


def test_the_others_are_compared_nevertheless(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the second of three ends the process, the third is compared in another one."""
    _child(
        monkeypatch, "for one in json.loads(sys.argv[2]):\n    os._exit(3) if one['hidden_size'] == 8 else good(one)"
    )
    kernels = [verdict.asked(RNN(hidden_size=H, num_layers=1), torch.float64) for H in (4, 8, 16)]
    found = verdict.of_all(kernels, CPU)
    assert [one.hidden_size for one in found] == [4, 8, 16]
    assert [one.reason.partition(":")[2].strip() for one in found] == ["", "the comparison ended with exit code 3", ""]
    assert len(list(cache.glob("verdict-*.json"))) == 2


@pytest.mark.slow
@needs_compiler
def test_the_process_that_compares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of its own with the real comparison, on the emulator; the names of torch's dtypes and cells arrive."""
    program = f"""\
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests.engines.cuda_emulator import emulated
from goldfish.engines.cuda import verdict
verdict.machine = lambda device: {MACHINE!r}
with emulated(Path({str(tmp_path)!r})):
    verdict.main(sys.argv[1:])
"""
    monkeypatch.setattr(verdict, "command", lambda: [sys.executable, "-c", program])
    found = verdict.of(RNN(hidden_size=4, num_layers=1, nonlinearity="relu"), torch.float64, CPU)
    assert (found.cell, found.hidden_size, found.dtype, found.reason) == ("rnn-relu", 4, "float64", "")
    assert 0 < found.worst < 1e-14
    assert verdict.remembered(CPU) == [found]


def _as_on_a_gpu(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    """A GPU seems to be here, and the verdict on its kernels is `reason`."""
    monkeypatch.setattr(cuda, "_missing", lambda: "")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(launch, "multiprocessor", lambda device: H100)
    found = verdict.Verdict("gru", 12, "float32", reason, 0.0, 0.0, MACHINE)
    monkeypatch.setattr(verdict, "of", lambda cell, dtype, device: found)


def test_auto_trusts_a_good_verdict_only(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """With a bad one it takes stepwise, and says so once."""
    cell, device = GRU(hidden_size=12, num_layers=1), torch.device("cuda")
    _as_on_a_gpu(monkeypatch, "")
    assert select.choose("auto", cell, device, torch.float32) is cuda
    _as_on_a_gpu(monkeypatch, "its kernels give wrong numbers on this machine: by 0.1")
    select._say.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert select.choose("auto", cell, device, torch.float32) is stepwise
    assert [record.getMessage().count("wrong numbers") for record in caplog.records] == [1]
    with pytest.raises(ValueError, match=r"engine=cuda: its kernels give wrong numbers"):
        select.choose("cuda", cell, device, torch.float32)


def test_a_float64_copy_that_is_too_large(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Of a network that runs in float32: `cuda`, too, takes stepwise for it, and says so once. Others are refused."""
    _as_on_a_gpu(monkeypatch, "")
    device = torch.device("cuda")
    select._say.cache_clear()
    for H in (182, 256):
        cell = LSTM(hidden_size=H, num_layers=1)
        assert select.choose("cuda", cell, device, torch.float32) is cuda
        with caplog.at_level(logging.WARNING):
            assert [select.choose("cuda", cell, device, torch.float64) for _ in range(3)] == [stepwise] * 3
    assert [record.getMessage().count("engine=cuda takes stepwise") for record in caplog.records] == [1, 1]
    assert select.choose("cuda", LSTM(hidden_size=181, num_layers=1), device, torch.float64) is cuda
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(ValueError, match="engine=cuda: W_hh takes"):
            select.choose("cuda", LSTM(hidden_size=257, num_layers=1), device, dtype)


def test_what_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(GRU):
        pass

    _as_on_a_gpu(monkeypatch, "")
    assert cuda.unavailable(GRU(hidden_size=12, num_layers=1), torch.float32) == ""
    assert "not for other" in cuda.unavailable(Other(hidden_size=12, num_layers=1), torch.float32)
    assert "not in bfloat16" in cuda.unavailable(GRU(hidden_size=12, num_layers=1), torch.bfloat16)
    assert "W_hh takes 3.0 MB" in cuda.unavailable(GRU(hidden_size=512, num_layers=1), torch.float32)
    old = plan.Multiprocessor((6, 1), 20, 98304)
    monkeypatch.setattr(launch, "multiprocessor", lambda device: old)
    assert "compute capability is 6.1" in cuda.unavailable(GRU(hidden_size=12, num_layers=1), torch.float32)


@pytest.mark.parametrize(
    ("version", "said"), [("0.4.2", "cuda-core 0.4.2 is too old, expected 0.6 or newer"), ("0.10.0", ""), ("2.0", "")]
)
def test_versions_of_cuda_core(version: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda._missing.cache_clear()
    monkeypatch.setattr(cuda, "_is_there", lambda package: True)
    monkeypatch.setattr(metadata, "version", lambda package: version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for module, name in ((cuda, "_import_core"), (store, "driver"), (store, "compiler")):
        monkeypatch.setattr(module, name, lambda: None)
    try:
        assert cuda._missing().partition(":")[0] == said
    finally:
        cuda._missing.cache_clear()


@pytest.mark.parametrize(
    ("where", "name", "what"),
    [(cuda, "_import_core", "cuda-core"), (store, "driver", "the driver"), (store, "compiler", "NVRTC")],
)
@pytest.mark.parametrize("error", [ImportError("cydriver does not export cuX\nmore"), OSError("no"), KeyError("cuX")])
def test_what_cannot_be_loaded(
    where: Any, name: str, what: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Versions that do not fit each other: auto goes on with stepwise."""

    def fails() -> None:
        raise error

    cuda._missing.cache_clear()
    monkeypatch.setattr(cuda, "_is_there", lambda package: True)
    monkeypatch.setattr(metadata, "version", lambda package: "1.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for module, other in ((cuda, "_import_core"), (store, "driver"), (store, "compiler")):
        monkeypatch.setattr(module, other, lambda: None)
    monkeypatch.setattr(where, name, fails)
    select._say.cache_clear()
    try:
        reason = cuda.unavailable(GRU(hidden_size=12, num_layers=1), torch.float32)
        cell, device = GRU(hidden_size=12, num_layers=1), torch.device("cuda")
        assert select.choose("auto", cell, device, torch.float32) is stepwise
    finally:
        cuda._missing.cache_clear()
    assert reason.startswith(f"{what} cannot be loaded ({str(error).splitlines()[0]})")


def test_whatever_an_engine_raises_auto_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning; an engine that was asked for is refused in one line."""

    class DriverError(Exception):
        pass

    def fails(cell: Any, dtype: torch.dtype) -> str:
        raise DriverError("CUDA_ERROR_UNKNOWN\nand more")

    monkeypatch.setattr(cuda, "unavailable", fails)
    cell, device = GRU(hidden_size=12, num_layers=1), torch.device("cuda")
    select._say.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert select.choose("auto", cell, device, torch.float32) is stepwise
    assert [record.getMessage().count("DriverError: CUDA_ERROR_UNKNOWN") for record in caplog.records] == [1]
    with pytest.raises(ValueError, match="engine=cuda: it cannot be loaded: DriverError: CUDA_ERROR_UNKNOWN; use"):
        select.choose("cuda", cell, device, torch.float32)


def test_without_cuda_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the extra; and nothing of CUDA is imported to find out."""
    cuda._missing.cache_clear()
    monkeypatch.setattr(cuda, "_is_there", lambda package: False)
    try:
        reason = cuda.unavailable(RNN(hidden_size=12, num_layers=1), torch.float32)
        assert cuda.verdicts() == []
    finally:
        cuda._missing.cache_clear()
    assert reason == "cuda-core is not installed: pip install 'goldfish-rnn[cuda]'"
    assert not cuda._is_there("goldfish_has_no_such.package")


def test_a_name_says_what_it_is_made_from() -> None:
    assert store.key("a", 1) != store.key("a", "1")
