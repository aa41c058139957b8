"""Xavier initialisation (Glorot & Bengio 2010)."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from annotated_types import Gt

from goldfish.inits.base import Layer


def xavier(layer: Layer, generator: torch.Generator, *, gain: Annotated[float, Gt(0)] = 1.0) -> None:
    """Xavier: weights uniform on ±gain·√(6 / (fan_in + fan_out)), biases 0.

    Glorot & Bengio, AISTATS 2010, "Understanding the difficulty of training deep feedforward neural networks", eq. 16:
    the variance 2/(fan_in + fan_out) is a compromise between keeping activations and keeping gradients.

    Replaces W_ih (fan_in D, fan_out H) and W_hh (both H), gate by gate, and sets all biases to 0, as the paper does.
    torch.nn.init.xavier_uniform_ on the stacked weight of an LSTM would count fan_out as 4H; here a gate is a layer.
    Recurrent entries have variance gain²/H, so σ_w = gain in mean-field terms.
    """
    for weight in (layer.weight_ih, layer.weight_hh):
        fan_out, fan_in = weight.shape[1:]
        bound = gain * math.sqrt(6 / (fan_in + fan_out))
        drawn = torch.rand(weight.shape, generator=generator, dtype=torch.float64)
        weight.copy_((2 * drawn - 1) * bound)
    layer.bias_ih.zero_()
    layer.bias_hh.zero_()
