"""Fisher memory: how much of a past input a linear network's noisy state still holds, without any gradient."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Vector = NDArray[np.float64]


def fisher_memory_curve(recurrent_weights: Vector, input_weights: Vector, lags: int) -> Vector:
    """J(k), k = 0 … lags - 1: Fisher information of the state about the input of k steps ago.

    Ganguli, Huh, Sompolinsky, PNAS 2008, "Memory traces in dynamical systems", eq. 3: s_t = W s_{t-1} + v x_t + noise
    of variance one per unit has J(k) = vᵀ (Wᵏ)ᵀ C⁻¹ Wᵏ v with C = Σ Wᵏ (Wᵏ)ᵀ. For |v| = 1 their sum is 1 for every
    normal W; a chain of H units that passes its content on has Σ 1/i, i = 1 … H.

    Args:
        recurrent_weights: W, (S, S), with all eigenvalues inside the unit circle.
        input_weights: v, (S,).
        lags: so many.

    Raises:
        ValueError: where the state's variance has no limit, since an eigenvalue is not inside the unit circle.
    """
    noise = noise_covariance(recurrent_weights)
    curve, trace = [], np.asarray(input_weights, dtype=np.float64)
    factor = linalg.cho_factor(noise)
    for _ in range(lags):
        curve.append(float(trace @ linalg.cho_solve(factor, trace)))
        trace = recurrent_weights @ trace
    return np.array(curve)


def total_fisher_memory(recurrent_weights: Vector, input_weights: Vector) -> float:
    """J_tot = Σ J(k) over all lags: vᵀ X v with X = Wᵀ X W + C⁻¹. Raises ValueError as `fisher_memory_curve`."""
    noise = noise_covariance(recurrent_weights)
    information = linalg.solve_discrete_lyapunov(recurrent_weights.T, linalg.inv(noise))
    v = np.asarray(input_weights, dtype=np.float64)
    return float(v @ information @ v)


def noise_covariance(recurrent_weights: Vector) -> Vector:
    """C = W C Wᵀ + I. Raises ValueError where it has no limit."""
    radius = float(np.abs(np.linalg.eigvals(recurrent_weights)).max())
    if not radius < 1:
        raise ValueError(
            f"the spectral radius is {radius:.3g}: expected below 1, for the state's variance has no limit"
        )
    found: Vector = linalg.solve_discrete_lyapunov(recurrent_weights, np.eye(len(recurrent_weights)))
    return (found + found.T) / 2
