"""Mean-field theory against the published fixed points and adaptive quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from goldfish.probes.mean_field import mean_field


@pytest.mark.parametrize(
    ("sigma_w", "R", "q", "chi", "slope"),
    [(0.5, 0.0, 0.0, 0.25, -0.6931), (1.0, 0.1, 0.2950, 0.6888, -0.1864), (1.5, 0.1, 0.9781, 1.0538, 0.0262)],
)
def test_published_values(sigma_w: float, R: float, q: float, chi: float, slope: float) -> None:
    found = mean_field(sigma_w, R)
    assert (found.q, found.chi, found.slope) == (
        pytest.approx(q, abs=6e-5),
        pytest.approx(chi, abs=6e-5),
        pytest.approx(slope, abs=6e-5),
    )


@pytest.mark.parametrize(("sigma_w", "R"), [(1.193, 0.01), (1.327, 0.05), (1.409, 0.1), (1.512, 0.2), (1.686, 0.5)])
def test_published_critical_line(sigma_w: float, R: float) -> None:
    assert mean_field(sigma_w, R).chi == pytest.approx(1, abs=1e-3)


@given(sigma_w=st.floats(0.1, 3), R=st.floats(0.01, 2))
@settings(max_examples=25, deadline=None)
def test_fixed_point_by_adaptive_quadrature(sigma_w: float, R: float) -> None:
    found = mean_field(sigma_w, R)

    def mean(function: Callable[[float], float]) -> float:
        weighted = quad(lambda z: function(z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), -12, 12, limit=200)
        return float(weighted[0])

    h = math.sqrt(found.q)
    assert sigma_w**2 * mean(lambda z: math.tanh(h * z) ** 2) + R == pytest.approx(found.q, rel=1e-9)
    assert sigma_w**2 * mean(lambda z: (1 - math.tanh(h * z) ** 2) ** 2) == pytest.approx(found.chi, rel=1e-9)
    assert (found.depth == math.inf) == (found.chi >= 1)
