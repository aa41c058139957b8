"""A forget bias for gated cells (Gers, Schmidhuber, Cummins 2000; Jozefowicz, Zaremba, Sutskever 2015)."""

from __future__ import annotations

import torch

from goldfish.errors import ConfigError
from goldfish.inits.base import Layer

CELLS = ("lstm", "gru")
_KEEPS = {"lstm": "f", "gru": "z"}  # the gate that multiplies the old state


def unit_forget(layer: Layer, generator: torch.Generator, *, b_f: float = 1.0) -> None:
    """The total bias of the gate that keeps the old state is b_f: f of the LSTM, z of the GRU.

    Gers, Schmidhuber, Cummins 2000, "Learning to forget", proposed it; Jozefowicz, Zaremba, Sutskever, ICML 2015, "An
    empirical exploration of recurrent network architectures", found that b_f = 1 closes the LSTM's gap to the GRU. The
    gate starts at about σ(b_f), so a state lasts about 1 + e^{b_f} steps. Any value is allowed; a negative one makes
    the cell forget.

    Replaces that gate's biases, b_f in b_ih and 0 in b_hh, since torch adds the two; all else stays PyTorch's, nothing
    is drawn. In torch's GRU h_t = (1-z) n + z h_{t-1}: z keeps, where papers that write (1-z) h_{t-1} need -b_f.

    Raises:
        ConfigError: for a cell other than lstm and gru.
    """
    if layer.cell not in CELLS:
        raise ConfigError(f"init=unit_forget: does not suit cell={layer.cell}, only {', '.join(CELLS)}")
    layer.set_bias(_KEEPS[layer.cell], b_f)
