"""The vanilla RNN row by row, with equations and adjoint as in goldfish.cells.rnn.

Each step saves the slope φ'(a_t), from the pre-activation a_t: 1 - h² has no digits left where h has come to ±1.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from goldfish.engines import compiled
from goldfish.engines.cpu import field
from goldfish.engines.cpu.functions import OPTIONS, ones, positive, sigmoid, tanh
from goldfish.engines.cpu.product import ask, product
from goldfish.engines.cpu.tile import Tile, of_replica
from goldfish.engines.cpu.vector import at, at_least, lanes, load, read, store

SIZES = compiled.CELLS["rnn"]


@njit(**OPTIONS)
def pre_activations(tile: Tile, a: Any, x: Any, h_before: Any) -> None:
    """a_t = W_ih x_t + W_hh h_{t-1} + b, where the slope of a step is saved."""
    H, D = read(tile.f, field.H), read(tile.f, field.D)
    bias, weight_ih = of_replica(tile, field.BIAS, H), of_replica(tile, field.WEIGHT_IH, D * H)
    weight_hh = of_replica(tile, field.WEIGHT_HH, H * H)
    product(
        tile.M, H, a, H, bias, 0,
        D, x, read(tile.f, field.X_B), 1, weight_ih, H, h_before, H, 1, weight_hh, H,
    )  # fmt: skip


@njit(**OPTIONS)
def step(
    tile: Tile, saved: Any, saved_ahead: int, h_before: Any, c_before: Any, c_row: int, h: Any, h_ahead: int
) -> None:
    """h_t = φ(a_t) of a tile's rows, and φ'(a_t) in place of a_t."""
    nonlinearity, n = read(tile.f, field.NONLINEARITY), tile.M * read(tile.f, field.H)
    ask(at(saved, saved_ahead), n)
    ask(at(h, h_ahead), n)
    for j in range(0, n, lanes(h)):
        a = load(saved, j)
        if nonlinearity == 1:
            after, slope = tanh(a)
        elif nonlinearity == 2:
            after, slope = at_least(a, 0.0), positive(a)
        elif nonlinearity == 3:
            after = sigmoid(a)
            slope = after * sigmoid(0.0 - a)
        else:
            after, slope = a, ones(a)
        store(h, j, after)
        store(saved, j, slope)


@njit(**OPTIONS)
def adjoint(H: int, row: Any, saved: Any, h_before: Any, c_before: Any, d: Any) -> float:
    """dL/da_t = φ'(a_t) dL/dh_t of one row, from `row` into `d`."""
    for j in range(0, H, lanes(row)):
        store(d, j, load(saved, j) * load(row, j))
    return 0.0


@njit(**OPTIONS)
def back(tile: Tile, joint: Any, zeros: Any, d: Any) -> None:
    """dL/dh_{t-1} = W_hhᵀ dL/da_t, without what reaches h_{t-1} directly."""
    H = read(tile.f, field.H)
    weight_hh = of_replica(tile, field.WEIGHT_HH_ROWS, H * H)
    product(tile.M, H, joint, H, zeros, 0, H, d, H, 1, weight_hh, 0, d, H, 1, weight_hh, H)


@njit(**OPTIONS)
def to_inputs(tile: Tile, dx: Any, zeros: Any, d: Any) -> None:
    """dL/dx_t = W_ihᵀ dL/da_t."""
    H, DX = read(tile.f, field.H), read(tile.f, field.DX)
    weight_ih = of_replica(tile, field.WEIGHT_IH_ROWS, H * DX)
    product(tile.M, DX, dx, DX, zeros, 0, H, d, H, 1, weight_ih, 0, d, H, 1, weight_ih, DX)


@njit(**OPTIONS)
def to_weights(H: int, below: int, width: int, gradient: Any, source: Any, d: Any, rows: int) -> None:
    """Add [x_t, 1, h_{t-1}] dL/da_t over so many rows, `below` numbers of them [x_t, 1]."""
    product(below + H, H, gradient, H, gradient, H, rows, source, 1, width, d, 0, source, 1, width, d, H)
