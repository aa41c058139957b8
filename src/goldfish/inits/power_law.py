"""Power-law initialisation of gated cells (Mahto, Vo, Turek, Huth 2021)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt
from scipy import special

from goldfish.errors import ConfigError
from goldfish.inits.base import Layer

CELLS = ("lstm", "gru")


def power_law(layer: Layer, generator: torch.Generator, *, alpha: Annotated[float, Gt(0)] = 0.56) -> None:
    """Time constants T from an inverse gamma distribution, and the bias that gives each: -ln(e^{1/T} - 1).

    Mahto, Vo, Turek, Huth, ICLR 2021, "Multi-timescale representation learning in LSTM language models": T ~
    InvGamma(alpha, 1), so that the gate starts at e^{-1/T} and a cell state survives k steps with the mean
    E[e^{-k/T}] = (1 + k)^{-alpha}. The paper takes .56 for English text (Penn Treebank) and 1.5 for Dyck-2. LSTM: b_f,
    and b_i = -b_f. GRU: b_z, where z keeps, h_t = (1-z) n + z h_{t-1}.

    Replaces those gates' biases: all in b_ih and 0 in b_hh, since torch adds the two. All else stays PyTorch's.

    Raises:
        ConfigError: for a cell other than lstm and gru.
    """
    if layer.cell not in CELLS:
        raise ConfigError(f"init=power_law: does not suit cell={layer.cell}, only {', '.join(CELLS)}")
    u = torch.rand(layer.hidden_size, generator=generator, dtype=torch.float64)
    rates = torch.from_numpy(special.gammaincinv(alpha, u.numpy())).clamp(min=1e-300)  # 1/T ~ Gamma(alpha, 1)
    layer.set_memory(-torch.log(torch.expm1(rates)))
