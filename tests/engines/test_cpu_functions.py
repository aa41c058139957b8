"""The compiled engine's tanh, σ and log₂ against numpy's extended precision."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from goldfish.engines.cpu import functions
from goldfish.engines.cpu.vector import load, pointer, store


def _compute(function: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.empty_like(x), np.empty_like(x)
    _apply(function == "tanh", x.ctypes.data, a.ctypes.data, b.ctypes.data, x.size, 64 // x.itemsize, x.dtype.type(0))
    return a, b


@njit
def _apply(is_tanh, x, a, b, n, lanes, real):
    for i in range(0, n, lanes):
        v = load(pointer(x, real), i)
        first, second = functions.tanh(v)
        store(pointer(a, real), i, first if is_tanh else functions.sigmoid(v))
        store(pointer(b, real), i, second)


@pytest.mark.parametrize(("dtype", "reach"), [(np.float32, 40), (np.float64, 300)])
def test_functions(dtype: type, reach: float) -> None:
    """tanh, its slope and σ to a few units in the last place of numpy's extended precision."""
    x = np.concatenate([np.linspace(-reach, reach, 40_000), np.linspace(-1, 1, 40_000), np.geomspace(1e-30, 1, 16_000)])
    x = x.astype(dtype)
    exact = x.astype(np.longdouble)
    tanh, slope = _compute("tanh", x)
    sigmoid, _ = _compute("sigmoid", x)
    for found, expected, units in (
        (tanh, np.tanh(exact), 3),
        (slope, 1 / np.cosh(exact) ** 2, 3),
        (sigmoid, 1 / (1 + np.exp(-exact)), 3),
    ):
        spacing = np.spacing(np.abs(expected).astype(dtype)).astype(np.longdouble)
        assert float((np.abs(found.astype(np.longdouble) - expected) / spacing).max()) <= units


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_at_the_ends(dtype: type) -> None:
    """At ±∞, at the largest numbers, at NaN, at zero, at the smallest subnormal numbers."""
    largest, smallest = np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal
    ends: np.ndarray = np.array(
        [np.inf, -np.inf, largest, -largest, np.nan, -0.0, smallest, -smallest] * 2, dtype=dtype
    )
    tanh, slope = _compute("tanh", ends)
    sigmoid, _ = _compute("sigmoid", ends)
    assert tanh[:4].tolist() == [1, -1, 1, -1]
    assert (slope[:4] >= 0).all()
    assert (slope[:4] < 1e-37).all()
    assert sigmoid[:4:2].tolist() == [1, 1]
    assert (sigmoid[1:4:2] >= 0).all()
    assert (sigmoid[1:4:2] < 1e-37).all()
    assert np.isnan([tanh[4], slope[4], sigmoid[4]]).all()
    assert np.signbit(tanh[5])
    assert tanh[5:8].tolist() == ends[5:8].tolist()
    assert slope[5:8].tolist() == [1, 1, 1]
    assert sigmoid[5:8].tolist() == [0.5, 0.5, 0.5]


@njit
def _logarithms(x, y, n, real):
    for i in range(0, n, 8):
        store(pointer(y, real), i, functions.log2(load(pointer(x, real), i)))


def test_log2() -> None:
    """From the smallest subnormal number to the largest, to a unit in the last place of one or of the result."""
    x = np.concatenate(
        [2.0 ** np.arange(-1074, 1024), np.geomspace(1e-320, 1e308, 40_000), np.linspace(0.5, 2, 40_000)]
    )
    x = np.concatenate([x, [0.0, np.inf, np.nan], np.ones(-(len(x) + 3) % 8)])
    found, exact = (
        np.empty_like(x),
        np.log2(x.astype(np.longdouble), where=x > 0, out=np.full(len(x), -np.inf, np.longdouble)),
    )
    exact[np.isnan(x)] = np.nan
    _logarithms(x.ctypes.data, found.ctypes.data, x.size, np.float64(0))
    finite = np.isfinite(exact)
    assert (found[~finite].astype(str) == exact[~finite].astype(str)).all()
    error = np.abs(found[finite] - exact[finite]) / np.spacing(np.maximum(1, np.abs(exact[finite])).astype(np.float64))
    assert float(error.max()) <= 1
