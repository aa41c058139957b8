"""A hand-derived backward pass over whole-sequence buffers: adjoints step by step, weights' gradients as one product.

Runs alike on CPU and CUDA, for cells that derive HandDerivedCell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from goldfish.cells.base import Carry, HandDerivedCell, State
from goldfish.engines import layers, operands
from goldfish.engines.layers import Gradients, LayerWeights, Recorder, Workspace
from goldfish.engines.scaled import Back, stack_chain


class Layer(layers.Layer):
    """One layer's pass over time."""

    def __init__(
        self,
        cell: HandDerivedCell,
        weight: LayerWeights,
        initial: State,
        inputs: Tensor,
        workspace: Workspace,
        keep: bool,
    ) -> None:
        self.cell, self.weight, self.initial, self.workspace, self.keep = cell, weight, initial, workspace, keep

    def forward(self, inputs: Tensor) -> tuple[Tensor, State]:
        """See Layer.forward; keeps what the backward pass needs."""
        cell, (weight_ih, weight_hh, bias_ih, bias_hh) = self.cell, self.weight
        R, T, B, _ = inputs.shape
        H = cell.hidden_size
        self.inputs = inputs
        bias = bias_ih + bias_hh if cell.folds_bias else bias_ih
        gates = self.workspace.empty((R, T, B, weight_hh.shape[1]), inputs)
        torch.baddbmm(bias.unsqueeze(1), inputs.flatten(1, 2), weight_ih.mT, out=gates.flatten(1, 2))
        outputs = inputs.new_empty(R, T, B, H) if "h" in cell.saved else gates
        steps = T if self.keep else 1
        saved = {
            name: self.workspace.empty((R, steps, B, width * H), inputs)
            for name, width in cell.saved.items()
            if name != "h"
        }
        weight_hh_t, state = weight_hh.mT.contiguous(), self.initial
        for t in range(T):
            out = {name: buffer[:, t if self.keep else 0] for name, buffer in saved.items()}
            state = cell.step_in_place(gates[:, t], state, weight_hh_t, bias_hh, out | {"h": outputs[:, t]})
        if outputs is gates:
            outputs = gates.clone()  # the pool owns `gates`, the caller keeps the outputs
        self.gates, self.saved, self.outputs = gates, saved, outputs.detach()  # not the tensor that owns the graph
        return outputs, tuple(s.clone() for s in state)

    def states(self) -> list[Tensor]:
        """The buffers (R, T, B, H) that hold the states, in the order of cell.states."""
        return [self.outputs if name == "h" else self.saved[name] for name in self.cell.states]

    def previous(self, t: int) -> State:
        """The state at t-1."""
        return self.initial if t == 0 else tuple(buffer[:, t - 1] for buffer in self.states())

    def backward(
        self,
        direct: Tensor | None,
        exponent: Tensor | None,
        finals: Sequence[Tensor | None],
        to_inputs: bool,
        below: bool,
    ) -> Gradients:
        """See Layer.backward; gradients carry no exponents here."""
        assert direct is not None
        assert finals[0] is not None
        cell, (weight_ih, weight_hh, _, _) = self.cell, self.weight
        _, T, B, _ = direct.shape
        adjoint = self.workspace.empty(direct.shape, direct).copy_(direct)
        adjoint[:, T - 1] += finals[0]
        dgates = self.workspace.empty(self.gates.shape, direct)
        dinputs = dgates if cell.folds_bias else self.workspace.empty(self.gates.shape, direct)
        carry: Carry = (None, *finals[1:])
        for t in reversed(range(T)):
            dh = adjoint[:, t]
            if t < T - 1:
                dh.baddbmm_(dgates[:, t + 1], weight_hh)
                if carry[0] is not None:
                    dh.add_(carry[0])
            saved = {name: buffer[:, t] for name, buffer in self.saved.items()}
            into = (dgates[:, t], dinputs[:, t])
            carry, _ = cell.adjoint_step(self.gates[:, t], self.previous(t), saved, (dh, carry), *into)
        initial_h = torch.bmm(dgates[:, 0], weight_hh)
        flat_inputs = dinputs.flatten(1, 2)
        return Gradients(
            inputs=torch.bmm(flat_inputs, weight_ih).unflatten(1, (T, B)) if to_inputs else None,
            exponent=None,
            initial=(initial_h if carry[0] is None else initial_h + carry[0], *carry[1:]),
            weights=self._weight_gradients(flat_inputs, dgates.flatten(1, 2)),
        )

    def _weight_gradients(self, dinputs: Tensor, dgates: Tensor) -> LayerWeights:
        """Products over all steps of [x_t, 1, h_{t-1}, 1] and the gates' adjoints: a bias is the weight of a one."""
        R, T, B, D = self.inputs.shape
        H = self.cell.hidden_size
        sources = self.workspace.empty((R, T, B, D + H + 2), self.outputs)
        sources[..., :D] = self.inputs
        sources[..., D] = 1
        sources[:, 0, :, D + 1 : D + 1 + H] = self.initial[0]
        sources[:, 1:, :, D + 1 : D + 1 + H] = self.outputs[:, :-1]
        sources[..., D + 1 + H] = 1
        flat = sources.flatten(1, 2).mT
        if self.cell.folds_bias:
            by_inputs, by_hidden = torch.bmm(flat, dgates).split([D + 1, H + 1], dim=1)
        else:
            by_inputs, by_hidden = torch.bmm(flat[:, : D + 1], dinputs), torch.bmm(flat[:, D + 1 :], dgates)
        return LayerWeights(by_inputs[:, :D].mT, by_hidden[:, :H].mT, by_inputs[:, D], by_hidden[:, H])

    @staticmethod
    def log2_norms(
        layers: Sequence[Any], gradients: Sequence[Gradients], direct: Tensor, finals: Sequence[Sequence[Tensor]]
    ) -> list[dict[str, Tensor]]:
        """See Layer.log2_norms: from a second, scaled chain."""
        weights_ih = [layer.weight.weight_ih for layer in layers]
        return stack_chain([layer.back() for layer in layers], weights_ih, layers[0].cell.states, direct, finals)

    def back(self) -> Back:
        """The same recursion, one step at a time, for the scaled chain.

        Each step is computed again in float64 from the states: 1 - tanh² of a saturated unit has no digits left in the
        activations that float32 kept.
        """
        cell, H = self.cell, self.cell.hidden_size
        weight_ih, weight_hh, bias_ih, bias_hh = (weight.detach().double() for weight in self.weight)
        bias = (bias_ih + bias_hh if cell.folds_bias else bias_ih).unsqueeze(1)
        weight_hh_t = weight_hh.mT.contiguous()

        def back(t: int, adjoints: list[Tensor]) -> tuple[list[Tensor], dict[str, Tensor], Tensor]:
            before = tuple(s.double() for s in self.previous(t))
            gates = torch.baddbmm(bias, self.inputs[:, t].double(), weight_ih.mT)
            saved = {name: gates.new_empty(*gates.shape[:-1], width * H) for name, width in cell.saved.items()}
            cell.step_in_place(gates, before, weight_hh_t, bias_hh, saved)
            dgates = torch.empty_like(gates)
            dinputs = dgates if cell.folds_bias else torch.empty_like(gates)
            adjoint = (adjoints[0], (None, *adjoints[1:]))
            carry, totals = cell.adjoint_step(gates, before, saved, adjoint, dgates, dinputs)
            dh = torch.bmm(dgates, weight_hh)
            rest = [part for part in carry[1:] if part is not None]
            return [dh if carry[0] is None else dh + carry[0], *rest], totals, dinputs

        return back


def run(
    cell: HandDerivedCell,
    inputs: Tensor,
    weights: Sequence[LayerWeights],
    initial: Sequence[State],
    recorder: Recorder,
    pool: dict[Any, list[Tensor]],
) -> tuple[Tensor, list[State]]:
    """Run every layer over all steps; arguments and results as `eager.run`, and the pool that lends the buffers."""
    operands.check(cell, inputs, weights, initial)
    return layers.run(Layer, cell, inputs, weights, initial, recorder, pool)
