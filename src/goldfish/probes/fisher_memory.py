"""Fisher memory: how much of a past input a linear network's noisy state still holds, without any gradient."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray
from scipy import linalg

from goldfish.probes.base import Measurement, Pack
from goldfish.probes.jacobian import step_jacobians, trajectories
from goldfish.recurrent import Recurrent

Vector = NDArray[np.float64]


def measure(pack: Pack, *, lags: Annotated[int, Ge(1)] = 100) -> list[Measurement]:
    """Fisher memory of the network linearised at zero state and zero input, top layer: fisher_memory/total.

    The mean over input units, each column of ∂s/∂x scaled to norm one; the curve fisher_memory/by_lag is J(k). Nothing
    where the linearised network is not stable, for its memory has no finite value.
    """
    if not pack.recurrents:
        return []
    return [_memory(*linearised, lags) for linearised in _linearised(pack.model.measured)]


def _memory(recurrent_weights: Vector, input_weights: Vector, lags: int) -> Measurement:
    norms = np.linalg.norm(input_weights, axis=0)
    if not spectral_radius(recurrent_weights) < 1 or not norms.any():
        return Measurement()
    directions = (input_weights[:, norms > 0] / norms[norms > 0]).T
    curve = np.mean([fisher_memory_curve(recurrent_weights, v, lags) for v in directions], axis=0)
    total = np.mean([total_fisher_memory(recurrent_weights, v) for v in directions])
    return Measurement({"fisher_memory/total": float(total)}, {"fisher_memory/by_lag": list(enumerate(curve.tolist()))})


def _linearised(recurrent: Recurrent) -> list[tuple[Vector, Vector]]:
    """∂s_t/∂s_{t-1} and ∂s_t/∂x_t of the top layer at zero, for each replica: (S, S) and (S, D)."""
    D = recurrent.input_size
    top = trajectories(recurrent, torch.zeros(recurrent.replicas, 1, 1, D, dtype=torch.float64))[-1]
    jacobians = step_jacobians(top)[:, 0, 0]
    before = tuple(state[:, 0] for state in top.states)

    def step(projected: torch.Tensor) -> torch.Tensor:
        after = top.cell.step(projected, before, top.weights.weight_hh, top.weights.bias_hh)
        return torch.cat([part[:, 0] for part in after], dim=-1).sum(0)  # replicas do not act on one another

    by_projection = torch.autograd.functional.jacobian(step, top.projected[:, 0])[:, :, 0].transpose(0, 1)
    inputs = by_projection @ top.weights.weight_ih
    return list(zip(jacobians.numpy(), inputs.numpy(), strict=True))


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
    radius = spectral_radius(recurrent_weights)
    if not radius < 1:
        raise ValueError(
            f"the spectral radius is {radius:.3g}: expected below 1, for the state's variance has no limit"
        )
    covariance: Vector = linalg.solve_discrete_lyapunov(recurrent_weights, np.eye(len(recurrent_weights)))
    return (covariance + covariance.T) / 2


def spectral_radius(matrix: Vector) -> float:
    """The largest modulus of an eigenvalue."""
    return float(np.abs(np.linalg.eigvals(matrix)).max())
