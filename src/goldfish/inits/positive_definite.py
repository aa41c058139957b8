"""Normalised positive definite recurrent weights, the np-RNN (Talathi & Vartak 2015)."""

from __future__ import annotations

import torch

from goldfish.inits.base import Layer
from goldfish.threads import one_thread


def positive_definite(layer: Layer, generator: torch.Generator) -> None:
    """np-RNN: W_hh symmetric positive definite with largest eigenvalue 1.

    Talathi & Vartak 2015, "Improving performance of recurrent neural network with relu nonlinearity": A = RᵀR/H with R
    standard normal (H, H), W_hh = (A + I)/e, e the largest eigenvalue of A + I. One direction is kept and all others
    decay, where the identity of the IRNN keeps them all. At large H the eigenvalues of A fill [0, 4], so W_hh's
    are in [.2, 1].

    Replaces W_hh, gate by gate, and sets all biases to 0; W_ih stays PyTorch's. Meant for ReLU.
    """
    normal = torch.randn(layer.weight_hh.shape, generator=generator, dtype=torch.float64)
    H = layer.hidden_size
    with one_thread():
        product = normal.mT @ normal
        raised = (product + product.mT) / (2 * H) + torch.eye(H, dtype=torch.float64)  # the product rounds unevenly
        largest = torch.linalg.eigvalsh(raised)[:, -1]
    layer.weight_hh.copy_(raised / largest[:, None, None])
    layer.bias_ih.zero_()
    layer.bias_hh.zero_()
