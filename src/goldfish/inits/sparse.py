"""Sparse recurrent weights of a given spectral radius (Sutskever et al. 2013; Pascanu et al. 2013)."""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Gt

from goldfish.inits.base import Layer
from goldfish.threads import one_thread


def sparse(
    layer: Layer,
    generator: torch.Generator,
    *,
    nonzeros: Annotated[int, Ge(1)] = 15,
    spectral_radius: Annotated[float, Gt(0)] = 0.95,
    input_std: Annotated[float, Ge(0)] | None = None,
) -> None:
    """W_hh with `nonzeros` normal entries per row, rescaled to a spectral radius.

    Sutskever, Martens, Dahl, Hinton, ICML 2013, "On the importance of initialization and momentum in deep learning":
    every unit listens to 15 others, spectral radius 1.1. Pascanu, Mikolov, Bengio, ICML 2013, "On the difficulty of
    training recurrent neural networks" (its "smart tanh"): 15 per row, spectral radius .95, std .01 for W_ih and biases
    0, which is input_std=.01 here.

    Replaces W_hh, gate by gate; the rows are those of h_t = φ(W_hh h_{t-1}), so `nonzeros` counts the incoming
    connections of a unit (the code of Pascanu et al. multiplies from the other side: the outgoing ones). A layer of
    fewer units has dense rows. With input_std also W_ih ~ N(0, std input_std) and all biases 0; null leaves them
    PyTorch's.
    """
    shape = layer.weight_hh.shape
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    ranks = torch.rand(shape, generator=generator, dtype=torch.float64).argsort(dim=-1).argsort(dim=-1)
    kept = values * (ranks < nonzeros)
    with one_thread():
        radius = torch.linalg.eigvals(kept).abs().amax(-1)
    layer.weight_hh.copy_(kept * (spectral_radius / radius)[:, None, None])
    if input_std is not None:
        layer.weight_ih.copy_(input_std * torch.randn(layer.weight_ih.shape, generator=generator, dtype=torch.float64))
        layer.bias_ih.zero_()
        layer.bias_hh.zero_()
