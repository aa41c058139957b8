"""LSTM, row by row; equations and adjoint as in goldfish.cells.lstm.

Saved of each step: i, f, g, o and c_t. The backward pass takes tanh c_t again, with a slope that keeps its digits.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from goldfish.engines.cpu import field
from goldfish.engines.cpu.functions import OPTIONS, ones, sigmoid, tanh
from goldfish.engines.cpu.product import AHEAD, ask, clear_padding, lanes, product
from goldfish.engines.cpu.vector import at, fma, load, pointer, read, store, total

GATES, SAVED, STATES, ADJOINTS = 4, 5, 2, 4  # widths in units of H


@njit(**OPTIONS)
def forward(
    f: Any, real: Any, r: int, b: int, M: int, first: int, steps: int, saved: Any, saved_t: int, h: Any, h_t: int,
    h_before: Any, c_before: Any,
) -> None:  # fmt: skip
    """i, f, o = σ(…), g = tanh(…), c_t = f c_{t-1} + i g, h_t = o tanh c_t of M rows, over steps from `first`."""
    H, D, X_T, X_B = read(f, field.H), read(f, field.D), read(f, field.X_T), read(f, field.X_B)
    hidden = read(f, field.HIDDEN)
    G, S = GATES * H, SAVED * H
    x = at(pointer(read(f, field.X), real), r * read(f, field.X_R) + b * X_B + first * X_T)
    weight_ih = at(pointer(read(f, field.WEIGHT_IH), real), r * D * G)
    weight_hh = at(pointer(read(f, field.WEIGHT_HH), real), r * H * G)
    bias = at(pointer(read(f, field.BIAS), real), r * G)
    c_row = H
    for t in range(steps):
        a, now = at(saved, t * saved_t), at(h, t * h_t)
        product(M, G, a, S, bias, 0, D, at(x, t * X_T), X_B, 1, weight_ih, H, h_before, H, 1, weight_hh, G)
        if hidden < H:
            clear_padding(a, M, S, 4, H, hidden)
        for m in range(M):
            gates, c, h_m, before = at(a, m * S), at(a, m * S + 4 * H), at(now, m * H), at(c_before, m * c_row)
            ask(at(gates, AHEAD * saved_t), S)
            ask(at(h_m, AHEAD * h_t), H)
            for j in range(0, H, lanes(a)):
                i, forget = sigmoid(load(gates, j)), sigmoid(load(gates, H + j))
                g, o = tanh(load(gates, 2 * H + j))[0], sigmoid(load(gates, 3 * H + j))
                c_t = fma(forget, load(before, j), i * g)
                store(gates, j, i)
                store(gates, H + j, forget)
                store(gates, 2 * H + j, g)
                store(gates, 3 * H + j, o)
                store(c, j, c_t)
                store(h_m, j, o * tanh(c_t)[0])
        h_before, c_before, c_row = now, at(a, 4 * H), S


@njit(**OPTIONS)
def adjoint(H: int, row: Any, saved: Any, h_before: Any, c_before: Any, d: Any) -> float:
    """dL/d(gates)_t of one row into `d`; e_t becomes e_{t-1} in `row`. Returns ‖dL/dc_t‖² of the total dL/dc_t."""
    one = ones(load(row, 0))
    found = 0.0 * one
    for j in range(0, H, lanes(row)):
        i, forget, g, o = load(saved, j), load(saved, H + j), load(saved, 2 * H + j), load(saved, 3 * H + j)
        tanh_c, slope = tanh(load(saved, 4 * H + j))
        dh = load(row, j)
        dc = fma(dh * o, slope, load(row, H + j))
        found = fma(dc, dc, found)
        store(d, j, dc * g * (i * (1.0 - i)))
        store(d, H + j, dc * load(c_before, j) * (forget * (1.0 - forget)))
        store(d, 2 * H + j, dc * i * fma(0.0 - g, g, one))
        store(d, 3 * H + j, dh * tanh_c * (o * (1.0 - o)))
        store(row, H + j, dc * forget)
    return total(found)


@njit(**OPTIONS)
def back(M: int, H: int, row: Any, zeros: Any, d: Any, weight_hh: Any) -> None:
    """dL/dh_{t-1} = W_hhᵀ dL/d(gates)_t, without what reaches h_{t-1} directly."""
    product(M, H, row, 2 * H, zeros, 0, 4 * H, d, 4 * H, 1, weight_hh, 0, d, 0, 1, weight_hh, H)


@njit(**OPTIONS)
def to_inputs(M: int, H: int, DX: int, out: Any, zeros: Any, d: Any, weight_ih: Any) -> None:
    """dL/dx_t = W_ihᵀ dL/d(gates)_t."""
    product(M, DX, out, DX, zeros, 0, 4 * H, d, 4 * H, 1, weight_ih, 0, d, 0, 1, weight_ih, DX)


@njit(**OPTIONS)
def to_weights(below: int, H: int, width: int, gradient: Any, source: Any, d: Any, rows: int) -> None:
    """Add [x_t, 1, h_{t-1}] dL/d(gates)_t over so many rows, `below` numbers of them [x_t, 1]."""
    G = 4 * H
    product(below + H, G, gradient, G, gradient, G, rows, source, 1, width, d, 0, source, 1, width, d, G)
