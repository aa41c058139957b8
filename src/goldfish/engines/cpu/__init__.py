"""The compiled CPU engine: each tile of rows runs its whole sequence alone, in vectors of the machine's width."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from goldfish.cells.base import Cell, HandDerivedCell, State
from goldfish.engines import compiled, operands

if TYPE_CHECKING:
    from goldfish.engines.layers import LayerWeights, Recorder


def unavailable(cell: Cell, dtype: torch.dtype) -> str:
    """Why this engine cannot run a cell in a dtype on this machine, in one line; "" where it can."""
    return compiled.missing(cell, dtype) or _missing()


@cache
def _missing() -> str:
    try:
        import llvmlite.binding as llvm
        import numba  # noqa: F401
    except ImportError as error:
        return f"numba cannot be imported: {error}"
    x86 = llvm.get_process_triple().startswith(("x86_64", "amd64"))
    if x86 and not llvm.get_host_cpu_features().get("fma"):
        return "this processor has no fused multiply-add"
    return ""


@cache
def load(cell: str, dtype: str) -> ModuleType:
    """Have the kernels of a cell ("lstm", "float64") ready: loaded where they are kept, else compiled and kept.

    Where several processes need them at once, one compiles and the others wait for it. Returns goldfish.engines.cpu's
    `function`, which runs them.
    """
    from goldfish.engines.cpu import function, kernel_cache

    with kernel_cache.alone(f"{cell}-{dtype}"):
        try:
            _load(cell, dtype)
        except Exception:  # whatever a damaged file raises
            if not kernel_cache.forget():
                raise
            _load(cell, dtype)
    return function


def _load(cell: str, dtype: str) -> None:
    from goldfish.engines.cpu import passes

    passes.forward(cell, dtype)
    passes.backward(cell, dtype)


def load_kept() -> None:
    """Load all kernels that are kept, tens of milliseconds each: processes forked afterwards have them for nothing."""
    if _missing():
        return
    from goldfish.engines.cpu import kernel_cache

    for name in kernel_cache.names():
        load(*name.split("-"))


def run(
    cell: HandDerivedCell,
    inputs: Tensor,
    weights: Sequence[LayerWeights],
    initial: Sequence[State],
    recorder: Recorder,
    pool: dict[Any, list[Tensor]],
    recompute: bool | None = None,
) -> tuple[Tensor, list[State]]:
    """Run every layer over all steps: see goldfish.engines.cpu.function.run."""
    operands.check(cell, inputs, weights, initial)
    function = load(compiled.name(cell), compiled.DTYPES[inputs.dtype])
    return function.run(cell, inputs, weights, initial, recorder, pool, recompute)
