"""Survival along the cell path: how much of a cell state is left after k steps, given the gate's bias distribution.

Only the path through the gate that keeps the old state counts, f of the LSTM and z of the GRU, at its initial bias:
survival after k steps is E[σ(b)^k] over the units. A constant bias forgets exponentially, a spread one by a power law.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import integrate

Survival = NDArray[np.float64]


def constant(k: ArrayLike, bias: float) -> Survival:
    """σ(b)^k: exponential (unit_forget).

    >>> constant([0, 1, 2], bias=0.0)
    array([1.  , 0.5 , 0.25])
    """
    survival: Survival = np.exp(-np.asarray(k, dtype=np.float64) * np.logaddexp(0, -bias))
    return survival


def uniform(k: ArrayLike, hidden_size: int | None = None) -> Survival:
    """1/(k + 1): the gate is uniform over (0, 1), or over (1/H, 1 - 1/H) for a layer of H units (uniform_gate).

    Gu et al., ICML 2020, "Improving the gating mechanism of recurrent neural networks".
    """
    lags = np.asarray(k, dtype=np.float64)
    if hidden_size is None:
        return 1 / (lags + 1)
    low = min(1 / hidden_size, 0.5)
    if low == 0.5:
        return 0.5**lags
    top, bottom = (np.exp((lags + 1) * math.log(end)) for end in (1 - low, low))
    return (top - bottom) / ((lags + 1) * (1 - 2 * low))


def inverse_gamma(k: ArrayLike, alpha: float) -> Survival:
    """(1 + k)^-α: the gate is e^{-1/T} with T ~ InvGamma(α, 1) (power_law).

    Mahto, Vo, Turek, Huth, ICLR 2021, "Multi-timescale representation learning in LSTM language models".
    """
    return (1 + np.asarray(k, dtype=np.float64)) ** -alpha


def chrono(k: ArrayLike, t_max: int) -> Survival:
    """E[(u/(u + 1))^k] with u ~ U(1, t_max - 1): the bias is ln u (chrono). By quadrature, to 1e-10.

    Tallec & Ollivier, ICLR 2018, "Can recurrent neural networks warp time?".
    """
    longest = t_max - 1
    if longest == 1:
        return constant(k, 0.0)

    def survival(lag: float) -> float:
        value, _ = integrate.quad(lambda u: math.exp(-lag * math.log1p(1 / u)), 1, longest, epsabs=0, epsrel=1e-11)
        return float(value) / (longest - 1)

    survivals: Survival = np.vectorize(survival, otypes=[np.float64])(np.asarray(k, dtype=np.float64))
    return survivals
