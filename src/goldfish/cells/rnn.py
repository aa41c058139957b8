"""The vanilla recurrent network (Elman 1990)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from goldfish.cells.base import Carry, HandDerivedCell, State, tanh_backward


class RNN(HandDerivedCell):
    """Vanilla RNN: h_t = φ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), as torch.nn.RNN; φ may also be σ or the identity.

    Adjoint, with a_t the pre-activation: dL/da_t = φ'(a_t) · dL/dh_t and
    dL/dh_{t-1} = direct_{t-1} + W_hhᵀ dL/da_t (Pascanu, Mikolov, Bengio 2013, eq. 5).
    """

    def __init__(
        self,
        *,
        hidden_size: Annotated[int, Ge(1)] = 32,
        num_layers: Annotated[int, Ge(1)] = 1,
        nonlinearity: Literal["tanh", "relu", "identity", "sigmoid"] = "tanh",
    ) -> None:
        super().__init__(hidden_size=hidden_size, num_layers=num_layers)
        self.nonlinearity = nonlinearity

    def step(self, wx: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor) -> State:
        """See Cell.step."""
        (h,) = state
        return (self._activate(wx + torch.baddbmm(bias_hh.unsqueeze(1), h, weight_hh.mT)),)

    def _activate(self, a: Tensor) -> Tensor:
        if self.nonlinearity == "tanh":
            return torch.tanh(a)
        if self.nonlinearity == "sigmoid":
            # row by row, as a view does: over the whole, torch's remainder loop has other last bits, where depends on R
            return torch.sigmoid(torch.nn.functional.pad(a, (0, 1))[..., :-1])
        return torch.relu(a) if self.nonlinearity == "relu" else a

    def step_in_place(
        self, gates: Tensor, state: State, weight_hh_t: Tensor, bias_hh: Tensor, out: dict[str, Tensor]
    ) -> State:
        """See HandDerivedCell.step_in_place; h_t is `gates` itself."""
        gates.baddbmm_(state[0], weight_hh_t)
        if self.nonlinearity == "tanh":
            gates.tanh_()
        elif self.nonlinearity == "sigmoid":
            gates.sigmoid_()
        elif self.nonlinearity == "relu":
            gates.relu_()
        return (gates,)

    def adjoint_step(
        self,
        gates: Tensor,
        before: State,
        saved: dict[str, Tensor],
        adjoint: tuple[Tensor, Carry],
        dgates: Tensor,
        dinputs: Tensor,
    ) -> tuple[Carry, dict[str, Tensor]]:
        """dL/da_t = φ'(a_t) dL/dh_t, φ' read off h_t; nothing passes by W_hh."""
        dh, _ = adjoint
        if self.nonlinearity == "tanh":
            tanh_backward(dh, gates, out=dgates)
        elif self.nonlinearity == "sigmoid":
            torch.ops.aten.sigmoid_backward.grad_input(dh, gates, grad_input=dgates)
        elif self.nonlinearity == "relu":
            torch.ops.aten.threshold_backward.grad_input(dh, gates, 0, grad_input=dgates)
        else:
            dgates.copy_(dh)
        return (None,), {}
