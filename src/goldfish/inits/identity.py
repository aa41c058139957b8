"""Identity recurrent weights, the IRNN (Le, Jaitly, Hinton 2015)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt

from goldfish.inits.base import Layer


def identity(
    layer: Layer,
    generator: torch.Generator,
    *,
    scale: Annotated[float, Gt(0)] = 1.0,
    input_std: Annotated[float, Ge(0)] | None = 0.001,
) -> None:
    """IRNN: W_hh = scale · I, biases 0, W_ih normal with std input_std.

    Le, Jaitly, Hinton 2015, "A simple way to initialize recurrent networks of rectified linear units": with ReLU and
    no input the state stays what it is. The paper takes a scale below 1 (.01) where long memory is not wanted, and std
    .001 for the input weights.

    Replaces W_hh and both biases, and W_ih unless input_std is null, which leaves W_ih as PyTorch draws it. In LSTM and
    GRU, for which the paper makes no claim, every gate is treated so.
    """
    H = layer.hidden_size
    layer.weight_hh.copy_(scale * torch.eye(H, dtype=torch.float64).expand_as(layer.weight_hh))
    layer.bias_ih.zero_()
    layer.bias_hh.zero_()
    if input_std is not None:
        layer.weight_ih.copy_(input_std * torch.randn(layer.weight_ih.shape, generator=generator, dtype=torch.float64))
