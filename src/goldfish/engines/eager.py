"""The reference engine: the cell's step in a plain loop under autograd, in any dtype and on any device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from goldfish.cells.base import Cell, State
from goldfish.engines.layers import LayerWeights, Recorder
from goldfish.engines.scaled import Back, stack_chain


def project(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W x_t + b of every step as one product: (R, T, B, D) → (R, T, B, G·H)."""
    R, T, B, D = inputs.shape
    return torch.baddbmm(bias.unsqueeze(1), inputs.reshape(R, T * B, D), weight.mT).view(R, T, B, weight.shape[1])


def run(
    cell: Cell,
    inputs: Tensor,
    weights: Sequence[LayerWeights],
    initial: Sequence[State],
    recorder: Recorder,
    pool: dict[Any, list[Tensor]] | None = None,
) -> tuple[Tensor, list[State]]:
    """Run every layer over all steps.

    Args:
        cell: the cell; only its `step` is used.
        inputs: (R, T, B, D).
        weights: one for each layer.
        initial: the initial states of each layer, each (R, B, H).
        recorder: where a backward pass leaves the adjoints' norms while it is active.
        pool: not used; the other engines borrow buffers from it.

    Returns:
        The top layer's outputs (R, T, B, H) and every layer's final states.
    """
    x, finals, layers = inputs, [], []
    for weight, state in zip(weights, initial, strict=True):
        wx = project(x, weight.weight_ih, weight.bias_ih)
        trajectory = [state]
        for t in range(inputs.shape[1]):
            trajectory.append(cell.step(wx[:, t], trajectory[-1], weight.weight_hh, weight.bias_hh))
        layers.append((x, trajectory))
        finals.append(trajectory[-1])
        x = torch.stack([state[0] for state in trajectory[1:]], dim=1)
    tapped = _Tap.apply(_Chain(cell, weights, layers, recorder), x, *[s for state in finals for s in state])
    outputs, states = tapped[0], tapped[1:]
    width = len(cell.states)
    return outputs, [tuple(states[i * width : (i + 1) * width]) for i in range(len(weights))]


class _Chain:
    """The second chain: per-step vector–Jacobian products with rescaled cotangents, each step run again in float64."""

    def __init__(self, cell: Cell, weights: Sequence[LayerWeights], layers: Sequence[Any], recorder: Recorder) -> None:
        self.cell, self.weights, self.layers, self.recorder = cell, weights, layers, recorder

    def record(self, direct: Tensor, finals: Sequence[Tensor]) -> None:
        """Measure, given the gradients that reach the outputs (R, T, B, H) and the final states directly."""
        width = len(self.cell.states)
        grouped = [finals[i * width : (i + 1) * width] for i in range(len(self.weights))]
        backs = [self._back(index) for index in range(len(self.weights))]
        weights_ih = [weight.weight_ih.detach() for weight in self.weights]
        self.recorder.record(stack_chain(backs, weights_ih, self.cell.states, direct, grouped))

    def _back(self, index: int) -> Back:
        inputs, trajectory = self.layers[index]
        weight_ih, weight_hh, bias_ih, bias_hh = (weight.detach().double() for weight in self.weights[index])

        def back(t: int, adjoints: list[Tensor]) -> tuple[list[Tensor], dict[str, Tensor], Tensor]:
            wx_t = torch.baddbmm(bias_ih.unsqueeze(1), inputs[:, t].detach().double(), weight_ih.mT).requires_grad_()
            with torch.enable_grad():
                before = tuple(s.detach().double().requires_grad_() for s in trajectory[t])
                after = self.cell.step(wx_t, before, weight_hh, bias_hh)
                others = after[1:]  # their total adjoint includes the path through h_t
                asked = [*before, wx_t, *others]
                gradients = torch.autograd.grad(after, asked, adjoints, allow_unused=True, materialize_grads=True)
            totals = dict(zip(self.cell.states[1:], gradients[len(before) + 1 :], strict=True))
            return list(gradients[: len(before)]), totals, gradients[len(before)]

        return back


class _Tap(torch.autograd.Function):
    """The identity on outputs and final states; its backward pass sees what reaches them directly."""

    @staticmethod
    def forward(ctx: Any, chain: _Chain, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Pass everything through."""
        ctx.chain = chain
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Measure if asked to, and pass everything through."""
        if ctx.chain.recorder.active:
            ctx.chain.record(gradients[0], gradients[1:])
        return (None, *gradients)
