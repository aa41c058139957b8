"""exp, tanh and σ of a vector: the same formula in float32 and float64, good to about two units in the last place.

log₂ is in float64 alone, for norms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from goldfish.engines.cpu.vector import (
    Vector,
    absolute,
    at_least,
    at_most,
    call_llvm,
    choose,
    constant,
    copysign,
    exponent,
    fma,
    power_of_two,
    significand,
)

OPTIONS = {
    "boundscheck": False, "error_model": "numpy", "nogil": True,
    "no_cpython_wrapper": True, "no_cfunc_wrapper": True,  # called by compiled code only
}  # fmt: skip
_DEGREE = {32: 7, 64: 13}  # Taylor's remainder at |r| = ln2/2 is 5e-9 and 4e-18


def _parts(real: Any) -> tuple[float, float]:
    """ln 2 as the sum of two numbers of a type."""
    high = float(real(math.log(2)))
    return high, float(
        real(0.6931471805599453094172321214581765680755 - high)
    ) if real is np.float32 else 2.3190468138462996e-17


_SMALLEST, _LARGEST = 2.0**-1022, 1.7976931348623157e308  # normal numbers
_ROOT, _LN_2 = math.sqrt(2), math.log(2)
_LN2 = {32: _parts(np.float32), 64: _parts(np.float64)}


def _per_type(single: float, double: float) -> Any:
    """A number that depends on the vector's type, in every lane."""

    @intrinsic
    def value(typing: Any, like: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return constant(like, single if like.element.bitwidth == 32 else double)

        return like(like), emit

    return value


rounder = _per_type(1.5 * 2**23, 1.5 * 2**52)
minus_ln2_high = _per_type(-_LN2[32][0], -_LN2[64][0])
minus_ln2_low = _per_type(-_LN2[32][1], -_LN2[64][1])
log2_e = _per_type(1 / math.log(2), 1 / math.log(2))
ones = _per_type(1.0, 1.0)


@intrinsic
def _bound_of_exp(typing: Any, like: Any) -> Any:
    """The largest argument whose exponential is still taken exactly: 2^n must be a number."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return ir.Constant(ir.DoubleType(), 87.0 if like.element.bitwidth == 32 else 708.0)

    return types.float64(like), emit


@intrinsic
def _series(typing: Any, r: Any) -> Any:
    """e^r - 1 = r + r²/2 + r³/6 + …, by Horner's rule."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind: Vector = r
        degree = _DEGREE[kind.element.bitwidth]
        value = _horner(builder, kind, arguments[0], [1 / math.factorial(k) for k in range(2, degree + 1)])
        return call_llvm(builder, "fma", kind, [builder.fmul(value, arguments[0]), arguments[0], arguments[0]])

    return r(r), emit


def _horner(builder: Any, kind: Vector, x: Any, coefficients: Sequence[float]) -> Any:
    """LLVM: Σ_k coefficients[k] x^k."""
    *lower, highest = coefficients
    value = constant(kind, highest)
    for coefficient in reversed(lower):
        value = call_llvm(builder, "fma", kind, [value, x, constant(kind, coefficient)])
    return value


@njit(**OPTIONS)
def _split(x: Any) -> Any:
    """(p, s) with e^x = s (1 + p), s = 2^n and p = e^r - 1, |r| ≤ ln2/2."""
    shifted = fma(x, log2_e(x), rounder(x))
    n = shifted - rounder(x)
    r = fma(n, minus_ln2_low(x), fma(n, minus_ln2_high(x), x))
    return _series(r), power_of_two(shifted)


@njit(**OPTIONS)
def sigmoid(x: Any) -> Any:
    """σ(x) = 1 / (1 + e^-x)."""
    limit = _bound_of_exp(x)
    p, s = _split(at_least(at_most(0.0 - x, limit), -limit))
    return 1.0 / (1.0 + fma(s, p, s))


@njit(**OPTIONS)
def tanh(x: Any) -> Any:
    """(tanh x, 1 - tanh² x); the slope keeps its digits where tanh has come to 1.

    With m = e^{2|x|} - 1 and q = 1 / (m + 2): tanh|x| = m q and 1 - tanh² = 4 q (1 - q).
    """
    p, s = _split(2.0 * at_most(absolute(x), 0.5 * _bound_of_exp(x)))
    m = fma(s, p, s - 1.0)
    q = 1.0 / (m + 2.0)
    return copysign(m * q, x), 4.0 * fma(0.0 - q, q, q)


@intrinsic
def positive(typing: Any, x: Any) -> Any:
    """1 where x > 0, else 0; 1 at NaN, whose gradient passes as torch's does."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        is_positive = builder.fcmp_unordered(">", arguments[0], constant(x, 0.0))
        return builder.select(is_positive, constant(x, 1.0), constant(x, 0.0))

    return x(x), emit


@intrinsic
def _odd_series(typing: Any, z: Any) -> Any:
    """1 + z/3 + z²/5 + …, in float64 for z ≤ 0.03."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _horner(builder, z, arguments[0], [1 / (2 * k + 1) for k in range(11)])

    return z(z), emit


@njit(**OPTIONS)
def log2(x: Any) -> Any:
    """log₂ x for float64 x ≥ 0, -inf at zero.

    x = m·2^n with √½ < m ≤ √2, and ln m = 2 artanh s = 2 (s + s³/3 + s⁵/5 + …), s = (m - 1) / (m + 1).
    """
    zero = 0.0 * significand(x)
    lifted = choose(x, _SMALLEST, x, 2.0**54 * x)
    n, m = exponent(lifted) - choose(x, _SMALLEST, zero, zero + 54.0), significand(lifted)
    n, m = choose(m, _ROOT, n + 1.0, n), choose(m, _ROOT, 0.5 * m, m)
    s = (m - 1.0) / (m + 1.0)
    log = fma(2.0 * s, _odd_series(s * s) / _LN_2, n)
    return choose(x, _LARGEST, x, choose(x, 0.0, log, x - math.inf))  # NaN stays NaN
