"""Long short-term memory with forget gate (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000)."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from goldfish.bounds import at_least
from goldfish.cells.base import Carry, HandDerivedCell, State


class LSTM(HandDerivedCell):
    """LSTM, as torch.nn.LSTM, gate order i, f, g, o.

    i, f, o = σ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), g = tanh(…), c_t = f c_{t-1} + i g, h_t = o tanh(c_t).

    Adjoint: total dL/dc_t = e_t + o (1 - tanh² c_t) dL/dh_t with e_t = f_{t+1} dL/dc_{t+1} (∂L/∂c_t at fixed h_t);
    dL/dh_{t-1} = direct_{t-1} + W_hhᵀ dL/d(gates)_t.
    """

    gates = ("i", "f", "g", "o")
    states = ("h", "c")
    saved = {"h": 1, "c": 1, "tanh_c": 1}

    def __init__(
        self,
        *,
        hidden_size: Annotated[int, at_least(1)] = 32,
        num_layers: Annotated[int, at_least(1)] = 1,
    ) -> None:
        super().__init__(hidden_size=hidden_size, num_layers=num_layers)

    def step(self, wx: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor) -> State:
        """See Cell.step."""
        h, c = state
        a = wx + torch.baddbmm(bias_hh.unsqueeze(1), h, weight_hh.mT)
        i, f, g, o = a.chunk(4, dim=-1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def step_in_place(
        self, gates: Tensor, state: State, weight_hh_t: Tensor, bias_hh: Tensor, out: dict[str, Tensor]
    ) -> State:
        """See HandDerivedCell.step_in_place."""
        h, c = state
        H = h.shape[-1]
        gates.baddbmm_(h, weight_hh_t)
        gates[..., : 2 * H].sigmoid_()
        gates[..., 2 * H : 3 * H].tanh_()
        gates[..., 3 * H :].sigmoid_()
        i, f, g, o = gates.chunk(4, dim=-1)
        c = torch.mul(f, c, out=out["c"]).addcmul_(i, g)
        tanh_c = torch.tanh(c, out=out["tanh_c"])
        return torch.mul(o, tanh_c, out=out["h"]), c

    def local_derivatives(self, gates: Tensor, state: State, saved: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """∂h_t/∂c_t; ∂c_t/∂(pre-activation) of i, f, g and ∂h_t/∂(pre-activation) of o, side by side; ∂c_t/∂c_{t-1}."""
        i, f, g, o = gates.chunk(4, dim=-1)
        tanh_c = saved["tanh_c"]
        to_gates = torch.cat(
            [g * i * (1 - i), state[1] * f * (1 - f), i * (1 - g * g), tanh_c * o * (1 - o)],
            dim=-1,
        )
        return o * (1 - tanh_c * tanh_c), to_gates, f

    def adjoint_step(
        self, local: tuple[Tensor, ...], dh: Tensor, carry: Carry, dgates: Tensor
    ) -> tuple[Carry, dict[str, Tensor]]:
        """See the class's adjoint equations."""
        h_by_c, to_gates, c_by_c = local
        H = dh.shape[-1]
        dc = dh * h_by_c if carry[1] is None else torch.addcmul(carry[1], dh, h_by_c)
        by_c = to_gates[..., : 3 * H].unflatten(-1, (3, H))
        torch.mul(dc.unsqueeze(-2), by_c, out=dgates[..., : 3 * H].unflatten(-1, (3, H)))
        torch.mul(dh, to_gates[..., 3 * H :], out=dgates[..., 3 * H :])
        return (None, dc * c_by_c), {"c": dc}
