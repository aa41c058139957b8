"""Gated recurrent unit (Cho et al. 2014), in the form of torch and cuDNN: r acts after the product with W_hn."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from goldfish.bounds import at_least
from goldfish.cells.base import Carry, HandDerivedCell, State


class GRU(HandDerivedCell):
    """GRU, as torch.nn.GRU, gate order r, z, n. z keeps the OLD state.

    r, z = σ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), n = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn)),
    h_t = (1 - z) n + z h_{t-1}.

    Adjoint: dL/dh_{t-1} = direct_{t-1} + z dL/dh_t + W_hhᵀ [dr, dz, r dn], each a multiple of dL/dh_t.
    """

    gates = ("r", "z", "n")
    saved = {"h": 1, "wh": 3}  # wh = W_hh h_{t-1} + b_hh
    folds_bias = False

    def __init__(
        self,
        *,
        hidden_size: Annotated[int, at_least(1)] = 32,
        num_layers: Annotated[int, at_least(1)] = 1,
    ) -> None:
        super().__init__(hidden_size=hidden_size, num_layers=num_layers)

    def step(self, wx: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor) -> State:
        """See Cell.step."""
        (h,) = state
        H = h.shape[-1]
        wh = torch.baddbmm(bias_hh.unsqueeze(1), h, weight_hh.mT)
        # σ on a view: over contiguous memory its vector tail, so its last bit, would move with R
        r, z = torch.sigmoid((wx + wh)[..., : 2 * H]).chunk(2, dim=-1)
        n = torch.tanh(wx[..., 2 * H :] + r * wh[..., 2 * H :])
        return ((1 - z) * n + z * h,)

    def step_in_place(
        self, gates: Tensor, state: State, weight_hh_t: Tensor, bias_hh: Tensor, out: dict[str, Tensor]
    ) -> State:
        """See HandDerivedCell.step_in_place."""
        (h,) = state
        H = h.shape[-1]
        wh = torch.baddbmm(bias_hh.unsqueeze(1), h, weight_hh_t, out=out["wh"])
        gates[..., : 2 * H].add_(wh[..., : 2 * H]).sigmoid_()
        r, z, n = gates.chunk(3, dim=-1)
        n.addcmul_(r, wh[..., 2 * H :]).tanh_()
        return (torch.lerp(n, h, z, out=out["h"]),)

    def local_derivatives(self, gates: Tensor, state: State, saved: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """∂h_t/∂(hidden-side pre-activation) of r, z, n side by side; ∂h_t/∂(input side of n); ∂h_t/∂h_{t-1} at fixed gates."""
        r, z, n = gates.chunk(3, dim=-1)
        wh_n = saved["wh"][..., 2 * r.shape[-1] :]
        by_n = (1 - z) * (1 - n * n)
        to_gates = torch.cat([by_n * wh_n * r * (1 - r), (state[0] - n) * z * (1 - z), by_n * r], dim=-1)
        return to_gates, by_n, z

    def adjoint_step(
        self, local: tuple[Tensor, ...], dh: Tensor, carry: Carry, dgates: Tensor
    ) -> tuple[Carry, dict[str, Tensor]]:
        """See the class's adjoint equation."""
        to_gates, _, h_by_h = local
        by_gate = (3, dh.shape[-1])
        torch.mul(dh.unsqueeze(-2), to_gates.unflatten(-1, by_gate), out=dgates.unflatten(-1, by_gate))
        return (dh * h_by_h,), {}

    def input_adjoint(self, local: tuple[Tensor, ...], dh: Tensor, dgates: Tensor) -> Tensor:
        """The input side of n is not scaled by r."""
        H = dh.shape[-1]
        return torch.cat([dgates[..., : 2 * H], dh * local[1]], dim=-1)
