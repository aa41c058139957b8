"""The matrix product C = start + (A·V + B·W), computed in registers, one tile of C at a time.

Every entry of the sum is one chain of fused multiply-adds in the order of k: it does not depend on the tiles. The start
comes last: it is often the largest term, and a chain that began with it would round every other to its last digit.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import config, njit, types
from numba.extending import intrinsic

from goldfish.engines.cpu.functions import OPTIONS
from goldfish.engines.cpu.vector import (
    at,
    call_llvm,
    constant,
    first_lanes,
    lanes,
    load,
    load_vector,
    prefetch,
    splat,
    store,
    store_vector,
    vector_of,
)

I64 = ir.IntType(64)
# 32 registers of 64 bytes hold a tile of 8 rows × 2 vectors; 16 of 32 bytes one of 4 rows × 1 vector
WIDE = "+avx512f" in (config.CPU_FEATURES or llvm.get_host_cpu_features().flatten()).split(",")
ROWS, VECTORS = (8, 2) if WIDE else (4, 1)


def _tile(rows: int, vectors: int) -> Any:
    """The product for so many rows and vectors of columns; the unrolling is all that is generated."""

    @intrinsic
    def tile(
        typing: Any, out: Any, ldo: Any, start: Any, lds: Any, a: Any, a_row: Any, a_step: Any, v: Any, K: Any,
        b: Any, b_row: Any, b_step: Any, w: Any, L: Any, ldw: Any,
    ) -> Any:  # fmt: skip
        kind = vector_of(out.dtype)

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            out, ldo, start, lds, a, a_row, a_step, v, K, b, b_row, b_step, w, L, ldw = arguments
            tile = [constant(kind, 0.0)] * (rows * vectors)
            tile = _multiply_add(builder, kind, tile, (a, a_row, a_step), (v, ldw), K, rows, vectors)
            tile = _multiply_add(builder, kind, tile, (b, b_row, b_step), (w, ldw), L, rows, vectors)
            for index, value in enumerate(tile):
                m, n = divmod(index, vectors)
                first = load_vector(builder, kind, _entry(builder, start, m, lds, n * kind.lanes))
                store_vector(builder, kind, builder.fadd(first, value), _entry(builder, out, m, ldo, n * kind.lanes))
            return context.get_dummy_value()

        p, i = out, types.int64
        return types.void(p, i, p, i, p, i, i, p, i, p, i, i, p, i, i), emit

    return tile


def _entry(builder: Any, base: Any, row: int, stride: Any, column: int) -> Any:
    """LLVM: the address of an entry."""
    return builder.gep(base, [builder.add(builder.mul(I64(row), stride), I64(column))])


def _multiply_add(
    builder: Any, kind: Any, tile: list[Any], left: Any, right: Any, K: Any, rows: int, vectors: int
) -> list[Any]:
    """LLVM: tile[m, n] += Σ_k left[m, k] · right[k, n], as a loop over k with the tile in registers."""
    (a, a_row, a_step), (w, ldw) = left, right
    before = builder.block
    loop, after = builder.append_basic_block("product"), builder.append_basic_block("product.end")
    builder.cbranch(builder.icmp_signed(">", K, I64(0)), loop, after)
    builder.position_at_end(loop)
    k = builder.phi(I64)
    k.add_incoming(I64(0), before)
    entering = []
    for value in tile:
        entering.append(builder.phi(kind.llvm))
        entering[-1].add_incoming(value, before)
    source, panel = builder.mul(k, a_step), builder.mul(k, ldw)
    columns = [
        load_vector(builder, kind, builder.gep(w, [builder.add(panel, I64(n * kind.lanes))])) for n in range(vectors)
    ]
    summed = []
    for m in range(rows):
        scalar = builder.load(builder.gep(a, [builder.add(builder.mul(I64(m), a_row), source)]))
        factor = splat(builder, kind, scalar)
        for n in range(vectors):
            summed.append(call_llvm(builder, "fma", kind, [factor, columns[n], entering[m * vectors + n]]))
    following = builder.add(k, I64(1))
    k.add_incoming(following, loop)
    for phi, value in zip(entering, summed, strict=True):
        phi.add_incoming(value, loop)
    builder.cbranch(builder.icmp_signed("<", following, K), loop, after)
    builder.position_at_end(after)
    leaving = []
    for value, value_after in zip(tile, summed, strict=True):
        leaving.append(builder.phi(kind.llvm))
        leaving[-1].add_incoming(value, before)
        leaving[-1].add_incoming(value_after, loop)
    return leaving


_tall, _short, _single = _tile(ROWS, VECTORS), _tile(4, VECTORS), _tile(1, VECTORS)
_tall_narrow, _short_narrow, _single_narrow = _tile(ROWS, 1), _tile(4, 1), _tile(1, 1)


@njit(**OPTIONS)
def ask(row: Any, n: int) -> None:
    """Prefetch a row of n numbers, even outside the buffer: a step's rows lie pages away from the last one's."""
    for j in range(0, n, lanes(row)):
        prefetch(row, j)


@njit(**OPTIONS)
def product(M, N, out, ldo, start, lds, K, a, a_row, a_step, v, L, b, b_row, b_step, w, ldw):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
    """out[m, n] = start[m, n] + Σ_{k<K} a[m, k] v[k, n] + Σ_{k<L} b[m, k] w[k, n].

    Pointers and strides: `out` and `start` have rows of ldo and lds numbers (lds = 0: one row for all), a[m, k] is at
    m·a_row + k·a_step, `v` and `w` have rows of ldw. N is a multiple of a vector's lanes; `out` may be `start`.
    """
    n = 0
    while n < N:
        m = 0
        wide = N - n >= VECTORS * lanes(out)
        V, W = at(v, n), at(w, n)
        while m < M:
            C, S, A, B = at(out, m * ldo + n), at(start, m * lds + n), at(a, m * a_row), at(b, m * b_row)
            if M - m >= ROWS:
                if wide:
                    _tall(C, ldo, S, lds, A, a_row, a_step, V, K, B, b_row, b_step, W, L, ldw)
                else:
                    _tall_narrow(C, ldo, S, lds, A, a_row, a_step, V, K, B, b_row, b_step, W, L, ldw)
                m += ROWS
            elif M - m >= 4:
                if wide:
                    _short(C, ldo, S, lds, A, a_row, a_step, V, K, B, b_row, b_step, W, L, ldw)
                else:
                    _short_narrow(C, ldo, S, lds, A, a_row, a_step, V, K, B, b_row, b_step, W, L, ldw)
                m += 4
            else:
                if wide:
                    _single(C, ldo, S, lds, A, a_row, a_step, V, K, B, b_row, b_step, W, L, ldw)
                else:
                    _single_narrow(C, ldo, S, lds, A, a_row, a_step, V, K, B, b_row, b_step, W, L, ldw)
                m += 1
        n += VECTORS * lanes(out) if wide else lanes(out)


@njit(**OPTIONS)
def clear_padding(rows: Any, M: int, width: int, gates: int, H: int, hidden: int) -> None:
    """Zero in the units from `hidden` on, of so many gates of H units, in M rows: their zero weights make NaN of ±∞."""
    last = H - lanes(rows)
    for m in range(M):
        for gate in range(gates):
            at_last = m * width + gate * H + last
            store(rows, at_last, first_lanes(load(rows, at_last), hidden - last))
