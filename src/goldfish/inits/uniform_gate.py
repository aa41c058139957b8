"""Uniform gate initialisation of gated cells (Gu, Gulcehre, Paine, Hoffman, Pascanu 2020)."""

from __future__ import annotations

import torch

from goldfish.errors import ConfigError
from goldfish.inits.base import Layer

CELLS = ("lstm", "gru")


def uniform_gate(layer: Layer, generator: torch.Generator) -> None:
    """The gate that keeps the old state starts uniform over (1/H, 1 - 1/H): its bias is ln u - ln(1 - u).

    Gu et al., ICML 2020, "Improving the gating mechanism of recurrent neural networks", section 3.1. A cell state
    survives k steps with the mean E[u^k] → 1/(k + 1), a power law; a constant bias gives an exponential. LSTM: b_f, and
    b_i = -b_f, so that the input gate starts at 1 - u. GRU: b_z, where z keeps, h_t = (1-z) n + z h_{t-1}.

    Replaces those gates' biases: all in b_ih and 0 in b_hh, since torch adds the two. All else stays PyTorch's. One or
    two units have nothing between 1/H and 1 - 1/H; their gates start at ½.

    Raises:
        ConfigError: for a cell other than lstm and gru.
    """
    if layer.cell not in CELLS:
        raise ConfigError(f"init=uniform_gate: does not suit cell={layer.cell}, only {', '.join(CELLS)}")
    H = layer.hidden_size
    margin = min(1 / H, 0.5)
    u = margin + (1 - 2 * margin) * torch.rand(H, generator=generator, dtype=torch.float64)
    layer.set_memory(torch.logit(u))
