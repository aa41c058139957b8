"""Vanilla RNN, row by row; equations and adjoint as in goldfish.cells.rnn.

Saved of each step: the slope φ'(a_t), from the pre-activation a_t: 1 - h² has no digits left where h has come to ±1.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from goldfish.engines.cpu import field
from goldfish.engines.cpu.functions import OPTIONS, ones, positive, sigmoid, tanh
from goldfish.engines.cpu.product import AHEAD, ask, clear_padding, lanes, product
from goldfish.engines.cpu.vector import at, at_least, load, pointer, read, store

GATES, SAVED, STATES, ADJOINTS = 1, 1, 1, 1  # widths in units of H


@njit(**OPTIONS)
def forward(
    f: Any, real: Any, r: int, b: int, M: int, first: int, steps: int, saved: Any, saved_t: int, h: Any, h_t: int,
    h_before: Any, c_before: Any,
) -> None:  # fmt: skip
    """h_t = φ(W_ih x_t + W_hh h_{t-1} + b) of M rows, over `steps` steps from `first`."""
    H, D, X_T, X_B = read(f, field.H), read(f, field.D), read(f, field.X_T), read(f, field.X_B)
    hidden = read(f, field.HIDDEN)
    nonlinearity = read(f, field.NONLINEARITY)
    x = at(pointer(read(f, field.X), real), r * read(f, field.X_R) + b * X_B + first * X_T)
    weight_ih = at(pointer(read(f, field.WEIGHT_IH), real), r * D * H)
    weight_hh = at(pointer(read(f, field.WEIGHT_HH), real), r * H * H)
    bias = at(pointer(read(f, field.BIAS), real), r * H)
    for t in range(steps):
        a, now = at(saved, t * saved_t), at(h, t * h_t)
        product(M, H, a, H, bias, 0, D, at(x, t * X_T), X_B, 1, weight_ih, H, h_before, H, 1, weight_hh, H)
        if hidden < H:
            clear_padding(a, M, H, 1, H, hidden)
        ask(at(a, AHEAD * saved_t), M * H)
        ask(at(now, AHEAD * h_t), M * H)
        for j in range(0, M * H, lanes(a)):
            before = load(a, j)
            if nonlinearity == 1:
                after, slope = tanh(before)
            elif nonlinearity == 2:
                after, slope = at_least(before, 0.0), positive(before)
            elif nonlinearity == 3:
                after = sigmoid(before)
                slope = after * sigmoid(0.0 - before)
            else:
                after, slope = before, ones(before)
            store(now, j, after)
            store(a, j, slope)
        h_before = now


@njit(**OPTIONS)
def adjoint(H: int, row: Any, saved: Any, h_before: Any, c_before: Any, d: Any) -> float:
    """dL/da_t = φ'(a_t) dL/dh_t of one row, from `row` into `d`."""
    for j in range(0, H, lanes(row)):
        store(d, j, load(saved, j) * load(row, j))
    return 0.0


@njit(**OPTIONS)
def back(M: int, H: int, row: Any, zeros: Any, d: Any, weight_hh: Any) -> None:
    """dL/dh_{t-1} = W_hhᵀ dL/da_t, without what reaches h_{t-1} directly."""
    product(M, H, row, H, zeros, 0, H, d, H, 1, weight_hh, 0, d, H, 1, weight_hh, H)


@njit(**OPTIONS)
def to_inputs(M: int, H: int, DX: int, out: Any, zeros: Any, d: Any, weight_ih: Any) -> None:
    """dL/dx_t = W_ihᵀ dL/da_t."""
    product(M, DX, out, DX, zeros, 0, H, d, H, 1, weight_ih, 0, d, H, 1, weight_ih, DX)


@njit(**OPTIONS)
def to_weights(below: int, H: int, width: int, gradient: Any, source: Any, d: Any, rows: int) -> None:
    """Add [x_t, 1, h_{t-1}] dL/da_t over so many rows, `below` numbers of them [x_t, 1]."""
    product(below + H, H, gradient, H, gradient, H, rows, source, 1, width, d, 0, source, 1, width, d, H)
