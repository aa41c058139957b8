"""The GRU row by row, with equations and adjoint as in goldfish.cells.gru.

Each step saves r, z, n and W_hn h_{t-1} + b_hn. The adjoints of a step are dr, dz, dn and r dn.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from goldfish.engines import compiled
from goldfish.engines.cpu import field
from goldfish.engines.cpu.functions import OPTIONS, ones, sigmoid, tanh
from goldfish.engines.cpu.product import ask, product
from goldfish.engines.cpu.tile import Tile, of_replica
from goldfish.engines.cpu.vector import at, fma, lanes, load, read, store

SIZES = compiled.CELLS["gru"]


@njit(**OPTIONS)
def pre_activations(tile: Tile, a: Any, x: Any, h_before: Any) -> None:
    """W_ih x_t + W_hh h_{t-1} + b of r and z, W_in x_t + b_in and W_hn h_{t-1} + b_hn, into what is saved of a step."""
    M, H, D, x_row = tile.M, read(tile.f, field.H), read(tile.f, field.D), read(tile.f, field.X_B)
    G, S = SIZES.gates * H, SIZES.saved * H
    bias, weight_ih = of_replica(tile, field.BIAS, 4 * H), of_replica(tile, field.WEIGHT_IH, D * G)
    weight_hh = of_replica(tile, field.WEIGHT_HH, H * G)
    weight_in, weight_hn = at(weight_ih, 2 * H), at(weight_hh, 2 * H)
    product(M, 2 * H, a, S, bias, 0, D, x, x_row, 1, weight_ih, H, h_before, H, 1, weight_hh, G)
    product(M, H, at(a, 2 * H), S, at(bias, 2 * H), 0, D, x, x_row, 1, weight_in, 0, x, 0, 1, weight_hh, G)
    product(M, H, at(a, 3 * H), S, at(bias, 3 * H), 0, H, h_before, H, 1, weight_hn, 0, x, 0, 1, weight_hh, G)


@njit(**OPTIONS)
def step(
    tile: Tile, saved: Any, saved_ahead: int, h_before: Any, c_before: Any, c_row: int, h: Any, h_ahead: int
) -> None:
    """r, z = σ(…), n = tanh(… + r (W_hn h_{t-1} + b_hn)) and h_t = (1 - z) n + z h_{t-1} of a tile's rows."""
    H = read(tile.f, field.H)
    for m in range(tile.M):
        a, h_m, before = at(saved, m * 4 * H), at(h, m * H), at(h_before, m * H)
        ask(at(a, saved_ahead), 4 * H)
        ask(at(h_m, h_ahead), H)
        for j in range(0, H, lanes(h)):
            reset, z = sigmoid(load(a, j)), sigmoid(load(a, H + j))
            n = tanh(fma(reset, load(a, 3 * H + j), load(a, 2 * H + j)))[0]
            store(a, j, reset)
            store(a, H + j, z)
            store(a, 2 * H + j, n)
            store(h_m, j, fma(z, load(before, j) - n, n))


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
def back(tile: Tile, joint: Any, zeros: Any, d: Any) -> None:
    """dL/dh_{t-1} = z dL/dh_t + W_hhᵀ [dr, dz, r dn], without what reaches h_{t-1} directly."""
    H = read(tile.f, field.H)
    weight_hh = of_replica(tile, field.WEIGHT_HH_ROWS, 3 * H * H)
    product(
        tile.M, H, joint, H, joint, H,
        2 * H, d, 4 * H, 1, weight_hh, H, at(d, 3 * H), 4 * H, 1, at(weight_hh, 2 * H * H), H,
    )  # fmt: skip


@njit(**OPTIONS)
def to_inputs(tile: Tile, dx: Any, zeros: Any, d: Any) -> None:
    """dL/dx_t = W_ihᵀ [dr, dz, dn]."""
    H, DX = read(tile.f, field.H), read(tile.f, field.DX)
    weight_ih = of_replica(tile, field.WEIGHT_IH_ROWS, 3 * H * DX)
    product(tile.M, DX, dx, DX, zeros, 0, 3 * H, d, 4 * H, 1, weight_ih, 0, d, 0, 1, weight_ih, DX)


@njit(**OPTIONS)
def to_weights(H: int, below: int, width: int, gradient: Any, source: Any, d: Any, rows: int) -> None:
    """Add [x_t, 1] [dr, dz, dn] and [h_{t-1}, 1] [dr, dz, r dn] over so many rows, `below` numbers of them [x_t, 1]."""
    G = 3 * H
    hidden, lower, n = at(source, below), at(gradient, below * G), at(d, 3 * H)
    product(below, G, gradient, G, gradient, G, rows, source, 1, width, d, 0, d, 1, 0, d, 4 * H)
    product(width - below, 2 * H, lower, G, lower, G, rows, hidden, 1, width, d, 0, d, 1, 0, d, 4 * H)
    lower = at(lower, 2 * H)
    product(width - below, H, lower, G, lower, G, rows, hidden, 1, width, n, 0, d, 1, 0, d, 4 * H)
