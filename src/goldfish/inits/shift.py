"""Cyclic shift as recurrent weights: a ring that passes its content on."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt

from goldfish.inits.base import Layer


def shift(layer: Layer, generator: torch.Generator, *, scale: Annotated[float, Gt(0)] = 1.0) -> None:
    """W_hh = scale · cyclic shift: unit i receives unit i-1, unit 0 receives unit H-1.

    Rodan & Tiňo 2011, "Minimum complexity echo state network", IEEE Trans. Neural Networks 22(1): the simple cycle
    reservoir, a delay line closed to a ring. See also White, Lee, Sompolinsky 2004, "Short-term memory in orthogonal
    neural networks". Orthogonal at scale 1, with scale times the H-th roots of unity as eigenvalues.

    Replaces W_hh, the same in every gate, and draws nothing; W_ih and the biases stay PyTorch's.
    """
    ring = torch.eye(layer.hidden_size, dtype=torch.float64).roll(1, dims=0)
    layer.weight_hh.copy_(scale * ring.expand_as(layer.weight_hh))
