"""Persistent CUDA kernels: each tile of rows runs its whole sequence in one launch, in exact IEEE arithmetic.

Compiled at run time through cuda-core; nothing of CUDA is imported before it is needed. docs/architecture.md tells how.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from goldfish.cells.base import Cell, HandDerivedCell, State
from goldfish.config import registry
from goldfish.engines import compiled

if TYPE_CHECKING:
    from goldfish.engines.cuda.verdict import Verdict
    from goldfish.engines.layers import LayerWeights, Recorder

OLDEST = (7, 0)  # compute capability
OLDEST_CORE = (0, 6)  # of cuda-core: before it, a kernel has no handle to allow shared memory by
_EXTRA = "pip install 'goldfish-rnn[cuda]'"


def unavailable(cell: Cell, dtype: torch.dtype) -> str:
    """Why this engine cannot run a cell in a dtype on the current CUDA device, in one line; "" where it can.

    The first call for a cell, hidden size and dtype on a machine compares the kernels with `eager` in a process of its
    own, which takes some seconds; the verdict is remembered in the user's cache directory.
    """
    from goldfish.engines.cuda import plan

    if reason := compiled.missing(cell, dtype):
        return reason
    assert isinstance(cell, HandDerivedCell)
    return plan.too_large(cell, dtype.itemsize) or _missing() or _distrusted(cell, dtype)


@cache
def _missing() -> str:
    if not all(map(_is_there, ("cuda.core", "cuda.bindings"))):
        return f"cuda-core is not installed: {_EXTRA}"
    if _version("cuda-core") < OLDEST_CORE:
        oldest = ".".join(map(str, OLDEST_CORE))
        return f"cuda-core {metadata.version('cuda-core')} is too old, expected {oldest} or newer: {_EXTRA}"
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    from goldfish.engines.cuda import store

    for what, load in (("cuda-core", _import_core), ("the driver", store.driver), ("NVRTC", store.compiler)):
        try:
            load()
        except Exception as error:  # whatever versions that do not fit each other raise
            return f"{what} cannot be loaded ({_first_line(error)}): {_EXTRA}"
    return ""


def _import_core() -> None:
    from cuda.core import Device, LaunchConfig, ObjectCode, Program, ProgramOptions, launch  # noqa: F401


def _version(package: str) -> tuple[int, ...]:
    """The first two numbers of a package's version, such as (0, 6)."""
    return tuple(map(int, re.findall(r"\d+", metadata.version(package))[:2]))


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even its parent
        return False


def _distrusted(cell: HandDerivedCell, dtype: torch.dtype) -> str:
    from goldfish.engines.cuda import launch, plan, verdict

    device = torch.device("cuda", torch.cuda.current_device())
    gpu = launch.multiprocessor(device)
    if gpu.capability < OLDEST:
        return (
            f"this GPU's compute capability is {gpu.capability[0]}.{gpu.capability[1]}, below {OLDEST[0]}.{OLDEST[1]}"
        )
    if plan.lay_out(cell, dtype.itemsize, 1, gpu) is None:
        return f"hidden_size={cell.hidden_size} does not fit this GPU's shared memory"
    return verdict.of(cell, dtype, device).reason


def only_in_single(cell: Cell, dtype: torch.dtype) -> bool:
    """Whether W_hh is too large for this engine in float64, and is not in float32.

    A run that trains in float32 measures a copy of its network in float64.
    """
    from goldfish.engines.cuda import plan

    if compiled.missing(cell, dtype) or dtype != torch.float64:
        return False
    assert isinstance(cell, HandDerivedCell)
    return bool(plan.too_large(cell, 8)) and not plan.too_large(cell, 4)


def verdicts() -> list[Verdict]:
    """The verdicts on the current CUDA device's kernels: every cell's at H = 32 and 128, and all remembered ones.

    Empty where the engine cannot run at all: `unavailable` says why.
    """
    if _missing():
        return []
    from goldfish.engines.cuda import verdict

    device = torch.device("cuda", torch.cuda.current_device())
    cells = [registry.load("cell", name)(hidden_size=H, num_layers=1) for H in (32, 128) for name in compiled.CELLS]
    verdict.of_all([verdict.asked(cell, dtype) for dtype in (torch.float32, torch.float64) for cell in cells], device)
    return verdict.remembered(device)


def run(
    cell: HandDerivedCell,
    inputs: Tensor,
    weights: Sequence[LayerWeights],
    initial: Sequence[State],
    recorder: Recorder,
    pool: dict[Any, list[Tensor]],
) -> tuple[Tensor, list[State]]:
    """Run every layer over all steps; arguments and results as `stepwise.run`."""
    from goldfish.engines.cuda import function

    return function.run(cell, inputs, weights, initial, recorder, pool)
