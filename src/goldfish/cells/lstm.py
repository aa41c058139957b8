"""Long short-term memory with forget gate (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor

from goldfish.cells.base import Carry, HandDerivedCell, State, sigmoid_backward, tanh_backward


class LSTM(HandDerivedCell):
    """LSTM, as torch.nn.LSTM, gate order i, f, g, o.

    i, f, o = σ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), g = tanh(…), c_t = f c_{t-1} + i g, h_t = o tanh(c_t).

    Adjoint: total dL/dc_t = e_t + o (1 - tanh² c_t) dL/dh_t with e_t = f_{t+1} dL/dc_{t+1} (∂L/∂c_t at fixed h_t);
    dL/dh_{t-1} = direct_{t-1} + W_hhᵀ dL/d(gates)_t.
    """

    gates = ("i", "f", "g", "o")
    states = ("h", "c")
    hold: ClassVar[dict[str, float]] = {"i": -1e4, "f": 1e4}  # f = 1, i = 0 (cpu: e^-87)
    saved: ClassVar[dict[str, int]] = {"h": 1, "c": 1, "tanh_c": 1}

    def __init__(
        self,
        *,
        hidden_size: Annotated[int, Ge(1)] = 32,
        num_layers: Annotated[int, Ge(1)] = 1,
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

    def adjoint_step(
        self,
        gates: Tensor,
        before: State,
        saved: dict[str, Tensor],
        adjoint: tuple[Tensor, Carry],
        dgates: Tensor,
        dinputs: Tensor,
    ) -> tuple[Carry, dict[str, Tensor]]:
        """See the class's adjoint equations."""
        (dh, (_, e)), (i, f, g, o) = adjoint, gates.chunk(4, dim=-1)
        di, df, dg, do = dgates.chunk(4, dim=-1)
        dc = tanh_backward(dh * o, saved["tanh_c"])
        if e is not None:
            dc += e
        sigmoid_backward(dc * g, i, out=di)
        sigmoid_backward(dc * before[1], f, out=df)
        tanh_backward(dc * i, g, out=dg)
        sigmoid_backward(dh * saved["tanh_c"], o, out=do)
        return (None, dc * f), {"c": dc}
