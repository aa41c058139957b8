"""GRU, row by row; equations and adjoint as in goldfish.cells.gru.

Saved of each step: r, z, n and W_hn h_{t-1} + b_hn. The adjoints of a step are dr, dz, dn and r dn.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from goldfish.engines.cpu import field
from goldfish.engines.cpu.functions import OPTIONS, ones, sigmoid, tanh
from goldfish.engines.cpu.product import AHEAD, ask, clear_padding, lanes, product
from goldfish.engines.cpu.vector import at, fma, load, pointer, read, store

GATES, SAVED, STATES, ADJOINTS = 3, 4, 1, 4  # widths in units of H


@njit(**OPTIONS)
def forward(
    f: Any, real: Any, r: int, b: int, M: int, first: int, steps: int, saved: Any, saved_t: int, h: Any, h_t: int,
    h_before: Any, c_before: Any,
) -> None:  # fmt: skip
    """r, z = σ(…), n = tanh(… + r (W_hn h + b_hn)), h_t = (1 - z) n + z h_{t-1} of M rows, over steps from `first`."""
    H, D, X_T, X_B = read(f, field.H), read(f, field.D), read(f, field.X_T), read(f, field.X_B)
    hidden = read(f, field.HIDDEN)
    G, S = GATES * H, SAVED * H
    x = at(pointer(read(f, field.X), real), r * read(f, field.X_R) + b * X_B + first * X_T)
    weight_ih = at(pointer(read(f, field.WEIGHT_IH), real), r * D * G)
    weight_hh = at(pointer(read(f, field.WEIGHT_HH), real), r * H * G)
    bias = at(pointer(read(f, field.BIAS), real), r * 4 * H)
    for t in range(steps):
        a, now, x_t = at(saved, t * saved_t), at(h, t * h_t), at(x, t * X_T)
        n_x, n_h = at(a, 2 * H), at(a, 3 * H)
        product(M, 2 * H, a, S, bias, 0, D, x_t, X_B, 1, weight_ih, H, h_before, H, 1, weight_hh, G)
        product(M, H, n_x, S, at(bias, 2 * H), 0, D, x_t, X_B, 1, at(weight_ih, 2 * H), 0, x_t, 0, 1, weight_hh, G)
        product(M, H, n_h, S, at(bias, 3 * H), 0, H, h_before, H, 1, at(weight_hh, 2 * H), 0, x_t, 0, 1, weight_hh, G)
        if hidden < H:
            clear_padding(a, M, S, 4, H, hidden)
        for m in range(M):
            gates, h_m, before = at(a, m * S), at(now, m * H), at(h_before, m * H)
            ask(at(gates, AHEAD * saved_t), S)
            ask(at(h_m, AHEAD * h_t), H)
            for j in range(0, H, lanes(a)):
                reset, z = sigmoid(load(gates, j)), sigmoid(load(gates, H + j))
                n = tanh(fma(reset, load(gates, 3 * H + j), load(gates, 2 * H + j)))[0]
                store(gates, j, reset)
                store(gates, H + j, z)
                store(gates, 2 * H + j, n)
                store(h_m, j, fma(z, load(before, j) - n, n))
        h_before = now


@njit(**OPTIONS)
def adjoint(H: int, row: Any, saved: Any, h_before: Any, c_before: Any, d: Any) -> float:
    """dr, dz, dn and r dn of one row into `d`; z dL/dh_t, what passes by W_hh, stays in `row`."""
    one = ones(load(row, 0))
    for j in range(0, H, lanes(row)):
        reset, z, n = load(saved, j), load(saved, H + j), load(saved, 2 * H + j)
        dh = load(row, j)
        dn = dh * (1.0 - z) * fma(0.0 - n, n, one)
        store(d, j, dn * load(saved, 3 * H + j) * (reset * (1.0 - reset)))
        store(d, H + j, dh * (load(h_before, j) - n) * (z * (1.0 - z)))
        store(d, 2 * H + j, dn)
        store(d, 3 * H + j, dn * reset)
        store(row, j, dh * z)
    return 0.0


@njit(**OPTIONS)
def back(M: int, H: int, row: Any, zeros: Any, d: Any, weight_hh: Any) -> None:
    """dL/dh_{t-1} = z dL/dh_t + W_hhᵀ [dr, dz, r dn], without what reaches h_{t-1} directly."""
    product(
        M, H, row, H, row, H,
        2 * H, d, 4 * H, 1, weight_hh, H, at(d, 3 * H), 4 * H, 1, at(weight_hh, 2 * H * H), H,
    )  # fmt: skip


@njit(**OPTIONS)
def to_inputs(M: int, H: int, DX: int, out: Any, zeros: Any, d: Any, weight_ih: Any) -> None:
    """dL/dx_t = W_ihᵀ [dr, dz, dn]."""
    product(M, DX, out, DX, zeros, 0, 3 * H, d, 4 * H, 1, weight_ih, 0, d, 0, 1, weight_ih, DX)


@njit(**OPTIONS)
def to_weights(below: int, H: int, width: int, gradient: Any, source: Any, d: Any, rows: int) -> None:
    """Add [x_t, 1] [dr, dz, dn] and [h_{t-1}, 1] [dr, dz, r dn] over so many rows, `below` numbers of them [x_t, 1]."""
    G = 3 * H
    hidden, lower, n = at(source, below), at(gradient, below * G), at(d, 3 * H)
    product(below, G, gradient, G, gradient, G, rows, source, 1, width, d, 0, d, 1, 0, d, 4 * H)
    product(width - below, 2 * H, lower, G, lower, G, rows, hidden, 1, width, d, 0, d, 1, 0, d, 4 * H)
    lower = at(lower, 2 * H)
    product(width - below, H, lower, G, lower, G, rows, hidden, 1, width, n, 0, d, 1, 0, d, 4 * H)
