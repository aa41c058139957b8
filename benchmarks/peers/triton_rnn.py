"""The tanh RNN as persistent Triton kernels: what the CUDA engine would be, had it been written in Triton.

One program takes sixteen sequences of a replica, the fewest that Triton's matrix product has, through all steps.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 16  # sequences of a program
WARPS = 8


@triton.jit
def forward(
    projected, weight, outputs, T, B, H: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """h_t = tanh(W_ih x_t + b + W_hh h_{t-1}): `projected` is W_ih x + b, as `outputs` (R, T, B, H)."""
    replica, unit = tl.program_id(0), tl.arange(0, H)
    row = tl.program_id(1) * N + tl.arange(0, N)
    mine = (row < B)[:, None]
    transposed = tl.load(weight + replica * H * H + unit[None, :] * H + unit[:, None])
    at = (replica.to(tl.int64) * T * B + row[:, None]) * H + unit[None, :]
    h = tl.zeros((N, H), tl.float32)
    for _ in range(T):
        a = tl.dot(h, transposed, acc=tl.load(projected + at, mask=mine, other=0.0), input_precision=PRECISION)
        m = tl.exp(2.0 * tl.abs(a))
        size = 1.0 - 2.0 / (m + 1.0)
        h = tl.where(a < 0, -size, size)
        tl.store(outputs + at, h, mask=mine)
        at += B * H


@triton.jit
def backward(
    outputs, direct, adjoints, squares, weight, T, B, H: tl.constexpr, N: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dL/dh_t = direct_t + W_hhᵀ dL/da_{t+1}; dL/da to `adjoints` (R, T, B, H), ‖dL/dh_t‖² to `squares` (R, T, B)."""
    replica, unit = tl.program_id(0), tl.arange(0, H)
    row = tl.program_id(1) * N + tl.arange(0, N)
    mine = (row < B)[:, None]
    matrix = tl.load(weight + replica * H * H + unit[:, None] * H + unit[None, :])
    sample = (replica.to(tl.int64) * T + T - 1) * B + row
    carried = tl.zeros((N, H), tl.float32)
    for _ in range(T):
        at = sample[:, None] * H + unit[None, :]
        dh = carried + tl.load(direct + at, mask=mine, other=0.0)
        h = tl.load(outputs + at, mask=mine, other=0.0)
        da = dh * (1.0 - h * h)
        tl.store(squares + sample, tl.sum(dh * dh, axis=1), mask=row < B)
        tl.store(adjoints + at, da, mask=mine)
        carried = tl.dot(da, matrix, input_precision=PRECISION)
        sample -= B


def train(inputs: Tensor, cotangent: Tensor, weights: dict[str, Tensor], precision: str) -> dict[str, Tensor]:
    """A step's outputs (R, T, B, H), squared norms of dL/dh (R, T, B), and the gradients of the weights.

    Args:
        inputs: (R, T, B, D), contiguous.
        cotangent: what reaches the outputs, (R, T, B, H), contiguous.
        weights: weight_ih (R, H, D), weight_hh (R, H, H), bias (R, H); H a power of two, at least 16.
        precision: of Triton's matrix product: "ieee", or "tf32x3", which adds three products of shorter numbers.
    """
    R, T, B, D = inputs.shape
    H = cotangent.shape[-1]
    flat = inputs.view(R, T * B, D)
    projected = torch.baddbmm(weights["bias"].unsqueeze(1), flat, weights["weight_ih"].mT)
    outputs, adjoints = torch.empty_like(cotangent), torch.empty_like(cotangent)
    squares = inputs.new_empty(R, T, B)
    grid = (R, triton.cdiv(B, ROWS))
    chosen: Any = {"H": H, "N": ROWS, "PRECISION": precision, "num_warps": WARPS}
    forward[grid](projected, weights["weight_hh"], outputs, T, B, **chosen)
    backward[grid](outputs, cotangent, adjoints, squares, weights["weight_hh"], T, B, **chosen)
    below = adjoints.view(R, T * B, H)
    return {
        "outputs": outputs,
        "squares": squares,
        "weight_ih": below.mT @ flat,
        "weight_hh": below[:, B:].mT @ outputs.view(R, T * B, H)[:, :-B],
        "bias": below.sum(1),
    }
