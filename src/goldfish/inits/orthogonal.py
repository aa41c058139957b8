"""Random orthogonal recurrent weights (Saxe, McClelland, Ganguli 2014)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Gt

from goldfish.inits.base import Layer
from goldfish.threads import one_thread


def orthogonal(layer: Layer, generator: torch.Generator, *, gain: Annotated[float, Gt(0)] = 1.0) -> None:
    """W_hh = gain · a random orthogonal matrix: every singular value is gain.

    Saxe, McClelland, Ganguli, ICLR 2014, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks": WᵀW = gain² I, so that at gain 1 it keeps the norm of every vector, forward and backward. Uniform
    (Haar) over the orthogonal group: Q of a Gaussian matrix's QR, the signs fixed so that diag(R) > 0 (Mezzadri 2007,
    "How to generate random matrices from the classical compact groups").

    Replaces W_hh, gate by gate with a matrix of its own; W_ih and the biases stay PyTorch's.
    """
    normal = torch.randn(layer.weight_hh.shape, generator=generator, dtype=torch.float64)
    with one_thread():
        q, r = torch.linalg.qr(normal)
    signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q)
    layer.weight_hh.copy_(gain * q * signs.unsqueeze(-2))
