"""Kaiming initialisation (He et al. 2015)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Gt

from goldfish.inits.base import Layer


def kaiming(
    layer: Layer,
    generator: torch.Generator,
    *,
    gain: Annotated[float, Gt(0)] = 1.4142135623730951,  # √2
) -> None:
    """Kaiming: weights normal with std gain/√fan_in, biases 0; gain √2 suits ReLU.

    He, Zhang, Ren, Sun, ICCV 2015, "Delving deep into rectifiers", eq. 10: ½ · fan_in · Var[w] = 1, because ReLU
    silences half of the units. The same √2 is used whatever the nonlinearity; for tanh the argument gives gain=1.

    Replaces W_ih (fan_in D) and W_hh (fan_in H), gate by gate, and sets all biases to 0, as the paper does. Recurrent
    entries have σ_w = gain in mean-field terms. In a recurrent network W_ih x_t adds to W_hh h_{t-1}, which the paper's
    feedforward layers do not have.
    """
    for weight in (layer.weight_ih, layer.weight_hh):
        drawn = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        weight.copy_(drawn * (gain / math.sqrt(weight.shape[-1])))
    layer.bias_ih.zero_()
    layer.bias_hh.zero_()
