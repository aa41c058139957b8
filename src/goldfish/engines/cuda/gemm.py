"""Products over whole sequences in IEEE arithmetic, whose bits depend neither on the pack nor on TF32 settings.

cuBLAS picks its algorithm by the number of matrices, so a replica's last bits would depend on its pack.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from goldfish.engines.cuda import launch
from goldfish.engines.cuda.source import GEMM, SUMS

TILES = ((128, 128), (128, 64), (64, 64), (64, 32))  # (m, n) of a block; a choice among them changes no bit
STEP, STAGES, OWN = 8, 3, 8  # as in gemm.cuh
SUM_THREADS = 256  # as in sums.cuh
_ENOUGH = 264  # blocks that fill a GPU: smaller tiles where there would be fewer


def project(inputs: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """W x + b: (R, M, D), (R, N, D), (R, N) → (R, M, N), into `out`."""
    R, M, D = inputs.shape
    return _gemm(inputs, None, weight, bias, None, out, (R, M, weight.shape[1], D), chunk=D)


def to_weights(source: Tensor, adjoints: Tensor, tail: Tensor | None = None, initial: Tensor | None = None) -> Tensor:
    """The gradients of weights and of their bias: Σ over rows of [source, tail, 1] and the adjoints.

    Args:
        source: (R, K, D), what a weight was multiplied with, row by row.
        adjoints: (R, K, N), contiguous.
        tail: (R, K, E), what a second weight was multiplied with, contiguous.
        initial: (R, B, D): the source's first rows, before its own, of which then the last B are left out.

    Returns:
        (R, D + E + 1, N): the weights' gradients transposed, then the bias's.
    """
    (R, K, D), N = source.shape, adjoints.shape[2]
    M = D + (0 if tail is None else tail.shape[2]) + 1
    chunk = chunk_length(K)
    chunks = -(-K // chunk)
    parts = adjoints.new_empty(R, chunks, M, N)
    _gemm(source.mT, tail, adjoints.mT, None, initial, parts, (R, M, N, K), chunk)
    if chunks == 1:
        return parts[:, 0]
    out, size = adjoints.new_empty(R, M, N), M * N
    arguments: list[launch.Argument] = [parts, out, np.int64(size), np.int32(chunks)]
    launch.launch(_sums("add_up", out), (R * -(-size // SUM_THREADS), 1, 1), arguments)
    return out


def norms(rows: Tensor) -> Tensor:
    """The Euclidean norm of every row, (R, n) → (R,): squares are summed in float64, in an order set by n alone."""
    rows = rows.detach() if rows.stride(1) == 1 or rows.shape[1] == 1 else rows.detach().contiguous()
    R, size = rows.shape
    out = rows.new_zeros(R)
    if R and size:
        arguments: list[launch.Argument] = [rows, out, np.int64(rows.stride(0)), np.int64(size)]
        launch.launch(_sums("norms", rows), (R, 1, 1), arguments)
    return out


def chunk_length(K: int) -> int:
    """Rows that are added up in one chain: enough for 64 chunks, at least 128; a function of K alone."""
    return max(128, math.ceil(K / 64 / 16) * 16)


def tile(M: int, N: int, parts: int) -> tuple[int, int]:
    """The (m, n) of a block that computes the fewest numbers beyond the matrix, and the larger one of two such.

    Args:
        M: rows of the product.
        N: columns of the product.
        parts: products, each cut into tiles of its own.
    """

    def cost(tile: tuple[int, int]) -> tuple[bool, int]:
        tiles = -(-M // tile[0]) * -(-N // tile[1])
        return tile[0] * tile[1] > 64 * 64 and parts * tiles < _ENOUGH, tiles * tile[0] * tile[1]

    return min(TILES, key=cost)


def _kernel(double: bool, m: int, n: int) -> launch.Kernel:
    size = 8 if double else 4
    shared = STAGES * STEP * (m + n + 2 * 16 // size) * size
    macros = (("DOUBLE", int(double)), ("TILE_M", m), ("TILE_N", n))
    return launch.Kernel(GEMM, macros, "gemm", m * n // OWN**2, shared)


def _sums(name: str, like: Tensor) -> launch.Kernel:
    shared = SUM_THREADS // 32 * 8 if name == "norms" else 0
    return launch.Kernel(SUMS, (("DOUBLE", int(like.dtype == torch.float64)),), name, SUM_THREADS, shared)


def _gemm(
    a: Tensor, tail: Tensor | None, b: Tensor, bias: Tensor | None, initial: Tensor | None, out: Tensor,
    shape: tuple[int, int, int, int], chunk: int,
) -> Tensor:  # fmt: skip
    """out (R, chunks, M, N) = Σ_k left(m, k) b(n, k): left: rows of a (R, ·, K), of tail, and ones; b (R, N, K)."""
    R, M, N, K = shape
    chunks, own = -(-K // chunk), a.shape[1]
    width, head = 0 if tail is None else tail.shape[2], 0 if initial is None else initial.shape[1]
    wide = _wide(a) and (initial is None or initial.data_ptr() % 16 == 0)
    flags = wide + 2 * _wide(b) + 4 * (N * out.element_size() % 16 == 0 and out.data_ptr() % 16 == 0)
    m, n = tile(M, N, R * chunks)
    arguments: list[launch.Argument] = [
        a, tail, initial, b, bias, out,
        *map(np.int64, (*a.stride(), *b.stride())),
        *map(np.int32, (M, N, K, chunk, chunks, own, width, head, flags)),
    ]  # fmt: skip
    grid = R * chunks * -(-M // m) * -(-N // n)
    launch.launch(_kernel(out.dtype == torch.float64, m, n), (grid, 1, 1), arguments)
    return out


def _wide(matrix: Tensor) -> bool:
    """Whether 16 bytes that lie along the rows of a (R, rows, K) start on 16 bytes everywhere."""
    size = matrix.element_size()
    return (
        matrix.stride(1) == 1
        and matrix.shape[1] * size % 16 == 0
        and matrix.stride(0) * size % 16 == 0
        and matrix.stride(2) * size % 16 == 0
        and matrix.data_ptr() % 16 == 0
    )
