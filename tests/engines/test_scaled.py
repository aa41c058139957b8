"""Mantissa and exponent arithmetic against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from goldfish.engines import scaled

entries = st.floats(-1, 1, allow_nan=False, allow_subnormal=False)
exponents = st.integers(-5000, 5000)


def exact(mantissa: float, exponent: float) -> Fraction:
    return Fraction(mantissa) * Fraction(2) ** int(exponent)


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def scalar(value: float) -> Tensor:
    return torch.tensor(float(value), dtype=torch.float64)


@given(a=entries, m=exponents, b=entries, n=exponents)
def test_add(a: float, m: int, b: float, n: int) -> None:
    """To one rounding of the larger term, whatever the exponents."""
    total, common = scaled.add(vector(a), scalar(m), vector(b), scalar(n))
    first, second = exact(a, m), exact(b, n)
    error = abs(exact(float(total), float(common)) - (first + second))
    assert error <= Fraction(2) ** -52 * max(abs(first), abs(second))


@pytest.mark.parametrize("exponent", [-100_000.0, 0.0, 100_000.0])
def test_a_zero_term_does_not_set_the_exponent(exponent: float) -> None:
    zero, far, there = torch.zeros(3, dtype=torch.float64), scalar(0), scalar(exponent)
    for total, common in (
        scaled.add(zero, far, vector(1, 2, 2), there),
        scaled.add(vector(1, 2, 2), there, zero, far),
    ):
        assert scaled.log2_norm(total, common) == math.log2(3) + exponent
    assert scaled.log2_norm(*scaled.add(zero, far, zero, there)) == -math.inf


@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e-300, 1e-160, 0.7, 1.0, 1e160, 1e300])
def test_norm_over_the_whole_range(size: float) -> None:
    """Squares of these neither vanish nor overflow."""
    value = float(scaled.log2_norm(vector(3 * size, 0, -4 * size), scalar(0)))
    assert value == pytest.approx(math.log2(size) + math.log2(5), rel=1e-15)


@given(st.lists(st.floats(-1e300, 1e300, allow_subnormal=False), min_size=1, max_size=5))
def test_rescale_changes_no_value(values: list[float]) -> None:
    """It moves a power of two: the value stays, the largest entry comes to [½, 1), or near it at the far ends."""
    mantissa, exponent = scaled.rescale(vector(*values), scalar(7))
    for value, m in zip(values, mantissa.tolist(), strict=True):
        assert exact(m, float(exponent) - 7) == Fraction(value) or abs(value) < 2.0**-1000 * max(map(abs, values))
    largest = float(mantissa.abs().max())
    assert largest == 0 or (0.5 if max(map(abs, values)) > 2.0**-1000 else 2.0**-23) <= largest < 1


def test_exponents_are_per_sample() -> None:
    batch = torch.stack([vector(1e-200, 0), vector(0, 0), vector(1e200, 0)])
    mantissa, exponent = scaled.rescale(batch, torch.zeros(3, dtype=torch.float64))
    assert exponent.shape == (3,)
    assert mantissa.abs().max(-1).values.tolist()[1] == 0
    assert (mantissa.abs().max(-1).values[[0, 2]] >= 0.5).all()
    norms = scaled.log2_norm(batch, torch.zeros(3, dtype=torch.float64))
    assert norms[1] == -math.inf
    assert norms[[0, 2]].tolist() == pytest.approx([math.log2(1e-200), math.log2(1e200)])
