"""The CUDA kernels' σ, tanh and slope of tanh: to a few units in the last place, over the whole range."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.engines.cuda_emulator import compile_for_cpu, needs_compiler

from goldfish.engines.cuda import source

pytestmark = needs_compiler
APPLY = """void apply(const real *x, real *s, real *t, real *slope, int n) {
    for (int i = 0; i < n; ++i) s[i] = sigmoid(x[i]), t[i] = tangent(x[i], slope[i]);
}
void scale(const real *x, const int *n, real *y, int *e, int count) {
    for (int i = 0; i < count; ++i) y[i] = Scale(n[i])(x[i]), e[i] = exponent_of(x[i]);
}"""
Values = np.ndarray[Any, Any]


@pytest.fixture(scope="module", params=[np.float32, np.float64], ids=["float32", "float64"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ctypes.CDLL, Any]:
    folder: Path = tmp_path_factory.mktemp("numbers")
    macros = (("DOUBLE", int(request.param == np.float64)),)
    return compile_for_cpu(folder, "numbers", source.text(source.SUMS), macros, APPLY), request.param


def _pointer(values: Values) -> ctypes.c_void_p:
    return ctypes.c_void_p(values.ctypes.data)


def _apply(library: tuple[ctypes.CDLL, Any], x: Values) -> list[Values]:
    loaded, kind = library
    x = x.astype(kind)
    found = [np.empty_like(x) for _ in range(3)]
    loaded.apply(_pointer(x), *map(_pointer, found), ctypes.c_int(len(x)))
    return found


def test_against_longer_numbers(library: tuple[ctypes.CDLL, Any]) -> None:
    """In units in the last place."""
    kind, rng = library[1], np.random.default_rng(0)
    reach = 40.0 if kind == np.float32 else 300.0
    sizes = np.concatenate([np.geomspace(1e-30, reach, 800), np.linspace(0.01, 12, 800)])
    x = (sizes * rng.choice([-1, 1], len(sizes))).astype(kind)
    a = x.astype(np.longdouble)
    exact = 1 / (1 + np.exp(-a)), np.tanh(a), 1 / np.cosh(a) ** 2
    found = zip(_apply(library, x), exact, strict=True)
    worst = [float((abs(value - e) / np.spacing(abs(e).astype(kind))).max()) for value, e in found]
    print(kind.__name__, worst)
    assert max(worst) <= 3, worst


def test_at_the_ends(library: tuple[ctypes.CDLL, Any]) -> None:
    x = np.array([0.0, 1e4, -1e4, np.inf, -np.inf, np.nan])
    s, t, slope = _apply(library, x)
    assert t[:5].tolist() == [0, 1, -1, 1, -1]
    assert s[0] == 0.5
    assert slope[0] == 1
    assert s[1] == s[3] == 1
    assert s[2] == s[4]
    assert 0 <= s[2] < 2e-38
    assert (slope[1:5] >= 0).all()
    assert (slope[1:5] < 1e-37).all()
    assert np.isnan([s[5], t[5], slope[5]]).all()


def test_powers_of_two(library: tuple[ctypes.CDLL, Any]) -> None:
    """As ldexp and frexp, beyond the range of one power, and zero far below it."""
    loaded, kind = library
    rng = np.random.default_rng(1)
    x = rng.standard_normal(2000).astype(kind)
    top = 200 if kind == np.float32 else 1900
    n = rng.integers(-top, top, 2000, dtype=np.int32)
    y, e = np.empty_like(x), np.empty_like(n)
    loaded.scale(_pointer(x), _pointer(n), _pointer(y), _pointer(e), ctypes.c_int(len(x)))
    with np.errstate(over="ignore"):
        expected = np.ldexp(x, n)
    normal = np.abs(expected) >= np.finfo(kind).tiny
    assert normal.any()
    assert np.isinf(expected).any()
    assert (y[normal] == expected[normal]).all()
    assert np.allclose(y[~normal], expected[~normal], rtol=0, atol=2 * float(np.finfo(kind).smallest_subnormal))
    assert (e == np.frexp(x)[1]).all()
