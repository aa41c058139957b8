"""A linear layer for every replica whose bits depend on nothing but the replica: torch.baddbmm's depend on the pack."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from goldfish.engines.cuda import gemm


class _Linear(torch.autograd.Function):
    """(inputs, weight, bias) → outputs."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """One product."""
        ctx.save_for_backward(inputs, weight)
        return gemm.project(inputs, weight, bias.contiguous(), inputs.new_empty(*inputs.shape[:2], weight.shape[1]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, adjoints: Tensor) -> Any:
        """Two more products."""
        inputs, weight = ctx.saved_tensors
        adjoints = adjoints.contiguous()
        to_inputs = None
        if ctx.needs_input_grad[0]:
            to_inputs = gemm.project(adjoints, weight.mT, None, torch.empty_like(inputs))
        if not any(ctx.needs_input_grad[1:]):
            return to_inputs, None, None
        sums = gemm.to_weights(inputs, adjoints)
        return to_inputs, sums[:, :-1].mT, sums[:, -1]


def linear(inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """W x + b, with exact gradients, on the GPU that the tensors are on.

    Args:
        inputs: (R, …, D).
        weight: (R, O, D).
        bias: (R, O).

    Returns:
        (R, …, O).
    """
    if inputs.numel() == 0:
        return (weight.sum() + bias.sum()) * inputs.new_zeros(*inputs.shape[:-1], weight.shape[1])
    flat = inputs.reshape(inputs.shape[0], -1, inputs.shape[-1])
    outputs: Tensor = _Linear.apply(flat, weight, bias)
    return outputs.view(*inputs.shape[:-1], weight.shape[1])
