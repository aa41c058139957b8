"""The CUDA engine on the CPU: the very same kernel sources, compiled by g++ under cuda_emulator.h."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.engines.reference import Case
from torch import Tensor

from goldfish.engines import cuda, select
from goldfish.engines.cuda import launch, source
from goldfish.engines.cuda.plan import Multiprocessor

CASES = [Case("rnn", name, "cuda") for name in ("tanh", "relu", "identity", "sigmoid")]
CASES += [Case("lstm", None, "cuda"), Case("gru", None, "cuda")]
each_cuda_case = pytest.mark.parametrize("case", CASES, ids=str)

COMPILER = shutil.which("g++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no g++ to compile the CUDA kernels for the CPU")
H100 = Multiprocessor((9, 0), 132, 232448, 8)
A100 = Multiprocessor((8, 0), 108, 166912)
_NAMES = {source.GEMM: ("gemm",), source.SUMS: ("add_up", "norms")}
_ERRORS = {
    1: "some threads wait for others that left or wait elsewhere",
    2: "a write beyond the block's shared memory",
    3: "an asynchronous copy that is not aligned",
    4: "an asynchronous copy that nothing waits for",
}


class Emulator:
    """Stands in for `launch.launch` and `launch.multiprocessor`.

    Args:
        folder: where compiled kernels lie.
        gpu: the device to plan for.
        seed: of the order in which threads run; 0 is their own.
        guard: whether every tensor is moved between NaNs, so that no kernel reads or writes beyond its end unnoticed.
        flags: of the compiler, beside its usual ones.
    """

    def __init__(
        self,
        folder: Path,
        gpu: Multiprocessor = H100,
        seed: int = 0,
        guard: bool = False,
        flags: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.gpu, self.seed, self.guard, self.flags = folder, gpu, seed, guard, flags
        self.launched: list[launch.Kernel] = []
        self.clock: Callable[[launch.Kernel], float] | None = (
            None  # what a kernel seems to take; None: nothing is timed
        )

    def multiprocessor(self, device: torch.device) -> Multiprocessor:
        assert device.type == "cpu"
        return self.gpu

    def can_time(self, device: torch.device) -> bool:
        return self.clock is not None

    def seconds(self, kernel: launch.Kernel, grid: tuple[int, int, int], arguments: Sequence[launch.Argument]) -> float:
        for _ in range(2):
            self.launch(kernel, grid, arguments)
        assert self.clock is not None
        return self.clock(kernel)

    def launch(self, kernel: launch.Kernel, grid: tuple[int, int, int], arguments: Sequence[launch.Argument]) -> None:
        self.launched.append(kernel)
        assert kernel.shared_memory <= self.gpu.shared_memory
        assert kernel.threads <= 1024
        cluster = dict(kernel.macros).get("CLUSTER", 1)
        assert cluster <= self.gpu.cluster
        assert grid[0] % cluster == 0
        assert all(0 < n <= limit for n, limit in zip(grid, (2**31 - 1, 65535, 65535), strict=True))
        library = _library(self.folder, kernel.source, kernel.macros, self.flags)
        pointer = ctypes.c_void_p.in_dll(library, f"emulate_{kernel.name}").value
        assert pointer is not None
        guarded = [_Guarded(a) if self.guard and isinstance(a, Tensor) else None for a in arguments]
        values = [_value(a if g is None else g.inside) for a, g in zip(arguments, guarded, strict=True)]
        run = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint64, ctypes.c_size_t,
            *map(type, values),
        )(pointer)  # fmt: skip
        numbers = (ctypes.c_uint * 3)(*grid)
        error = run(ctypes.addressof(numbers), cluster, kernel.threads, self.seed, kernel.shared_memory, *values)
        if error:
            raise RuntimeError(f"{kernel.source} {kernel.name}: {_ERRORS[error]}")
        for g in guarded:
            if g is not None:
                g.put_back(kernel)


class _Guarded:
    """A copy of a tensor's storage between NaNs."""

    EDGE = 64

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        first = tensor.detach()
        size = sum((n - 1) * stride for n, stride in zip(first.shape, first.stride(), strict=True)) + 1
        self.flat = first.as_strided((size,), (1,))
        fill = torch.nan if tensor.dtype.is_floating_point else -(2**31)
        self.whole = torch.full((size + 2 * self.EDGE,), fill, dtype=tensor.dtype)
        self.edge = self.whole.clone()
        self.inside = self.whole[self.EDGE : -self.EDGE]
        self.inside.copy_(self.flat)

    def put_back(self, kernel: launch.Kernel) -> None:
        self.flat.copy_(self.inside)
        for part in (slice(None, self.EDGE), slice(-self.EDGE, None)):
            same = torch.equal(self.whole[part].nan_to_num(7), self.edge[part].nan_to_num(7))
            assert same, f"{kernel.source} {kernel.name} wrote beyond a tensor of shape {tuple(self.tensor.shape)}"


def _value(argument: Any) -> Any:
    if argument is None:
        return ctypes.c_void_p(None)
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    return (ctypes.c_int32 if isinstance(argument, np.int32) else ctypes.c_int64)(int(argument))


_ON_A_GPU = "extern __shared__ Four memory[];"
_HERE = "Four *const memory = reinterpret_cast<Four *>(emulator::shared());"
_loaded: dict[str, ctypes.CDLL] = {}
_counter = itertools.count()


def _library(folder: Path, name: str, macros: tuple[tuple[str, int], ...], flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    key = "-".join([name, *(str(value) for _, value in macros), *flags])
    if key not in _loaded:
        kernels = _NAMES.get(name, ("forward", "backward"))
        exported = "\n".join(f"auto emulate_{k} = &emulator::Emulated<{k}>::run;" for k in kernels)
        _loaded[key] = compile_for_cpu(folder, key, source.text(name), macros, exported, flags)
    return _loaded[key]


def _for_cpu(code: str) -> str:
    """A source with the emulator's own hardware and shared memory."""
    return code.replace(source.part(source.HARDWARE), "").replace(_ON_A_GPU, _HERE)


def compile_for_cpu(
    folder: Path,
    key: str,
    code: str,
    macros: tuple[tuple[str, int], ...],
    exported: str,
    further: tuple[str, ...] = (),
) -> ctypes.CDLL:
    """A source under cuda_emulator.h, and behind it what is to be called from here."""
    header = Path(__file__).with_name("cuda_emulator.h")
    number = next(_counter)
    file, library = folder / f"{number}.cpp", folder / f"{number}.so"
    file.write_text(f'#include "{header}"\n{_for_cpu(code)}\nextern "C" {{\n{exported}\n}}\n', encoding="utf-8")
    assert COMPILER is not None
    flags = ["-O1", "-std=c++17", "-march=native", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-shared", "-fPIC", "-w"]
    defined = [f"-D{name}={value}" for name, value in macros]
    subprocess.run([COMPILER, *flags, *further, *defined, str(file), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


@contextmanager
def emulated(folder: Path, **options: Any) -> Iterator[Emulator]:
    """engine=cuda runs on CPU tensors through an Emulator, in all but the launches the same code as on a GPU."""
    emulator, choose = Emulator(folder, **options), select.choose

    def chosen(engine: str, *others: Any) -> Any:
        return cuda if engine == "cuda" else choose(engine, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "launch", emulator.launch)
        patch.setattr(launch, "can_time", emulator.can_time)
        patch.setattr(launch, "seconds", emulator.seconds)
        patch.setattr(launch, "multiprocessor", emulator.multiprocessor)
        patch.setattr(select, "choose", chosen)
        yield emulator
