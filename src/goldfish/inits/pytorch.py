"""PyTorch's default initialisation."""

from __future__ import annotations

import math

import torch

from goldfish.inits.base import Layer


def pytorch(layer: Layer, generator: torch.Generator) -> None:
    """Every weight and bias uniform on ±1/√H, as torch.nn draws them.

    Replaces all four: W_ih, W_hh, b_ih, b_hh ~ U(-1/√H, 1/√H), whatever the fan-in (torch.nn.RNNBase.reset_parameters;
    the habit goes back to LeCun, Bottou, Orr, Müller 1998, "Efficient BackProp"). Entries of W_hh have variance
    1/(3H): in mean-field terms σ_w = 1/√3, deep in the regime where gradients vanish.

    Like every initialisation here it draws in float64 and rounds, so that runs of either precision start from the same
    numbers; torch's own generator stream is not reproduced.
    """
    bound = 1 / math.sqrt(layer.hidden_size)
    for weight in (layer.weight_ih, layer.weight_hh, layer.bias_ih, layer.bias_hh):
        drawn = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
        weight.copy_((2 * drawn - 1) * bound)
