"""The two passes over a sequence, compiled for one cell and one dtype.

A tile runs the whole sequence alone, chunk after chunk of steps; threads take the next tile from a counter. Either the
forward pass keeps what the backward pass reads of every step, and all steps are one chunk, or it keeps c at the start
of each chunk, and the backward pass runs the chunk again.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numba import cfunc, njit, types

from goldfish.engines.cpu import field, kernel_cache
from goldfish.engines.cpu.adjoint import DOUBLE, arrive, log2_norms, rows_below, scale, source_row, source_width
from goldfish.engines.cpu.functions import OPTIONS
from goldfish.engines.cpu.product import ask, clear_padding
from goldfish.engines.cpu.tile import (
    Tile,
    c_before,
    chunks,
    h_before,
    kept,
    next_tile,
    of_rows,
    of_step,
    strided,
)
from goldfish.engines.cpu.vector import at, doubles, fetch_add, lanes, load, pointer, read, spread, store, write

INLINE = {**OPTIONS, "inline": "always"}  # into the pass: each function on its own is optimised by LLVM once more
AHEAD = 2  # steps between asking for a row and using it
INTEGER = np.int32(0)
C_FUNCTION = types.void(types.CPointer(types.int64))


@cache
def forward(cell: str, dtype: str) -> Any:
    """The forward pass of a cell in float32 or float64: h of every step, and the final states."""
    equations, real = import_module(f"goldfish.engines.cpu.{cell}"), np.dtype(dtype).type(0)

    def run(f: Any) -> None:
        _forward(f, equations, real)

    return _compile(run)


@cache
def backward(cell: str, dtype: str) -> Any:
    """The backward pass of a cell: every adjoint, its norm, and from them every gradient."""
    equations, real = import_module(f"goldfish.engines.cpu.{cell}"), np.dtype(dtype).type(0)

    def run(f: Any) -> None:
        _backward(f, equations, real)

    return _compile(run)


def _compile(run: Any) -> Any:
    with kernel_cache.kept() as keep:
        return cfunc(C_FUNCTION, cache=keep, boundscheck=False, error_model="numpy", nogil=True)(run)


@njit(**INLINE)
def _own_scratch(f: Any, real: Any) -> Any:
    """This thread's stretch of the scratch memory."""
    slot = fetch_add(at(f, field.NEXT_SLOT))
    return at(pointer(read(f, field.SCRATCH), real), slot * read(f, field.SCRATCH_SIZE))


@njit(**INLINE)
def _copy_rows(to: Any, row: int, origin: Any, stride: int, M: int, H: int) -> None:
    """Copy M rows of H numbers, which lie `row` and `stride` apart."""
    for m in range(M):
        for j in range(0, H, lanes(to)):
            store(to, m * row + j, load(origin, m * stride + j))


# forward


@njit(**INLINE)
def _forward(f: Any, cell: Any, real: Any) -> None:
    H, chunk = read(f, field.H), read(f, field.CHUNK)
    scratch, keeps = _own_scratch(f, real), read(f, field.SAVED) != 0
    tile = next_tile(f, cell, real)
    while tile.r < read(f, field.R):
        for k in range(chunks(f)):
            h = of_step(tile, field.OUTPUTS, k * chunk, H, real)
            saved = kept(tile, k) if keeps else scratch
            c = _run_chunk(tile, k, saved, keeps, h, read(f, field.B) * H)
            if cell.SIZES.states > 1:
                _copy_rows(c_before(tile, k + 1), H, c, cell.SIZES.saved * H, tile.M, H)
        tile = next_tile(f, cell, real)


@njit(**INLINE)
def _run_chunk(tile: Tile, k: int, saved: Any, keeps: bool, h: Any, h_t: int) -> Any:
    """Run chunk k; h of step t goes to h + t·h_t, what the backward pass reads of it to `saved`. Returns where c is."""
    f, M, H, hidden, cell = tile.f, tile.M, read(tile.f, field.H), read(tile.f, field.HIDDEN), tile.cell
    S, first = cell.SIZES.saved * H, k * read(f, field.CHUNK)
    before, c, c_row = h_before(tile, first), c_before(tile, k), H
    saved_t = M * S if keeps else 0
    for t in range(min(read(f, field.CHUNK), read(f, field.T) - first)):
        a, now = at(saved, t * saved_t), at(h, t * h_t)
        cell.pre_activations(tile, a, strided(tile, field.X, first + t), before)
        if hidden < H:
            clear_padding(a, M, S, cell.SIZES.adjoints, H, hidden)
        cell.step(tile, a, AHEAD * saved_t, before, c, c_row, now, AHEAD * h_t)
        before, c, c_row = now, at(a, 4 * H), S
    return c


# backward


class _Scratch(NamedTuple):
    """A thread's own memory.

    Attributes:
        zeros: of a row of h or x.
        joint: (rows, states·H): mantissas of the joint adjoint.
        adjoints: (ring, rows, adjoints·H): those of the pre-activations of the steps that are gathered.
        sources: (ring, rows, width): what their weights were multiplied with.
        h: (rows, H), of a step that is run again.
        saved: (chunk, rows, saved·H), of a chunk that is run again.
    """

    zeros: Any
    joint: Any
    adjoints: Any
    sources: Any
    h: Any
    saved: Any


class _Norms(NamedTuple):
    """Squared norms of the adjoints' mantissas, and their exponents, of a tile's rows, up to eight."""

    h: Any
    c: Any
    state: Any
    exponent: Any


@njit(**INLINE)
def _lay_out(f: Any, cell: Any, real: Any) -> _Scratch:
    """The places in this thread's scratch memory, zeros in the first."""
    H, D, DX, rows, ring = (
        read(f, field.H), read(f, field.D), read(f, field.DX), read(f, field.ROWS), read(f, field.RING),
    )  # fmt: skip
    zeros = _own_scratch(f, real)
    for j in range(0, max(H, DX), lanes(zeros)):
        store(zeros, j, spread(0.0, real))
    joint = at(zeros, max(H, DX))
    adjoints = at(joint, rows * cell.SIZES.states * H)
    sources = at(adjoints, ring * rows * cell.SIZES.adjoints * H)
    h = at(sources, ring * rows * source_width(D, H))
    return _Scratch(zeros, joint, adjoints, sources, h, at(h, rows * H))


@njit(**INLINE)
def _backward(f: Any, cell: Any, real: Any) -> None:
    H, T, chunk, ring = read(f, field.H), read(f, field.T), read(f, field.CHUNK), read(f, field.RING)
    scratch, keeps = _lay_out(f, cell, real), read(f, field.SAVED) != 0
    norms = _Norms(doubles(8), doubles(8), doubles(8), doubles(8))
    tile = next_tile(f, cell, real)
    while tile.r < read(f, field.R):
        S, place = cell.SIZES.saved * H, ring
        gradient = _begin(tile, scratch)
        for k in range(chunks(f) - 1, -1, -1):
            first, saved = k * chunk, kept(tile, k) if keeps else scratch.saved
            if not keeps:
                _run_chunk(tile, k, saved, True, scratch.h, 0)
            for t in range(min(first + chunk, T) - 1, first - 1, -1):
                now = at(saved, (t - first) * tile.M * S)
                c, c_row = c_before(tile, k), H
                if t > first:
                    c, c_row = at(now, 4 * H - tile.M * S), S
                place -= 1
                _step_back(tile, scratch, norms, t, place, now, c, c_row)
                if place == 0 or t == 0:
                    _gather(tile, scratch, place, gradient)
                    place = ring
        _end(tile, scratch)
        tile = next_tile(f, cell, real)


@njit(**INLINE)
def _begin(tile: Tile, scratch: _Scratch) -> Any:
    """The joint adjoint is what reaches the final states. Returns where the weights' gradients are summed: zeros."""
    f, H, states = tile.f, read(tile.f, field.H), tile.cell.SIZES.states
    _copy_rows(scratch.joint, states * H, of_rows(tile, field.FINAL_H), H, tile.M, H)
    if states > 1:
        _copy_rows(at(scratch.joint, H), states * H, of_rows(tile, field.FINAL_C), H, tile.M, H)
    size = source_width(read(f, field.D), H) * tile.cell.SIZES.gates * H
    gradient = at(pointer(read(f, field.WEIGHT_GRADIENT), tile.real), tile.job * size)
    for j in range(size):
        write(gradient, j, 0.0)
    return gradient


@njit(**INLINE)
def _step_back(
    tile: Tile, scratch: _Scratch, norms: _Norms, t: int, place: int, saved: Any, c: Any, c_row: int
) -> None:
    """From the adjoint of the state at t to that of the state at t-1, and to the inputs."""
    f, cell, M, H, D = tile.f, tile.cell, tile.M, read(tile.f, field.H), read(tile.f, field.D)
    A = cell.SIZES.adjoints * H
    d, source = at(scratch.adjoints, place * M * A), at(scratch.sources, place * M * source_width(D, H))
    _rows_back(tile, scratch, norms, t, saved, c, c_row, d, source)
    _write_norms(tile, norms, t)
    cell.back(tile, scratch.joint, scratch.zeros, d)
    if read(f, field.WEIGHT_IH_ROWS) != 0:
        dx = of_step(tile, field.INPUT_GRADIENT, t, read(f, field.DX), tile.real)
        cell.to_inputs(tile, dx, scratch.zeros, d)
    exponents = of_step(tile, field.EXPONENT, t, 1, INTEGER)
    for m in range(M):
        e = read(exponents, m)
        if e != 0:
            scale(at(d, m * A), A, e, tile.real)


@njit(**INLINE)
def _rows_back(
    tile: Tile, scratch: _Scratch, norms: _Norms, t: int, saved: Any, c: Any, c_row: int, d: Any, source: Any
) -> None:
    """Row by row: what reaches h_t arrives, its norm is taken, and the pre-activations' adjoints follow from it."""
    f, cell, B, H, D = tile.f, tile.cell, read(tile.f, field.B), read(tile.f, field.H), read(tile.f, field.D)
    S, A, J, W = cell.SIZES.saved * H, cell.SIZES.adjoints * H, cell.SIZES.states * H, source_width(D, H)
    h, x, x_row = h_before(tile, t), strided(tile, field.X, t), read(f, field.X_B)
    direct, direct_row, has_direct = strided(tile, field.DIRECT, t), read(f, field.DIRECT_B), read(f, field.DIRECT) != 0
    x_ahead, direct_ahead = -AHEAD * read(f, field.X_T), -AHEAD * read(f, field.DIRECT_T)
    exponents, is_last = of_step(tile, field.EXPONENT, t, 1, INTEGER), t == read(f, field.T) - 1
    shifts, is_shifted = of_step(tile, field.DIRECT_EXPONENT, t, 1, INTEGER), read(f, field.DIRECT_EXPONENT) != 0
    for m in range(tile.M):
        row, d_m, saved_m, c_m = at(scratch.joint, m * J), at(d, m * A), at(saved, m * S), at(c, m * c_row)
        h_m, x_m, direct_m = at(h, m * H), at(x, m * x_row), at(direct, m * direct_row)
        ask(at(h_m, -AHEAD * B * H), H)
        ask(at(saved_m, -AHEAD * tile.M * S), S)
        ask(at(x_m, x_ahead), D)
        if has_direct:
            ask(at(direct_m, direct_ahead), H)
        exponent = INTEGER if is_last else read(exponents, B + m)
        shift = read(shifts, m) if is_shifted else INTEGER
        e, square_h, square = arrive(row, H, J, exponent, direct_m, has_direct, shift, tile.real)
        write(exponents, m, e)
        write(norms.exponent, m, float(e))
        write(norms.h, m, square_h)
        write(norms.state, m, square)
        write(norms.c, m, cell.adjoint(H, row, saved_m, h_m, c_m, d_m))
        source_row(at(source, m * W), D, H, x_m, h_m)


@njit(**INLINE)
def _write_norms(tile: Tile, norms: _Norms, t: int) -> None:
    """The norms of the tile's rows, of h and where there is a c of both."""
    log2_norms(norms.h, norms.exponent, tile.M, of_step(tile, field.LOG2_NORM_H, t, 1, DOUBLE))
    if tile.cell.SIZES.states > 1:
        log2_norms(norms.c, norms.exponent, tile.M, of_step(tile, field.LOG2_NORM_C, t, 1, DOUBLE))
        log2_norms(norms.state, norms.exponent, tile.M, of_step(tile, field.LOG2_NORM_STATE, t, 1, DOUBLE))


@njit(**INLINE)
def _gather(tile: Tile, scratch: _Scratch, place: int, gradient: Any) -> None:
    """Add the steps in the ring, from `place` to its end, to the weights' gradients."""
    f, H, D, M = tile.f, read(tile.f, field.H), read(tile.f, field.D), tile.M
    width, rows = source_width(D, H), (read(f, field.RING) - place) * M
    source, d = at(scratch.sources, place * M * width), at(scratch.adjoints, place * M * tile.cell.SIZES.adjoints * H)
    tile.cell.to_weights(H, rows_below(D), width, gradient, source, d, rows)


@njit(**INLINE)
def _end(tile: Tile, scratch: _Scratch) -> None:
    """The joint adjoint that is left is the gradient of the initial states."""
    H, states = read(tile.f, field.H), tile.cell.SIZES.states
    exponents = of_step(tile, field.EXPONENT, 0, 1, INTEGER)
    for m in range(tile.M):
        e = read(exponents, m)
        if e != 0:
            scale(at(scratch.joint, m * states * H), states * H, e, tile.real)
    _copy_rows(of_rows(tile, field.INITIAL_H), H, scratch.joint, states * H, tile.M, H)
    if states > 1:
        _copy_rows(of_rows(tile, field.INITIAL_C), H, at(scratch.joint, H), states * H, tile.M, H)
