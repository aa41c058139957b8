"""The base classes of cells. A new cell needs only `step`: the eager engine runs and measures it.

Shapes: R replicas, B sequences, H hidden units, G gates, D inputs. Weights are laid out as in torch.nn, with a leading
replica axis: weight_ih (R, G·H, D), weight_hh (R, G·H, H), bias_ih and bias_hh (R, G·H).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

State = tuple[Tensor, ...]  # one tensor (R, B, H) for each name in `Cell.states`, h first
Carry = tuple[Tensor | None, ...]  # one for each state; None where nothing passes by W_hh


class Cell(ABC):
    """One step of a recurrent network: (W_ih x_t + b_ih, state at t-1) → state at t."""

    gates: ClassVar[tuple[str, ...]] = ("h",)
    states: ClassVar[tuple[str, ...]] = ("h",)
    hold: ClassVar[dict[str, float]] = {}  # added to the pre-activations of gates, keeps all states but h as they are
    nonlinearity: str = "tanh"

    def __init__(self, *, hidden_size: int, num_layers: int) -> None:
        self.hidden_size = hidden_size
        self.num_layers = num_layers

    @abstractmethod
    def step(self, wx: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor) -> State:
        """One differentiable step.

        Args:
            wx: W_ih x_t + b_ih, (R, B, G·H).
            state: the state at t-1, each (R, B, H).
            weight_hh: (R, G·H, H).
            bias_hh: (R, G·H).
        """


class HandDerivedCell(Cell):
    """A cell that also has its step in place and its adjoint by hand, for the stepwise engine.

    `gates` below is (…, G·H): it holds W_ih x_t + b_ih on entry and the gates' activations afterwards. `saved` are the
    further buffers the backward pass needs, name → width in units of H; "h" among them where h is not `gates` itself.
    """

    saved: ClassVar[dict[str, int]] = {}
    folds_bias: ClassVar[bool] = True  # W_ih x + b_ih and W_hh h + b_hh are only ever added (not in the GRU)

    @abstractmethod
    def step_in_place(
        self, gates: Tensor, state: State, weight_hh_t: Tensor, bias_hh: Tensor, out: dict[str, Tensor]
    ) -> State:
        """Run one step, writing into `gates` and `out`; return the state at t as views of them.

        `weight_hh_t` is W_hhᵀ (R, H, G·H).
        """

    @abstractmethod
    def adjoint_step(
        self,
        gates: Tensor,
        before: State,
        saved: dict[str, Tensor],
        adjoint: tuple[Tensor, Carry],
        dgates: Tensor,
        dinputs: Tensor,
    ) -> tuple[Carry, dict[str, Tensor]]:
        """One step of the adjoint recursion, backwards in time.

        Args:
            gates: the gates' activations at t, (R, B, G·H).
            before: the state at t-1.
            saved: the further buffers at t.
            adjoint: total dL/dh_t, (R, B, H), and the carry: for every state, its adjoint's part that came from t+1
                elementwise, not through W_hh. h's is already in dL/dh_t; c's is ∂L/∂c_t at fixed h_t.
            dgates: receives dL/d(W_hh h_{t-1} + b_hh), (R, B, G·H).
            dinputs: receives dL/d(W_ih x_t + b_ih); the same tensor as `dgates` where the cell folds its biases.

        Returns:
            The carry for t-1, and the total adjoints of the states other than h.
        """


def sigmoid_backward(gradient: Tensor, activation: Tensor, out: Tensor | None = None) -> Tensor:
    """gradient · s (1 - s), where s = σ(a) is the activation, as one operation."""
    operation = torch.ops.aten.sigmoid_backward
    product: Tensor = (
        operation(gradient, activation) if out is None else operation.grad_input(gradient, activation, grad_input=out)
    )
    return product


def tanh_backward(gradient: Tensor, activation: Tensor, out: Tensor | None = None) -> Tensor:
    """gradient · (1 - s²), where s = tanh(a) is the activation, as one operation."""
    operation = torch.ops.aten.tanh_backward
    product: Tensor = (
        operation(gradient, activation) if out is None else operation.grad_input(gradient, activation, grad_input=out)
    )
    return product
