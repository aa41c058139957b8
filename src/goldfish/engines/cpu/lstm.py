"""The LSTM row by row, with equations and adjoint as in goldfish.cells.lstm.

Each step saves i, f, g, o and c_t. The backward pass computes tanh c_t again, with a slope that keeps its digits.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from goldfish.engines import compiled
from goldfish.engines.cpu import field
from goldfish.engines.cpu.functions import OPTIONS, ones, sigmoid, tanh
from goldfish.engines.cpu.product import ask, product
from goldfish.engines.cpu.tile import Tile, of_replica
from goldfish.engines.cpu.vector import at, fma, lanes, load, read, store, total

SIZES = compiled.CELLS["lstm"]


@njit(**OPTIONS)
def pre_activations(tile: Tile, a: Any, x: Any, h_before: Any) -> None:
    """W_ih x_t + W_hh h_{t-1} + b of i, f, g and o, into what is saved of a step."""
    H, D = read(tile.f, field.H), read(tile.f, field.D)
    G, S = SIZES.gates * H, SIZES.saved * H
    bias, weight_ih = of_replica(tile, field.BIAS, G), of_replica(tile, field.WEIGHT_IH, D * G)
    weight_hh = of_replica(tile, field.WEIGHT_HH, H * G)
    product(
        tile.M, G, a, S, bias, 0,
        D, x, read(tile.f, field.X_B), 1, weight_ih, H, h_before, H, 1, weight_hh, G,
    )  # fmt: skip


@njit(**OPTIONS)
def step(
    tile: Tile, saved: Any, saved_ahead: int, h_before: Any, c_before: Any, c_row: int, h: Any, h_ahead: int
) -> None:
    """i, f, o = σ(…), g = tanh(…), c_t = f c_{t-1} + i g and h_t = o tanh c_t of a tile's rows."""
    H = read(tile.f, field.H)
    for m in range(tile.M):
        a, h_m, c_m = at(saved, m * 5 * H), at(h, m * H), at(c_before, m * c_row)
        ask(at(a, saved_ahead), 5 * H)
        ask(at(h_m, h_ahead), H)
        for j in range(0, H, lanes(h)):
            i, forget = sigmoid(load(a, j)), sigmoid(load(a, H + j))
            g, o = tanh(load(a, 2 * H + j))[0], sigmoid(load(a, 3 * H + j))
            c = fma(forget, load(c_m, j), i * g)
            store(a, j, i)
            store(a, H + j, forget)
            store(a, 2 * H + j, g)
            store(a, 3 * H + j, o)
            store(a, 4 * H + j, c)
            store(h_m, j, o * tanh(c)[0])


@njit(**OPTIONS)
def adjoint(H: int, row: Any, saved: Any, h_before: Any, c_before: Any, d: Any) -> float:
    """dL/d(gates)_t of one row into `d`; e_t becomes e_{t-1} in `row`. Returns ‖dL/dc_t‖² of the total dL/dc_t."""
    one = ones(load(row, 0))
    square = 0.0 * one
    for j in range(0, H, lanes(row)):
        i, forget, g, o = load(saved, j), load(saved, H + j), load(saved, 2 * H + j), load(saved, 3 * H + j)
        tanh_c, slope = tanh(load(saved, 4 * H + j))
        dh = load(row, j)
        dc = fma(dh * o, slope, load(row, H + j))
        square = fma(dc, dc, square)
        store(d, j, dc * g * (i * (1.0 - i)))
        store(d, H + j, dc * load(c_before, j) * (forget * (1.0 - forget)))
        store(d, 2 * H + j, dc * i * fma(0.0 - g, g, one))
        store(d, 3 * H + j, dh * tanh_c * (o * (1.0 - o)))
        store(row, H + j, dc * forget)
    return total(square)


@njit(**OPTIONS)
def back(tile: Tile, joint: Any, zeros: Any, d: Any) -> None:
    """dL/dh_{t-1} = W_hhᵀ dL/d(gates)_t, without what reaches h_{t-1} directly."""
    H = read(tile.f, field.H)
    weight_hh = of_replica(tile, field.WEIGHT_HH_ROWS, 4 * H * H)
    product(tile.M, H, joint, 2 * H, zeros, 0, 4 * H, d, 4 * H, 1, weight_hh, 0, d, 0, 1, weight_hh, H)


@njit(**OPTIONS)
def to_inputs(tile: Tile, dx: Any, zeros: Any, d: Any) -> None:
    """dL/dx_t = W_ihᵀ dL/d(gates)_t."""
    H, DX = read(tile.f, field.H), read(tile.f, field.DX)
    weight_ih = of_replica(tile, field.WEIGHT_IH_ROWS, 4 * H * DX)
    product(tile.M, DX, dx, DX, zeros, 0, 4 * H, d, 4 * H, 1, weight_ih, 0, d, 0, 1, weight_ih, DX)


@njit(**OPTIONS)
def to_weights(H: int, below: int, width: int, gradient: Any, source: Any, d: Any, rows: int) -> None:
    """Add [x_t, 1, h_{t-1}] dL/d(gates)_t over so many rows, `below` numbers of them [x_t, 1]."""
    G = 4 * H
    product(below + H, G, gradient, G, gradient, G, rows, source, 1, width, d, 0, source, 1, width, d, G)
