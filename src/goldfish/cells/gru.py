"""Gated recurrent unit (Cho et al. 2014), in the form of torch and cuDNN: r acts after the product with W_hn."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from goldfish.cells.base import Carry, HandDerivedCell, State, sigmoid_backward, tanh_backward


class GRU(HandDerivedCell):
    """GRU, as torch.nn.GRU, gate order r, z, n. z keeps the OLD state.

    r, z = σ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), n = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn)),
    h_t = (1 - z) n + z h_{t-1}.

    Adjoint: dL/dh_{t-1} = direct_{t-1} + z dL/dh_t + W_hhᵀ [dr, dz, r dn], each a multiple of dL/dh_t.
    """

    gates = ("r", "z", "n")
    saved: ClassVar[dict[str, int]] = {"h": 1, "wh": 3}  # wh = W_hh h_{t-1} + b_hh
    folds_bias = False

    def __init__(
        self,
        *,
        hidden_size: Annotated[int, Ge(1)] = 32,
        num_layers: Annotated[int, Ge(1)] = 1,
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

    def adjoint_step(
        self,
        gates: Tensor,
        before: State,
        saved: dict[str, Tensor],
        adjoint: tuple[Tensor, Carry],
        dgates: Tensor,
        dinputs: Tensor,
    ) -> tuple[Carry, dict[str, Tensor]]:
        """See the class's adjoint equation."""
        (dh, _), (r, z, n) = adjoint, gates.chunk(3, dim=-1)
        H = dh.shape[-1]
        dr, dz, dn = dgates.chunk(3, dim=-1)
        dn_input = tanh_backward(dh * (1 - z), n, out=dinputs[..., 2 * H :])
        torch.mul(dn_input, r, out=dn)
        sigmoid_backward(dn_input * saved["wh"][..., 2 * H :], r, out=dr)
        sigmoid_backward(dh * (before[0] - n), z, out=dz)
        dinputs[..., : 2 * H] = dgates[..., : 2 * H]
        return (dh * z,), {}
