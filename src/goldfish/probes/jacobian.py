"""State Jacobians ∂s_t/∂s_{t-1} and their products, where s_t is the whole state: h_t, and c_t of the LSTM."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor

from goldfish.cells.base import Cell, HandDerivedCell, State
from goldfish.engines.eager import LayerWeights, project
from goldfish.probes.base import Measurement, Pack, driving_inputs
from goldfish.probes.gradient_flow import gradient_flow
from goldfish.recurrent import Recurrent

_CHUNK = 2**20  # numbers in the largest buffer of a chunk of steps: it stays in cache


def measure(pack: Pack, *, samples: Annotated[int, Ge(1)] = 4, draws: Annotated[int, Ge(2)] = 16) -> list[Measurement]:
    """State Jacobians of the top layer along `samples` sequences of the probe batch.

    jacobian/step_gain is the geometric mean over steps of the largest singular value of ∂s_t/∂s_{t-1}: an upper bound
    of what a gradient changes by per step. The curve jacobian/log10_norm_by_lag is ‖∂s_T/∂s_t‖_F over √S, estimated
    with `draws` vectors, its mean over sequences; jacobian/decay_rate is the slope of its ln, by the two ends.
    """
    if not pack.recurrents:
        return []
    recurrent, inputs = pack.model.measured, driving_inputs(pack, samples)
    top = trajectories(recurrent, inputs)[-1]
    gains = torch.cat([torch.linalg.matrix_norm(part, 2).log().flatten(1) for part in chunks_of_jacobians(top)], 1)
    dtype = recurrent.get_parameter("weight_hh_l0").dtype
    norms = long_range_norm(recurrent, inputs.to(dtype), draws=draws).log2_norm * math.log10(2)
    by_lag = (norms - norms[..., -1:]).mean(1).flip(-1)
    measured = []
    for gain, curve in zip(gains.mean(1).exp().tolist(), by_lag.tolist(), strict=True):
        metrics = {"jacobian/step_gain": gain}
        if len(curve) > 1 and math.isfinite(curve[-1]):
            metrics["jacobian/decay_rate"] = math.log(10) * (curve[-1] - curve[0]) / (len(curve) - 1)
        measured.append(Measurement(metrics, {"jacobian/log10_norm_by_lag": list(enumerate(curve))}))
    return measured


@dataclass
class Trajectory:
    """One layer's states along a batch, in float64.

    Attributes:
        cell: the cell.
        weights: the layer's four weights, (R, …).
        projected: W_ih x_t + b_ih, (R, T, B, G·H).
        states: each state at t = 0 … T, the initial one first: (R, T + 1, B, H).
    """

    cell: Cell
    weights: LayerWeights
    projected: Tensor
    states: tuple[Tensor, ...]

    @property
    def size(self) -> int:
        """S, the width of the whole state: H times the number of states."""
        return self.cell.hidden_size * len(self.cell.states)


@torch.no_grad()
def trajectories(recurrent: Recurrent, inputs: Tensor) -> list[Trajectory]:
    """Run every layer from zero states, in float64: inputs (R, B, T, D) → one trajectory a layer, bottom first."""
    x = inputs.double().transpose(1, 2)
    layers = []
    for index in range(recurrent.cell.num_layers):
        weights = LayerWeights(*(weight.detach().double() for weight in recurrent.layer_weights(index)))
        projected = project(x, weights.weight_ih, weights.bias_ih)
        R, T, B, _ = projected.shape
        state: State = tuple(projected.new_zeros(R, B, recurrent.cell.hidden_size) for _ in recurrent.cell.states)
        path = [state]
        for t in range(T):
            path.append(recurrent.cell.step(projected[:, t], path[-1], weights.weight_hh, weights.bias_hh))
        states = tuple(torch.stack(each, dim=1) for each in zip(*path, strict=True))
        layers.append(Trajectory(recurrent.cell, weights, projected, states))
        x = states[0][:, 1:]
    return layers


def step_jacobians(trajectory: Trajectory, start: int = 0, stop: int | None = None) -> Tensor:
    """∂s_t/∂s_{t-1} of the steps t - 1 = start … stop - 1, at the trajectory's states and inputs.

    A cell with an adjoint by hand gives every row as one step of its adjoint recursion; any other cell is
    differentiated by torch.func.

    Returns:
        (R, K, B, S, S), float64: row i is the gradient of state unit i, those of h first, then those of c.
    """
    steps = slice(start, trajectory.projected.shape[1] if stop is None else stop)
    projected = trajectory.projected[:, steps]
    before = tuple(state[:, :-1][:, steps].flatten(1, 2) for state in trajectory.states)
    rows = _rows_by_hand if isinstance(trajectory.cell, HandDerivedCell) else _rows_by_autograd
    jacobians: Tensor = rows(trajectory, projected.flatten(1, 2), before).unflatten(1, projected.shape[1:3])
    return jacobians


def chunks_of_jacobians(trajectory: Trajectory) -> Iterator[Tensor]:
    """`step_jacobians` of all steps, as many at a time as memory should hold."""
    R, T, B, _ = trajectory.projected.shape
    length = max(1, _CHUNK // (R * B * trajectory.size * trajectory.projected.shape[-1]))
    for start in range(0, T, length):
        yield step_jacobians(trajectory, start, min(T, start + length))


@torch.no_grad()
def _rows_by_hand(trajectory: Trajectory, projected: Tensor, before: State) -> Tensor:
    """The Jacobians' rows at N states: projected (R, N, G·H), before (R, N, H) each → (R, N, S, S)."""
    cell, (_, weight_hh, _, bias_hh) = trajectory.cell, trajectory.weights
    assert isinstance(cell, HandDerivedCell)
    H, S = cell.hidden_size, trajectory.size
    gates = projected + bias_hh.unsqueeze(1) if cell.folds_bias else projected.clone()
    saved = {name: gates.new_empty(*gates.shape[:-1], width * H) for name, width in cell.saved.items()}
    cell.step_in_place(gates, before, weight_hh.mT.contiguous(), bias_hh, saved)
    R, N, width = gates.shape

    def over_rows(tensor: Tensor) -> Tensor:
        return tensor.unsqueeze(1).expand(R, S, N, tensor.shape[-1])

    basis = torch.eye(S, dtype=gates.dtype, device=gates.device).view(1, S, 1, S).expand(R, S, N, S)
    dh, *others = basis.split(H, dim=-1)
    dgates = gates.new_empty(R, S, N, width)
    dinputs = dgates if cell.folds_bias else torch.empty_like(dgates)
    carry, _ = cell.adjoint_step(
        over_rows(gates),
        tuple(over_rows(state) for state in before),
        {name: over_rows(value) for name, value in saved.items()},
        (dh, (None, *others)),
        dgates,
        dinputs,
    )
    through = torch.bmm(dgates.flatten(1, 2), weight_hh).view(R, S, N, H)
    through = through if carry[0] is None else through + carry[0]
    rest = [torch.zeros_like(through) if part is None else part for part in carry[1:]]
    return torch.cat([through, *rest], dim=-1).transpose(1, 2)


def _rows_by_autograd(trajectory: Trajectory, projected: Tensor, before: State) -> Tensor:
    """As `_rows_by_hand`, for a cell that has only its step."""
    cell, (_, weight_hh, _, bias_hh) = trajectory.cell, trajectory.weights
    H = cell.hidden_size

    def step(state: Tensor, wx: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        states = tuple(part.view(1, 1, H) for part in state.split(H))
        after = cell.step(wx.view(1, 1, -1), states, weight.unsqueeze(0), bias.unsqueeze(0))
        return torch.cat([part.flatten() for part in after])

    over_states = torch.func.vmap(torch.func.jacrev(step), in_dims=(0, 0, None, None))
    rows: Tensor = torch.func.vmap(over_states)(torch.cat(before, dim=-1), projected, weight_hh, bias_hh)
    return rows.detach()


@dataclass
class LongRange:
    """‖∂s_T/∂s_t‖_F by lag, of the top layer.

    Attributes:
        log2_norm: log₂ of the norm's estimate, (R, B, T), by t = 1 … T: the last is that of the identity, √S.
        relative_error: the estimate's standard error, as a share of the norm, (R, B, T).
    """

    log2_norm: Tensor
    relative_error: Tensor


def long_range_norm(recurrent: Recurrent, inputs: Tensor, *, draws: int = 32, seed: int = 0) -> LongRange:
    """Estimate the Frobenius norm of the long-range Jacobian ∂s_T/∂s_t of the top layer for every t at once.

    E‖vᵀJ‖² = ‖J‖_F² for v ~ N(0, I) (Hutchinson 1990); one backward pass from v · s_T gives vᵀ ∂s_T/∂s_t of every t.
    Norms below the range of floating-point numbers are right, as in `gradient_flow`.

    Args:
        recurrent: of any dtype; computed in it.
        inputs: (R, B, T, D).
        draws: the number of vectors v, at least 2.
        seed: of the draws.
    """
    B = inputs.shape[1]
    source = torch.Generator().manual_seed(seed)
    repeated = inputs.repeat(1, draws, 1, 1).requires_grad_()
    with torch.enable_grad(), gradient_flow(recurrent) as flow:
        _, state = recurrent(repeated)
        loss = torch.zeros((), dtype=repeated.dtype, device=repeated.device)
        for final in state.values():
            top = final[:, -1]
            loss = loss + (torch.randn(top.shape, generator=source).to(top) * top).sum()
        torch.autograd.grad(loss, repeated)
    log2_squares = 2 * flow.log2_norm["state"][:, -1].unflatten(1, (draws, B))  # (R, draws, B, T)
    largest = log2_squares.amax(1, keepdim=True).nan_to_num(neginf=0.0)
    squares = torch.exp2(log2_squares - largest)
    mean = squares.mean(1)
    error = squares.std(1) / math.sqrt(draws) / (2 * mean)  # of the square root, to first order
    return LongRange(0.5 * (torch.log2(mean) + largest.squeeze(1)), error)


def log_singular_values(jacobians: Tensor, *, sweeps: int = 20, tolerance: float = 1e-10) -> Tensor:
    """ln of the singular values of a product of matrices; the smallest keep their digits, and nothing underflows.

    Each sweep carries an orthogonal basis through the factors by QR, then turns round and carries it through the
    transposed triangular factors; the product of their diagonals tends to the singular values, faster if these differ
    more. Values within a factor of 1e8 of the largest, which may lie close together, are read off the product itself.

    Args:
        jacobians: (…, K, S, S), in the order in which they act: the product is the last times … times the first.
        sweeps: at most so many.
        tolerance: a sweep that moves no logarithm by more than this per factor is the last.

    Returns:
        (…, S), descending; -inf for a product without full rank.
    """
    factors, before = list(jacobians.unbind(-3)), None
    for _ in range(sweeps):
        basis = torch.eye(jacobians.shape[-1], dtype=jacobians.dtype, device=jacobians.device)
        triangular = []
        for factor in factors:
            basis, upper = torch.linalg.qr(factor @ basis)
            triangular.append(upper)
        diagonals = torch.stack([upper.diagonal(dim1=-2, dim2=-1).abs().log() for upper in triangular])
        logs = diagonals.sum(0).sort(dim=-1, descending=True).values
        if before is not None and not bool(((logs - before).abs() > tolerance * len(factors)).any()):
            break
        before, factors = logs, [upper.mT for upper in reversed(triangular)]
    direct = _log_singular_values_of_the_product(jacobians)
    return torch.where(direct > direct[..., :1] - math.log(1e8), direct, logs)


def _log_singular_values_of_the_product(jacobians: Tensor) -> Tensor:
    """The same from the product, scaled as it grows; those far below the largest have no digits."""
    product = torch.eye(jacobians.shape[-1], dtype=jacobians.dtype, device=jacobians.device)
    scale = torch.zeros(jacobians.shape[:-3], dtype=jacobians.dtype, device=jacobians.device)
    for factor in jacobians.unbind(-3):
        product = factor @ product
        largest = product.abs().amax((-2, -1)).clamp(min=torch.finfo(product.dtype).tiny)
        product, scale = product / largest[..., None, None], scale + largest.log()
    values: Tensor = torch.linalg.svdvals(product)
    return values.log() + scale.unsqueeze(-1)
