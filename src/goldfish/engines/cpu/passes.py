"""The two passes over a sequence, compiled for one cell and one dtype.

A job is one tile of rows of one replica. It runs the whole sequence alone; threads take the next job from a counter.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import cfunc, njit, types

from goldfish.engines.cpu import field, gru, lstm, rnn
from goldfish.engines.cpu.adjoint import DOUBLE, arrive, log2_norms, rows_below, scale, source_row, source_width
from goldfish.engines.cpu.functions import OPTIONS
from goldfish.engines.cpu.kernel_cache import kept
from goldfish.engines.cpu.product import AHEAD, ask, lanes
from goldfish.engines.cpu.vector import at, doubles, fetch_add, load, pointer, read, spread, store, write

CELLS = {"rnn": rnn, "lstm": lstm, "gru": gru}
RNN, LSTM, GRU = range(3)
INTEGER = np.int32(0)
C_FUNCTION = types.void(types.CPointer(types.int64))


@njit(**OPTIONS)
def next_job(f: Any) -> int:
    """The next tile that no thread has taken, -1 where none is left."""
    job = fetch_add(at(f, field.NEXT_JOB))
    return job if job < read(f, field.R) * read(f, field.TILES) else -1


@njit(**OPTIONS)
def own_scratch(f: Any, real: Any) -> Any:
    """This thread's stretch of the scratch memory."""
    slot = fetch_add(at(f, field.NEXT_SLOT))
    return at(pointer(read(f, field.SCRATCH), real), slot * read(f, field.SCRATCH_SIZE))


@njit(**OPTIONS)
def tensor(f: Any, which: int, index: int, real: Any) -> Any:
    """One of the described tensors, from so many numbers on."""
    return at(pointer(read(f, which), real), index)


@njit(**OPTIONS)
def copy_rows(to: Any, origin: Any, M: int, H: int, stride: int) -> None:
    """Copy M rows of H numbers that lie `stride` apart."""
    for m in range(M):
        for j in range(0, H, lanes(to)):
            store(to, m * H + j, load(origin, m * stride + j))


def _compile(run: Any) -> Any:
    with kept() as keep:
        return cfunc(C_FUNCTION, cache=keep, **OPTIONS)(run)


@cache
def forward(cell: str, dtype: str) -> Any:
    """The forward pass of a cell in float32 or float64.

    It runs chunk after chunk; where nothing is kept, c at the start of each is all that the backward pass needs.
    """
    kind, width, real = list(CELLS).index(cell), CELLS[cell].SAVED, np.dtype(dtype).type(0)

    def run(f: Any) -> None:
        T, B, H = read(f, field.T), read(f, field.B), read(f, field.H)
        rows, tiles, chunk = read(f, field.ROWS), read(f, field.TILES), read(f, field.CHUNK)
        S, chunks = width * H, (T + chunk - 1) // chunk
        scratch, kept = own_scratch(f, real), read(f, field.SAVED) != 0
        while True:
            job = next_job(f)
            if job < 0:
                break
            r, b = job // tiles, job % tiles * rows
            M = min(rows, B - b)
            for k in range(chunks):
                first = k * chunk
                steps = min(chunk, T - first)
                h = tensor(f, field.OUTPUTS, ((r * T + first) * B + b) * H, real)
                h_before = at(h, -B * H) if first > 0 else tensor(f, field.H0, (r * B + b) * H, real)
                saved, saved_t, c_before = scratch, 0, h_before
                if kept:
                    saved, saved_t = tensor(f, field.SAVED, ((r * B + b) * T + first * M) * S, real), M * S
                if kind == LSTM:
                    c_before = tensor(f, field.C0, (r * B + b) * H, real)
                    if first > 0:
                        c_before = tensor(f, field.CELL, ((r * chunks + k) * B + b) * H, real)
                    lstm.forward(f, real, r, b, M, first, steps, saved, saved_t, h, B * H, h_before, c_before)
                    c_after = tensor(f, field.C_LAST, (r * B + b) * H, real)
                    if k < chunks - 1:
                        c_after = tensor(f, field.CELL, ((r * chunks + k + 1) * B + b) * H, real)
                    copy_rows(c_after, at(saved, (steps - 1) * saved_t + 4 * H), M, H, S)
                elif kind == GRU:
                    gru.forward(f, real, r, b, M, first, steps, saved, saved_t, h, B * H, h_before, c_before)
                else:
                    rnn.forward(f, real, r, b, M, first, steps, saved, saved_t, h, B * H, h_before, c_before)

    return _compile(run)


@cache
def backward(cell: str, dtype: str) -> Any:
    """The backward pass of a cell: every adjoint, its norm, and from them every gradient."""
    module, real = CELLS[cell], np.dtype(dtype).type(0)
    kind, width, states, adjoints, gates = (
        list(CELLS).index(cell),
        module.SAVED,
        module.STATES,
        module.ADJOINTS,
        module.GATES,
    )

    def run(f: Any) -> None:
        T, B, H = read(f, field.T), read(f, field.B), read(f, field.H)
        D, DX, X_T, X_B = read(f, field.D), read(f, field.DX), read(f, field.X_T), read(f, field.X_B)
        rows, tiles, chunk, ring = (
            read(f, field.ROWS), read(f, field.TILES), read(f, field.CHUNK), read(f, field.RING),
        )  # fmt: skip
        direct_t, direct_b = read(f, field.DIRECT_T), read(f, field.DIRECT_B)
        has_direct, has_exponent = read(f, field.DIRECT) != 0, read(f, field.DIRECT_EXPONENT) != 0
        to_inputs, kept = read(f, field.WEIGHT_IH_ROWS) != 0, read(f, field.SAVED) != 0
        S, A, J, G = width * H, adjoints * H, states * H, gates * H
        chunks, below, wide = (T + chunk - 1) // chunk, rows_below(D), source_width(D, H)
        zeros = own_scratch(f, real)
        joint = at(zeros, max(H, DX))
        adjoint = at(joint, rows * J)
        source = at(adjoint, ring * rows * A)
        again_h = at(source, ring * rows * wide)
        again = at(again_h, rows * H)
        for j in range(0, max(H, DX), lanes(zeros)):
            store(zeros, j, spread(0.0, real))
        of_h, of_c, of_state, powers = doubles(8), doubles(8), doubles(8), doubles(8)  # squared norms of a tile's rows
        while True:
            job = next_job(f)
            if job < 0:
                break
            r, b = job // tiles, job % tiles * rows
            M = min(rows, B - b)
            x = tensor(f, field.X, r * read(f, field.X_R) + b * X_B, real)
            h = tensor(f, field.OUTPUTS, (r * T * B + b) * H, real)
            weight_hh = tensor(f, field.WEIGHT_HH_ROWS, r * G * H, real)
            weight_ih = tensor(f, field.WEIGHT_IH_ROWS, r * G * DX, real)
            direct = tensor(f, field.DIRECT, r * read(f, field.DIRECT_R) + b * direct_b, real)
            gradient = tensor(f, field.WEIGHT_GRADIENT, job * wide * G, real)
            for j in range(wide * G):
                write(gradient, j, 0.0)
            for m in range(M):
                final = (r * B + b + m) * H
                for j in range(0, H, lanes(joint)):
                    store(joint, m * J + j, load(tensor(f, field.FINAL_H, final, real), j))
                    if kind == LSTM:
                        store(joint, m * J + H + j, load(tensor(f, field.FINAL_C, final, real), j))
            place = ring
            for k in range(chunks - 1, -1, -1):
                first = k * chunk
                steps = min(chunk, T - first)
                initial = tensor(f, field.H0, (r * B + b) * H, real)
                c_first = initial
                if kind == LSTM:
                    c_first = tensor(f, field.C0, (r * B + b) * H, real)
                    if first > 0:
                        c_first = tensor(f, field.CELL, ((r * chunks + k) * B + b) * H, real)
                saved, saved_t = again, M * S
                if kept:
                    saved, saved_t = tensor(f, field.SAVED, ((r * B + b) * T + first * M) * S, real), M * S
                else:
                    h_first = at(h, (first - 1) * B * H) if first > 0 else initial
                    if kind == LSTM:
                        lstm.forward(f, real, r, b, M, first, steps, saved, saved_t, again_h, 0, h_first, c_first)
                    elif kind == GRU:
                        gru.forward(f, real, r, b, M, first, steps, saved, saved_t, again_h, 0, h_first, c_first)
                    else:
                        rnn.forward(f, real, r, b, M, first, steps, saved, saved_t, again_h, 0, h_first, c_first)
                for t in range(first + steps - 1, first - 1, -1):
                    place -= 1
                    now = at(saved, (t - first) * saved_t)
                    h_before = at(h, (t - 1) * B * H) if t > 0 else initial
                    c_before, c_row = c_first, H
                    if t > first:
                        c_before, c_row = at(now, 4 * H - saved_t), S
                    d, here = at(adjoint, place * M * A), at(source, place * M * wide)
                    sample = (r * T + t) * B + b
                    exponents = tensor(f, field.EXPONENT, sample, INTEGER)
                    for m in range(M):
                        row, d_m, h_m = at(joint, m * J), at(d, m * A), at(h_before, m * H)
                        ask(at(h, ((t - 1 - AHEAD) * B + m) * H), H)
                        ask(at(now, m * S - AHEAD * saved_t), S)
                        ask(at(x, (t - AHEAD) * X_T + m * X_B), D)
                        if has_direct:
                            ask(at(direct, (t - AHEAD) * direct_t + m * direct_b), H)
                        exponent = read(exponents, B + m) if t < T - 1 else INTEGER
                        shift = 0
                        if has_exponent:
                            shift = read(tensor(f, field.DIRECT_EXPONENT, sample, INTEGER), m)
                        direct_m = at(direct, t * direct_t + m * direct_b)
                        e, square_h, square = arrive(row, H, J, exponent, direct_m, has_direct, shift, real)
                        write(exponents, m, e)
                        write(powers, m, float(e))
                        write(of_h, m, square_h)
                        if kind == LSTM:
                            square_c = lstm.adjoint(H, row, at(now, m * S), h_m, at(c_before, m * c_row), d_m)
                            write(of_c, m, square_c)
                            write(of_state, m, square)
                        elif kind == GRU:
                            gru.adjoint(H, row, at(now, m * S), h_m, h_m, d_m)
                        else:
                            rnn.adjoint(H, row, at(now, m * S), h_m, h_m, d_m)
                        source_row(at(here, m * wide), D, H, at(x, t * X_T + m * X_B), h_m)
                    log2_norms(of_h, powers, M, tensor(f, field.LOG2_NORM_H, sample, DOUBLE))
                    if kind == LSTM:
                        log2_norms(of_c, powers, M, tensor(f, field.LOG2_NORM_C, sample, DOUBLE))
                        log2_norms(of_state, powers, M, tensor(f, field.LOG2_NORM_STATE, sample, DOUBLE))
                    if kind == LSTM:
                        lstm.back(M, H, joint, zeros, d, weight_hh)
                    elif kind == GRU:
                        gru.back(M, H, joint, zeros, d, weight_hh)
                    else:
                        rnn.back(M, H, joint, zeros, d, weight_hh)
                    if to_inputs:
                        dx = tensor(f, field.INPUT_GRADIENT, sample * DX, real)
                        if kind == LSTM:
                            lstm.to_inputs(M, H, DX, dx, zeros, d, weight_ih)
                        elif kind == GRU:
                            gru.to_inputs(M, H, DX, dx, zeros, d, weight_ih)
                        else:
                            rnn.to_inputs(M, H, DX, dx, zeros, d, weight_ih)
                    for m in range(M):
                        e = read(exponents, m)
                        if e != 0:
                            scale(at(d, m * A), A, e, real)
                    if place == 0 or t == 0:
                        count = (ring - place) * M
                        if kind == LSTM:
                            lstm.to_weights(below, H, wide, gradient, here, d, count)
                        elif kind == GRU:
                            gru.to_weights(below, H, wide, gradient, here, d, count)
                        else:
                            rnn.to_weights(below, H, wide, gradient, here, d, count)
                        place = ring
            for m in range(M):
                e = read(tensor(f, field.EXPONENT, r * T * B + b, INTEGER), m)
                row, at_start = at(joint, m * J), (r * B + b + m) * H
                if e != 0:
                    scale(row, J, e, real)
                for j in range(0, H, lanes(row)):
                    store(tensor(f, field.INITIAL_H, at_start, real), j, load(row, j))
                    if kind == LSTM:
                        store(tensor(f, field.INITIAL_C, at_start, real), j, load(row, H + j))

    return _compile(run)
