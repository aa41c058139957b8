"""The cells that the engines `cpu` and `cuda` have kernels for, and how many numbers each of them takes."""

from __future__ import annotations

from typing import NamedTuple

import torch

from goldfish.cells.base import Cell


class Sizes(NamedTuple):
    """Widths of a cell's buffers, in units of H.

    Attributes:
        gates: of W_hh's rows, and of the gradient of the weights.
        states: h, and c where there is one.
        adjoints: of a step's pre-activations. The GRU has W_in x + b_in and W_hn h + b_hn apart, and so an adjoint of
            each.
        saved: what the engine `cpu` keeps of each step for its backward pass.
    """

    gates: int
    states: int
    adjoints: int
    saved: int


CELLS = {
    "rnn": Sizes(gates=1, states=1, adjoints=1, saved=1),
    "lstm": Sizes(gates=4, states=2, adjoints=4, saved=5),
    "gru": Sizes(gates=3, states=1, adjoints=4, saved=4),
}
PLACE = "goldfish.cells"  # another package may have an "lstm" of its own, with other equations
NONLINEARITIES = ("identity", "tanh", "relu", "sigmoid")  # of the rnn, as the kernels count them
DTYPES = {torch.float32: "float32", torch.float64: "float64"}


def name(cell: Cell) -> str:
    """The name of a cell's class in the registry."""
    return type(cell).__name__.lower()


def missing(cell: Cell, dtype: torch.dtype) -> str:
    """Why there are no kernels for a cell in a dtype, in one line; "" where both engines have them."""
    own = name(cell)
    if own not in CELLS or type(cell).__module__ != f"{PLACE}.{own}":
        return f"it has kernels for rnn, lstm and gru, not for {own} of {type(cell).__module__}"
    if dtype not in DTYPES:
        return f"it computes in float32 and float64, not in {str(dtype).removeprefix('torch.')}"
    return ""
