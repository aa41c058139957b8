"""Products over whole sequences in IEEE arithmetic, whose bits depend neither on the pack nor on TF32 settings.

cuBLAS picks its algorithm by the number of matrices, so a replica's last bits would depend on its pack.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from goldfish.engines.cuda import launch
from goldfish.engines.cuda.source import GEMM

TILE, THREADS = 64, 256  # as in gemm.cuh
_SHARED = 2 * 16 * (TILE + 4)  # numbers


def project(inputs: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """W x + b: (R, M, D), (R, N, D), (R, N) → (R, M, N), into `out`."""
    R, M, D = inputs.shape
    return _gemm(inputs, weight, bias, None, out, (R, M, weight.shape[1], D), chunk=D, ones=False)


def to_weights(source: Tensor, adjoints: Tensor, initial: Tensor | None = None) -> Tensor:
    """The gradients of a weight and of its bias: Σ over rows of [source, 1] and the adjoints.

    Args:
        source: (R, K, D), what the weight was multiplied with, row by row.
        adjoints: (R, K, N).
        initial: (R, B, D): the source's first rows, before its own, of which then the last B are left out.

    Returns:
        (R, D + 1, N): the weight's gradient transposed, then the bias's.
    """
    (R, K, D), N = source.shape, adjoints.shape[2]
    chunk = chunk_length(K)
    chunks = -(-K // chunk)
    parts = adjoints.new_empty(R, chunks, D + 1, N)
    _gemm(source.mT, adjoints.mT, None, initial, parts, (R, D + 1, N, K), chunk, ones=True)
    if chunks == 1:
        return parts[:, 0]
    out, size = adjoints.new_empty(R, D + 1, N), (D + 1) * N
    arguments: list[launch.Argument] = [parts, out, np.int64(size), np.int32(chunks)]
    launch.launch(_kernel("add_up", adjoints), (-(-size // THREADS), R, 1), arguments)
    return out


def chunk_length(K: int) -> int:
    """Rows that are added up in one chain: enough for 64 chunks, at least 128; a function of K alone."""
    return max(128, math.ceil(K / 64 / 16) * 16)


def _kernel(name: str, like: Tensor) -> launch.Kernel:
    double = like.dtype == torch.float64
    shared = _SHARED * like.element_size() if name == "gemm" else 0
    return launch.Kernel(GEMM, (("DOUBLE", int(double)),), name, THREADS, shared)


def _gemm(
    a: Tensor, b: Tensor, bias: Tensor | None, initial: Tensor | None, out: Tensor, shape: tuple[int, int, int, int],
    chunk: int, ones: bool,
) -> Tensor:  # fmt: skip
    """out (R, chunks, M, N) = Σ_k a(m, k) b(n, k); a (R, M, K), but for a last row of ones; b (R, N, K)."""
    R, M, N, K = shape
    chunks = -(-K // chunk)
    numbers = [M, N, K, chunk, chunks, 0 if initial is None else initial.shape[1], M - 1 if ones else M]
    arguments: list[launch.Argument] = [
        a,
        initial,
        b,
        bias,
        out,
        *map(np.int64, (*a.stride(), *b.stride())),
        *map(np.int32, numbers),
    ]
    launch.launch(_kernel("gemm", out), (-(-M // TILE), -(-N // TILE), R * chunks), arguments)
    return out
