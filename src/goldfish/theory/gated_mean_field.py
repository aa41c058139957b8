"""Mean-field theory of the LSTM and the GRU: how fast their gradients vanish or explode, with the weights tied.

Gilboa et al. 2019, "Dynamical isometry and a mean field theory of LSTMs and GRUs" (arXiv 1901.08987), draw the weights
anew at every step; a gradient's mean square then changes by the sum of the squares of its ways from s_t to s_{t-1}. A
network has the same weights at every step, and ways that apply W_hh at different times interfere: with constant gates
of value m that keep, and e · W that renew, a gradient changes by m + e g per step and not by √(m² + e² g²). Both are
given here.

Two ways from s_T to s_t contribute to the mean square when they apply the same matrices in the same order. Let d be how
many more the one has applied than the other. While d = 0 both are at the same unit, and second moments of the gate
values count; elsewhere products of means. The growth per step is the largest eigenvalue of that walk over d: the edge
of its continuous spectrum, (m + e g)², or a state bound at d = 0.

Pre-activations are taken as independent over time and units, as inputs that change at every step make them. That is
wrong for large gains, where the state becomes slow, and for biases that differ between units, as chrono's do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from goldfish.errors import ConfigError, nearest

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()
_TOLERANCE, _ROUNDS = 1e-13, 100_000
Values = NDArray[np.float64]


@dataclass(frozen=True)
class GatedMeanField:
    """The theory's predictions for an untrained gated network.

    Attributes:
        square: the mean square of h_t.
        decay: the factor by which the gradient's norm changes per step, with the same weights at every step.
        decay_untied: the same with weights drawn anew at every step, as Gilboa et al. have it.
    """

    square: float
    decay: float
    decay_untied: float


def gated_mean_field(cell: str, gain: float, *, bias: float = 0.0, input_variance: float = 0.0) -> GatedMeanField:
    """Solve the theory for W_hh ~ N(0, gain²/H), H → ∞.

    Args:
        cell: lstm or gru.
        gain: g.
        bias: of the gate that keeps, b_f or b_z; all other biases are zero.
        input_variance: that of W_ih x_t per unit and gate, independent from step to step.

    Raises:
        ConfigError: for another cell.
    """
    if cell not in ("lstm", "gru"):
        raise ConfigError(f"cell={cell}: {nearest(cell, ('lstm', 'gru'))}")
    solve = _lstm if cell == "lstm" else _gru
    return solve(gain**2, bias, input_variance)


def _gru(variance: float, bias: float, R: float) -> GatedMeanField:
    """δh_t = z δh + (h - n) z' δa_z + (1 - z) n' (r W_hn δh + W_hn h r' δa_r)."""
    q = 0.0 if R == 0 else 1e-3
    for _ in range(_ROUNDS):
        a = variance * q + R
        z, _ = _sigmoid(_gaussian(a, bias))
        n2 = _n_moments(variance * q, R, a)[0]
        before, q = q, _mean((1 - z) ** 2) * n2 / (1 - _mean(z**2))
        if abs(before - q) <= _TOLERANCE * max(q, 1e-300):
            break
    a = variance * q + R
    z, z_slope = _sigmoid(_gaussian(a, bias))
    n2, e1, e2, e_r = _n_moments(variance * q, R, a)
    m, s, keep_new = _mean(z), _mean(z**2), _mean(z * (1 - z))
    new, new2 = _mean(1 - z), _mean((1 - z) ** 2)
    at_zero = s + variance * ((q + n2) * _mean(z_slope**2) + new2 * (e2 + e_r))
    g = math.sqrt(variance)
    return _result(q, m, new * e1 * g, keep_new * e1 * g, np.array([[at_zero]]))


def _n_moments(recurrent: float, R: float, a: float) -> tuple[float, float, float, float]:
    """E[n²], E[n' r], E[n'² r²] and E[n'² r'² v²] for n = tanh(u + r v), u ~ N(0, R), v ~ N(0, recurrent)."""
    r, r_slope = _sigmoid(_gaussian(a, 0.0))
    r, r_slope = r[:, None, None], r_slope[:, None, None]
    u, v = _gaussian(R, 0.0)[None, :, None], _gaussian(recurrent, 0.0)[None, None, :]
    n = np.tanh(u + r * v)
    slope = 1 - n**2

    def mean(values: Values) -> float:
        return float(np.einsum("i,j,k,ijk->", _WEIGHTS, _WEIGHTS, _WEIGHTS, np.broadcast_to(values, n.shape)))

    return mean(n**2), mean(slope * r), mean((slope * r) ** 2), mean((slope * r_slope * v) ** 2)


def _lstm(variance: float, bias: float, R: float) -> GatedMeanField:
    """δc_t = f δc + c f' δa_f + g i' δa_i + i g' δa_g, δh_t = o (1 - tanh² c) δc + tanh(c) o' δa_o."""
    q, c = 0.0 if R == 0 else 1e-3, 0.0
    for _ in range(_ROUNDS):
        a = variance * q + R
        (f, _), (i, _) = _sigmoid(_gaussian(a, bias)), _sigmoid(_gaussian(a, 0.0))
        g2 = _mean(np.tanh(_gaussian(a, 0.0)) ** 2)
        c = _mean(i**2) * g2 / (1 - _mean(f**2))
        before, q = q, _mean(i**2) * _mean(np.tanh(_gaussian(c, 0.0)) ** 2)  # o has the moments of i
        if abs(before - q) <= _TOLERANCE * max(q, 1e-300):
            break
    a = variance * q + R
    (f, f_slope), (i, i_slope) = _sigmoid(_gaussian(a, bias)), _sigmoid(_gaussian(a, 0.0))
    candidate = np.tanh(_gaussian(a, 0.0))
    slope = 1 - candidate**2
    squashed = np.tanh(_gaussian(c, 0.0))
    out, out2 = _mean(i) * _mean(1 - squashed**2), _mean(i**2) * _mean((1 - squashed**2) ** 2)
    e1 = out * _mean(i) * _mean(slope)
    into_c = c * _mean(f_slope**2) + _mean(candidate**2) * _mean(i_slope**2) + _mean(i**2) * _mean(slope**2)
    into_h = _mean(i_slope**2) * _mean(squashed**2)  # by way of o alone
    at_zero = np.array([
        [_mean(f**2) + variance * out2 * into_c, variance * into_c],
        [variance * out2 * into_h, variance * into_h],
    ])  # fmt: skip
    g = math.sqrt(variance)
    return _result(q, _mean(f), e1 * g, _mean(f) * e1 * g, at_zero)


def _result(q: float, m: float, move: float, leave: float, at_zero: Values) -> GatedMeanField:
    """The walk's largest eigenvalue.

    Args:
        q: the mean square of h_t.
        m: the mean of what stays at a unit.
        move: the mean of what one matrix passes on, times g.
        leave: the mean product of the two for the same unit, times g: from d = 0 to d = ±1.
        at_zero: second moments at d = 0, (1, 1), or (2, 2) with the state in which only h_t is disturbed.
    """
    centre, step = m**2 + move**2, m * move
    edge = (m + move) ** 2
    untied = float(np.abs(np.linalg.eigvals(at_zero)).max())

    def excess(eigenvalue: float) -> float:
        """Above zero below the bound state: ψ_d = κ^|d| away from 0, E = centre + step (κ + 1/κ)."""
        if step == 0:
            inside = 0.0
        else:
            half = (eigenvalue - centre) / (2 * step)
            inside = 2 * leave * (half - math.sqrt(max(half**2 - 1, 0.0)))
        matrix = at_zero.copy()
        matrix[0, 0] += inside
        return float(np.abs(np.linalg.eigvals(matrix)).max()) - eigenvalue

    low, high = edge, max(edge, untied) + 2 * leave + 1e-12
    if excess(low) <= 0:
        return GatedMeanField(q, math.sqrt(edge), math.sqrt(untied))
    while low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return GatedMeanField(q, math.sqrt(low), math.sqrt(untied))


def _gaussian(variance: float, mean: float) -> Values:
    return mean + math.sqrt(variance) * _NODES


def _sigmoid(values: Values) -> tuple[Values, Values]:
    s = 1 / (1 + np.exp(-values))
    return s, s * (1 - s)


def _mean(values: Values) -> float:
    return float(_WEIGHTS @ values)
