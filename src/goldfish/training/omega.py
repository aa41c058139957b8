"""Pascanu's regulariser Ω of a vanilla RNN: the gradient should keep its norm from step to step.

Pascanu, Mikolov, Bengio, ICML 2013, "On the difficulty of training recurrent neural networks", eq. 9 and 10, as in the
authors' code: with g_t = dL/dh_t and x_t = W_hhᵀ (φ'(a_t) ⊙ g_t), the part of g_{t-1} that comes from it, Ω is
the mean over samples and steps of (‖x_t‖²/‖g_t‖² - 1)², where ‖g_t‖² ≥ 1e-20. Of it only the immediate derivative by
W_hh is taken: g_t and h_t count as constants.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from goldfish.recurrent import Recurrent

BOUND = 1e-20


def omega_gradient(weight_hh: Tensor, h: Tensor, direct: Tensor, nonlinearity: str) -> Tensor:
    """The immediate derivative of every replica's Ω by W_hh, (R, H, H); zero where no step counts.

    Args:
        weight_hh: (R, H, H), h_t = φ(W_hh h_{t-1} + …).
        h: states of the one layer, (R, B, T, H).
        direct: the part of dL/dh_t that does not pass through later states, (R, B, T, H); L is the mean over samples.
        nonlinearity: φ.
    """
    slope = _slope(h, nonlinearity)
    g = torch.empty_like(h)
    arriving = torch.zeros_like(h[:, :, 0])
    for t in reversed(range(h.shape[2])):
        torch.add(direct[:, :, t], arriving, out=g[:, :, t])
        arriving = torch.bmm(g[:, :, t] * slope[:, :, t], weight_hh)
    passed = (g * slope).flatten(1, 2)  # (R, B·T, H)
    back = torch.bmm(passed, weight_hh)
    squares = g.square().sum(-1).flatten(1)
    counted = squares >= BOUND
    ratio = torch.where(counted, back.square().sum(-1) / squares, 1.0)
    count = counted.sum(1, keepdim=True).clamp(min=1)
    weight = torch.where(counted, 4 * (ratio - 1) / squares, 0.0) / count
    return torch.bmm((weight.unsqueeze(-1) * passed).mT, back)


def _slope(h: Tensor, nonlinearity: str) -> Tensor:
    """φ'(a_t), read off h_t."""
    if nonlinearity == "tanh":
        return 1 - h * h
    if nonlinearity == "sigmoid":
        return h * (1 - h)
    return (h > 0).to(h.dtype) if nonlinearity == "relu" else torch.ones_like(h)


@contextmanager
def top_states(recurrents: Sequence[Recurrent]) -> Iterator[list[Tensor]]:
    """The top layer's states, (R, B, T, H), and the final ones, (R, L, B, H), of every forward pass inside."""
    states: list[Tensor] = []
    handles = [
        part.register_forward_hook(lambda module, given, out: states.extend((out[0], out[1]["h"])))
        for part in recurrents
    ]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()
