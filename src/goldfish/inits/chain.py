"""A chain of units as recurrent weights (Orhan & Pitkow 2020)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt

from goldfish.inits.base import Layer


def chain(
    layer: Layer,
    generator: torch.Generator,
    *,
    scale: Annotated[float, Gt(0)] = 1.02,
    input_scale: Annotated[float, Ge(0)] | None = 0.9,
) -> None:
    """W_hh = scale on the first subdiagonal, 0 elsewhere: unit i receives unit i-1, and unit 0 only inputs.

    Orhan & Pitkow, ICLR 2020, "Improved memory in recurrent neural networks with sequential non-normal dynamics": a
    delay line as in Ganguli, Huh, Sompolinsky 2008, "Memory traces in dynamical systems". All its eigenvalues are 0,
    and yet it holds an input for H steps, which grows by `scale` (α in the paper) at every step. Inputs enter at the
    head of the chain: W_ih = input_scale · identity, (H, D).

    Replaces W_hh, and W_ih unless input_scale is null, the same in every gate; draws nothing. Biases stay PyTorch's.
    """
    subdiagonal = torch.diag(torch.ones(layer.hidden_size - 1, dtype=torch.float64), diagonal=-1)
    layer.weight_hh.copy_(scale * subdiagonal)
    if input_scale is not None:
        layer.weight_ih.copy_(input_scale * torch.eye(*layer.weight_ih.shape[1:], dtype=torch.float64))
