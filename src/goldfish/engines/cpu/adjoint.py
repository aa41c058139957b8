"""The part of the adjoint recursion that all cells share: arrival, norms, exponents, and rows for weights' gradients.

The adjoint of a sample is mantissa · 2^exponent. The mantissa's norm is kept near one, so that no float32 underflows
while a gradient vanishes over thousands of steps; scaling by a power of two changes no digit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from goldfish.engines.cpu.functions import OPTIONS, log2
from goldfish.engines.cpu.vector import absolute, at, fma, lanes, largest, load, read, spread, store, total, write

LOW, HIGH = 2.0**-40, 2.0**40  # squared norms between these need no new exponent
FAINT, LIFT = 2.0**-90, 2.0**75  # squares below FAINT have lost digits: they are taken again, lifted
DOUBLE = np.float64(0)
REACH = 60  # an exponent so far below that of a term which arrives gives way to it


@njit(**OPTIONS)
def squares(row: Any, n: int, real: Any) -> float:
    """Σ x² over a row of n numbers, right down to the smallest normal number."""
    one = spread(1.0, real)
    sums = 0.0 * one
    for j in range(0, n, lanes(row)):
        x = load(row, j)
        sums = fma(x, x, sums)
    result = total(sums)
    if result < FAINT:
        sums = 0.0 * one
        for j in range(0, n, lanes(row)):
            x = load(row, j) * LIFT
            sums = fma(x, x, sums)
        result = total(sums) / (LIFT * LIFT)
    return result


@njit(**OPTIONS)
def peak(row: Any, n: int, real: Any) -> float:
    """The largest |x| of a row."""
    top = 0.0
    for j in range(0, n, lanes(row)):
        x = largest(absolute(load(row, j)))
        top = max(top, x) if x == x else x
    return top


@njit(**OPTIONS)
def scale(row: Any, n: int, exponent: int, real: Any) -> None:
    """Multiply a row by 2^exponent, in two steps: the power itself may be no number of this type."""
    half = exponent // 2
    first = spread(math.ldexp(1.0, max(half, -1000)), real)
    second = spread(math.ldexp(1.0, max(exponent - half, -1000)), real)
    for j in range(0, n, lanes(row)):
        store(row, j, load(row, j) * first * second)


@njit(**OPTIONS)
def arrive(
    row: Any, H: int, n: int, exponent: int, direct: Any, has_direct: bool, direct_exponent: int, real: Any
) -> Any:
    """Add what reaches h_t directly to what came from t+1, and keep the mantissa near one.

    Args:
        row: the joint adjoint, n = H numbers of h and then those of the other states; changed in place.
        H: hidden units.
        n: numbers in `row`.
        exponent: of `row`.
        direct: H numbers, with their exponent, where there are any.

    Returns:
        The exponent, Σ x² over h, and Σ x² over all.
    """
    if has_direct:
        shift = direct_exponent - exponent
        if shift > REACH:
            if peak(direct, H, real) > 0.0:
                scale(row, n, -shift, real)
                exponent, shift = direct_exponent, 0
            else:
                has_direct = False
        if has_direct:
            factor = spread(1.0 if shift == 0 else math.ldexp(1.0, max(shift, -1000)), real)
            for j in range(0, H, lanes(row)):
                store(row, j, fma(load(direct, j), factor, load(row, j)))
    of_h = squares(row, H, real)
    joint = of_h if n == H else of_h + squares(at(row, H), n - H, real)
    if not LOW <= joint <= HIGH:
        top = peak(row, n, real)
        if 0.0 < top < math.inf:
            shift = math.frexp(top)[1]
            scale(row, n, -shift, real)
            exponent += shift
            of_h = squares(row, H, real)
            joint = of_h if n == H else of_h + squares(at(row, H), n - H, real)
    return exponent, of_h, joint


@njit(**OPTIONS)
def rows_below(D: int) -> int:
    """Numbers that [x_t, 1] takes in a source row: D + 1, rounded up to a tile's four."""
    return (D + 4) // 4 * 4


@njit(**OPTIONS)
def source_width(D: int, H: int) -> int:
    """Numbers in a source row."""
    return rows_below(D) + H + 4


@njit(**OPTIONS)
def source_row(source: Any, D: int, H: int, x: Any, h: Any) -> None:
    """[x_t, 1, … | h_{t-1}, 1, …]: what the adjoints are multiplied with; a bias is the weight of a one."""
    for j in range(D):
        write(source, j, read(x, j))
    write(source, D, 1.0)
    hidden = at(source, rows_below(D))
    for j in range(0, H, lanes(source)):
        store(hidden, j, load(h, j))
    write(hidden, H, 1.0)


@njit(**OPTIONS)
def log2_norms(squares: Any, exponents: Any, M: int, to: Any) -> None:
    """log₂ √squares + exponent of the M ≤ 8 rows of a tile; there is room for eight of each."""
    logs = fma(log2(load(squares, 0)), spread(0.5, DOUBLE), load(exponents, 0))
    store(squares, 0, logs)
    for m in range(M):
        write(to, m, read(squares, m))
