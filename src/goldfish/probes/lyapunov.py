"""Lyapunov exponents: the mean rates at which a network's state space expands and contracts along its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from goldfish.probes.base import Measurement, Pack, driving_inputs
from goldfish.probes.jacobian import Trajectory, chunks_of_jacobians, trajectories
from goldfish.recurrent import Recurrent


def measure(pack: Pack, *, samples: Annotated[int, Ge(1)] = 4) -> list[Measurement]:
    """The Lyapunov spectrum along `samples` sequences of the probe batch: lyapunov/largest, its error, the dimension.

    The curve lyapunov/exponents is the whole spectrum, by rank from 1 on.
    """
    if not pack.recurrents:
        return []
    spectrum = lyapunov(pack.model.measured, driving_inputs(pack, samples))
    measured = []
    for exponents, errors, dimension in zip(
        spectrum.exponents, spectrum.standard_error, spectrum.dimension, strict=True
    ):
        numbers = {"largest": float(exponents[0]), "largest_error": float(errors[0]), "dimension": float(dimension)}
        curve = [(float(rank), value) for rank, value in enumerate(exponents.tolist(), start=1)]
        metrics = {f"lyapunov/{name}": value for name, value in numbers.items() if value == value}
        measured.append(Measurement(metrics, {"lyapunov/exponents": curve}))
    return measured


@dataclass
class Lyapunov:
    """The spectrum of each replica.

    Attributes:
        exponents: natural logarithm per step, descending, (R, L·S): the mean over sequences; S is H times the number of
            states. Those of a stack are the layers' together, since a layer does not act on those below it.
        standard_error: over sequences, (R, L·S); NaN for one sequence.
        dimension: Kaplan–Yorke dimension, (R,): where the sum of the largest exponents passes zero.
    """

    exponents: Tensor
    standard_error: Tensor
    dimension: Tensor


@torch.no_grad()
def lyapunov(
    recurrent: Recurrent, inputs: Tensor, *, transient: int | None = None, count: int | None = None
) -> Lyapunov:
    """The Lyapunov spectrum of every replica, driven by inputs.

    A basis of `count` vectors is carried along by the state Jacobians and made orthonormal at every step by QR; the
    exponents are the means of ln |R_ii| (Benettin et al. 1980; Engelken, Wolf, Abbott 2023, "Lyapunov spectra of
    chaotic recurrent neural networks"). In float64.

    Args:
        recurrent: the network.
        inputs: (R, B, T, D), from zero states.
        transient: steps at the start that only turn the basis; by default a tenth of T.
        count: so many of each layer's largest exponents; by default all.

    Raises:
        ValueError: when no step is left after the transient, or count is not between 1 and S.
    """
    T = inputs.shape[2]
    transient = T // 10 if transient is None else transient
    if not 0 <= transient < T:
        raise ValueError(f"transient={transient}: expected int between 0 and {T - 1}, for there are {T} steps")
    by_layer = [_rates(layer, transient, count) for layer in trajectories(recurrent, inputs)]
    rates = torch.cat(by_layer, dim=-1)  # (R, B, L·S)
    mean, order = rates.mean(1).sort(dim=-1, descending=True)
    error = (
        rates.std(1).gather(-1, order) / rates.shape[1] ** 0.5
        if rates.shape[1] > 1
        else torch.full_like(mean, torch.nan)
    )
    return Lyapunov(mean, error, kaplan_yorke(mean))


def _rates(layer: Trajectory, transient: int, count: int | None) -> Tensor:
    """Mean ln |R_ii| of every sequence after the transient: (R, B, count)."""
    R, T, B, _ = layer.projected.shape
    count = layer.size if count is None else count
    if not 1 <= count <= layer.size:
        raise ValueError(f"count={count}: expected int between 1 and {layer.size}, the width of the state")
    basis = torch.eye(layer.size, count, dtype=torch.float64, device=layer.projected.device)
    total = torch.zeros(R, B, count, dtype=torch.float64, device=layer.projected.device)
    step = 0
    for jacobians in chunks_of_jacobians(layer):
        for jacobian in jacobians.unbind(1):
            basis, upper = torch.linalg.qr(jacobian @ basis)
            if step >= transient:
                total += upper.diagonal(dim1=-2, dim2=-1).abs().log()
            step += 1
    return total / (T - transient)


def kaplan_yorke(exponents: Tensor) -> Tensor:
    """Kaplan–Yorke dimension of descending exponents (…, S): j + (λ_1 + … + λ_j)/|λ_{j+1}|, j the last with a sum ≥ 0.

    0 where the largest is negative, S where the sum of all is not.
    """
    sums = exponents.cumsum(-1)
    j = (sums >= 0).to(torch.int64).cumprod(-1).sum(-1, keepdim=True)
    S = exponents.shape[-1]
    next_one = exponents.gather(-1, j.clamp(max=S - 1))
    reached = sums.gather(-1, (j - 1).clamp(min=0))
    inside = j + reached / next_one.abs()
    return torch.where(j == 0, 0.0, torch.where(j == S, float(S), inside)).squeeze(-1)
