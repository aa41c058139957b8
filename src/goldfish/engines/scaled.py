"""Adjoints over the whole range: float64 mantissas with a power-of-two exponent per sample.

A gradient that has passed a thousand steps may be 1e-230 or smaller; its mantissa stays near one, its exponent carries
the rest. The value is mantissa · 2^exponent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def rescale(vector: Tensor, exponent: Tensor) -> tuple[Tensor, Tensor]:
    """Bring each sample's largest entry into [½, 1): (…, H) and its exponent (…), which takes the power."""
    shift = torch.frexp(vector.abs().amax(-1)).exponent.to(torch.float64).clamp(-1000, 1000)
    return vector * torch.exp2(-shift).unsqueeze(-1), exponent + shift


def add(a: Tensor, a_exponent: Tensor, b: Tensor, b_exponent: Tensor) -> tuple[Tensor, Tensor]:
    """a·2^a_exponent + b·2^b_exponent as mantissa (…, H) and exponent (…).

    A zero term does not set the common exponent. What is 2^1074 times smaller than the other is lost, as it should be.
    """
    nothing = torch.full_like(a_exponent, -torch.inf)
    a_top = torch.where((a != 0).any(-1), a_exponent, nothing)
    b_top = torch.where((b != 0).any(-1), b_exponent, nothing)
    common = torch.maximum(a_top, b_top)
    common = torch.where(torch.isinf(common), a_exponent, common)
    a_factor = torch.exp2((a_exponent - common).clamp(max=0)).unsqueeze(-1)
    b_factor = torch.exp2((b_exponent - common).clamp(max=0)).unsqueeze(-1)
    return a * a_factor + b * b_factor, common


def log2_norm(vector: Tensor, exponent: Tensor) -> Tensor:
    """log2 of the Euclidean norm over the last axis: (…, H) → (…), -inf where every entry is zero."""
    vector, exponent = rescale(vector, exponent)
    return 0.5 * torch.log2((vector * vector).sum(-1)) + exponent


# (t, adjoints of the states at t) → (their part of those at t-1, total adjoints by name, dL/d(W_ih x_t + b_ih))
Back = Callable[[int, list[Tensor]], tuple[list[Tensor], dict[str, Tensor], Tensor]]


def layer_chain(
    back: Back, states: Sequence[str], direct: Tensor, direct_exponent: Tensor, final: Sequence[Tensor]
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Carry the adjoint of one layer back through time and write its norms down.

    Args:
        back: one step of the chain, linear in the adjoints: those of h_t in total, of the other states at fixed h_t.
        states: the states' names, h first.
        direct: what reaches each h_t from above, not through h_{t+1}: mantissa (R, T, B, H), float64.
        direct_exponent: (R, T, B).
        final: what reaches the final states directly, each (R, B, H), float64.

    Returns:
        log2 norms by name, (R, T, B) each: each state's total adjoint, and "state", the joint one;
        and dL/d(W_ih x_t + b_ih) as mantissa (R, T, B, G·H) and exponent (R, T, B).
    """
    T, H = direct.shape[1], direct.shape[-1]
    adjoint = torch.cat(list(final), dim=-1)
    exponent = torch.zeros_like(direct_exponent[:, 0])
    norms: dict[str, list[Tensor]] = {name: [] for name in (*states, "state")}
    to_inputs, exponents = [], []
    for t in reversed(range(T)):
        arriving = torch.nn.functional.pad(direct[:, t], (0, H * (len(states) - 1)))
        adjoint, exponent = rescale(*add(adjoint, exponent, arriving, direct_exponent[:, t]))
        previous, totals, to_input = back(t, list(adjoint.split(H, dim=-1)))
        totals = {states[0]: adjoint[..., :H], **totals, "state": adjoint}
        for name, norm in norms.items():
            norm.append(log2_norm(totals[name], exponent))
        to_inputs.append(to_input)
        exponents.append(exponent)
        adjoint = torch.cat(previous, dim=-1)
    stacked = {name: torch.stack(norm[::-1], dim=1) for name, norm in norms.items()}
    return stacked, torch.stack(to_inputs[::-1], dim=1), torch.stack(exponents[::-1], dim=1)


def stack_chain(
    backs: Sequence[Back],
    weights_ih: Sequence[Tensor],
    states: Sequence[str],
    direct: Tensor,
    finals: Sequence[Sequence[Tensor]],
) -> list[dict[str, Tensor]]:
    """Run `layer_chain` from the top layer down; return every layer's log2 norms, bottom first.

    `direct` (R, T, B, H) reaches the top layer's outputs; `finals` the final states, layer by layer.
    """
    mantissa = direct.double()
    mantissa, exponent = rescale(mantissa, torch.zeros_like(mantissa[..., 0]))
    layers: list[dict[str, Tensor]] = []
    for index in reversed(range(len(backs))):
        final = [tensor.double() for tensor in finals[index]]
        norms, to_input, exponent = layer_chain(backs[index], states, mantissa, exponent, final)
        layers.insert(0, norms)
        if index > 0:
            weight = weights_ih[index].double().unsqueeze(1)  # (R, 1, G·H, H)
            mantissa, exponent = rescale(to_input @ weight, exponent)
    return layers
