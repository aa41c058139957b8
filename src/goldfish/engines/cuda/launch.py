"""The start of a kernel on the tensors' device and stream; cuda-core compiles it at run time, once on a machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goldfish import files
from goldfish.engines import operands
from goldfish.engines.cuda import store
from goldfish.engines.cuda.plan import CLUSTERS, Multiprocessor
from goldfish.engines.cuda.source import text

Argument = Tensor | np.int32 | np.int64 | None  # None is a null pointer
_UNASKED = 48 * 1024  # bytes of shared memory that a block may take without asking


@dataclass(frozen=True)
class Kernel:
    """One kernel: which source with which constants, its name there, threads of a block and bytes of shared memory."""

    source: str
    macros: tuple[tuple[str, int], ...]
    name: str
    threads: int
    shared_memory: int


class _Stream:
    """A torch stream as cuda-core takes one."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._handle


def multiprocessor(device: torch.device) -> Multiprocessor:
    """The resources of the device's multiprocessors."""
    with torch.cuda.device(device):
        return _multiprocessor(torch.cuda.current_device())


@cache
def _multiprocessor(index: int) -> Multiprocessor:
    from cuda.bindings import driver

    gpu: Any = torch.cuda.get_device_properties(index)
    has_clusters = driver.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_CLUSTER_LAUNCH
    error, clusters = driver.cuDeviceGetAttribute(has_clusters, driver.CUdevice(index))
    usable = gpu.major >= 9 and error == driver.CUresult.CUDA_SUCCESS and bool(clusters)
    return Multiprocessor(
        (gpu.major, gpu.minor),
        gpu.multi_processor_count,
        gpu.shared_memory_per_block_optin,
        CLUSTERS[-1] if usable else 1,
    )


def launch(kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[Argument]) -> None:
    """Start a kernel on the current stream of the first argument's device; all tensors live there."""
    from cuda.core import Device
    from cuda.core import launch as start

    first = next(argument for argument in arguments if isinstance(argument, Tensor))
    with torch.cuda.device(first.device):
        index = torch.cuda.current_device()
        Device(index).set_current()  # autograd's thread may not have a context yet
        stream = _Stream(torch.cuda.current_stream().cuda_stream)
        config = _config(grid, kernel.threads, kernel.shared_memory)
        start(stream, config, _loaded(kernel, index), *[_value(argument) for argument in arguments])


def can_time(device: torch.device) -> bool:
    """Whether kernels can be timed now: on a GPU, and not while they are recorded for a graph."""
    return device.type == "cuda" and not torch.cuda.is_current_stream_capturing()


def seconds(kernel: Kernel, grid: tuple[int, int, int], arguments: Sequence[Argument]) -> float:
    """How long a kernel takes, on average of three after a first one; the host waits for it."""
    repeats = 3
    first = next(argument for argument in arguments if isinstance(argument, Tensor))
    with torch.cuda.device(first.device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        launch(kernel, grid, arguments)
        start.record()
        for _ in range(repeats):
            launch(kernel, grid, arguments)
        end.record()
        end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / repeats


@lru_cache(maxsize=1024)
def _config(grid: tuple[int, int, int], threads: int, shared_memory: int) -> Any:
    from cuda.core import LaunchConfig

    return LaunchConfig(grid=grid, block=(threads, 1, 1), shmem_size=shared_memory)


def _value(argument: Argument) -> Any:
    if argument is None:
        return np.int64(0)
    return operands.address(argument) if isinstance(argument, Tensor) else argument


@cache
def _loaded(kernel: Kernel, index: int) -> Any:
    """The kernel on a device, allowed the shared memory that it needs."""
    loaded = _module(kernel.source, kernel.macros, index).get_kernel(kernel.name)
    if kernel.shared_memory > _UNASKED:
        from cuda.bindings import driver

        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        (error,) = driver.cuKernelSetAttribute(attribute, kernel.shared_memory, loaded.handle, driver.CUdevice(index))
        if error != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"{kernel.name} is refused {kernel.shared_memory} bytes of shared memory: {error}")
    return loaded


@cache
def _module(source: str, macros: tuple[tuple[str, int], ...], index: int) -> Any:
    from cuda.core import ObjectCode

    major, minor = torch.cuda.get_device_capability(index)
    return ObjectCode.from_cubin(compiled(source, macros, f"sm_{major}{minor}"))


def compiled(source: str, macros: tuple[tuple[str, int], ...], architecture: str) -> bytes:
    """A source's machine code for an architecture, "sm_90": from the user's cache, else from NVRTC (half a second)."""
    from cuda.core import Program, ProgramOptions

    code = text(source)
    key = store.key(code, macros, architecture, store.compiler())
    machine_code = files.read_cache(store.PART, f"{key}.cubin")
    if machine_code is None:
        program = Program(code, "c++", ProgramOptions(**options(macros, architecture)))
        machine_code = bytes(program.compile("cubin").code)
        files.write_cache(store.PART, f"{key}.cubin", machine_code)
    return machine_code


def options(macros: tuple[tuple[str, int], ...], architecture: str) -> dict[str, Any]:
    """NVRTC's options: IEEE arithmetic, and no contraction, for every fused multiply-add is written out."""
    return {
        "std": "c++17",
        "arch": architecture,
        "fma": False,
        "ftz": False,
        "prec_div": True,
        "prec_sqrt": True,
        "define_macro": [(name, str(value)) for name, value in macros],
    }
