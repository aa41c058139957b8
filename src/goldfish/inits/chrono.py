"""Chrono initialisation of gated cells (Tallec & Ollivier 2018)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge

from goldfish.errors import ConfigError
from goldfish.inits.base import Layer

CELLS = ("lstm", "gru")


def chrono(layer: Layer, generator: torch.Generator, *, t_max: Annotated[int, Ge(3)] | None = None) -> None:
    """Gate biases that spread the units' memories over 1 … t_max steps: log U(1, t_max - 1).

    Tallec & Ollivier, ICLR 2018, "Can recurrent neural networks warp time?": with a gate bias of log(u) a unit
    remembers for about u steps. LSTM: b_f ~ log U(1, t_max - 1), b_i = -b_f. GRU: b_z ~ log U(1, t_max - 1): a plus
    sign, because in torch z keeps the old state, h_t = (1-z) n + z h_{t-1}, while the paper's gate lets the new one in.
    t_max is the longest dependency expected, in time steps; null takes the length of the training sequences; of two
    steps or fewer every bias is log 1 = 0.

    Replaces those gates' biases: all in b_ih and 0 in b_hh, since torch adds the two. All else stays PyTorch's.

    Raises:
        ConfigError: for a cell other than lstm and gru, for t_max ≤ 2, or when neither t_max nor a length is known.
    """
    if layer.cell not in CELLS:
        raise ConfigError(f"init=chrono: does not suit cell={layer.cell}, only {', '.join(CELLS)}")
    lifetimes = 1 + torch.rand(layer.hidden_size, generator=generator, dtype=torch.float64) * (_t_max(layer, t_max) - 2)
    layer.set_memory(lifetimes.log())


def _t_max(layer: Layer, given: int | None) -> int:
    if given is not None and given <= 2:
        raise ConfigError(f"init.t_max={given}: expected int ≥ 3 or null")
    steps = layer.sequence_length if given is None else given
    if steps is None:
        raise ConfigError("init.t_max=null: no sequence length is known here; expected int ≥ 3")
    return max(steps, 2)  # of two steps or fewer nothing needs remembering: log U(1, 1) is 0
