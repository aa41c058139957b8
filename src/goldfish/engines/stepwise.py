"""Hand-derived backward over whole-sequence buffers: adjoints of every step as it goes, weights' as one product.

Runs alike on CPU and CUDA, for cells that derive HandDerivedCell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from goldfish.cells.base import Carry, HandDerivedCell, State
from goldfish.engines import operands
from goldfish.engines.eager import LayerWeights
from goldfish.engines.scaled import Back, Recorder, stack_chain


class Workspace:
    """Buffers that go back to their pool when the autograd graph that uses them dies.

    Fresh (R, T, B, 4H) buffers page-fault on every step; a pool does not, and two graphs never share a buffer.
    """

    def __init__(self, pool: dict[Any, list[Tensor]]) -> None:
        self._pool, self._lent = pool, []  # type: ignore[var-annotated]

    def empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """A buffer with arbitrary content."""
        key = (tuple(shape), like.dtype, like.device)
        free = self._pool.setdefault(key, [])
        buffer = free.pop() if free else torch.empty(key[0], dtype=like.dtype, device=like.device)
        self._lent.append((key, buffer))
        return buffer

    def __del__(self) -> None:
        for key, buffer in self._lent:
            self._pool.setdefault(key, []).append(buffer)


class _Layer:
    """One layer's pass over time."""

    def __init__(self, cell: HandDerivedCell, weight: LayerWeights, initial: State, workspace: Workspace) -> None:
        self.cell, self.weight, self.initial, self.workspace = cell, weight, initial, workspace

    def forward(self, inputs: Tensor, keep: bool) -> tuple[Tensor, State]:
        """Run all steps of (R, T, B, D), keeping what the backward pass needs: outputs (R, T, B, H), final state."""
        cell, (weight_ih, weight_hh, bias_ih, bias_hh) = self.cell, self.weight
        R, T, B, _ = inputs.shape
        H = cell.hidden_size
        self.inputs = inputs
        bias = bias_ih + bias_hh if cell.folds_bias else bias_ih
        gates = self.workspace.empty((R, T, B, weight_hh.shape[1]), inputs)
        torch.baddbmm(bias.unsqueeze(1), inputs.flatten(1, 2), weight_ih.mT, out=gates.flatten(1, 2))
        outputs = inputs.new_empty(R, T, B, H) if "h" in cell.saved else gates
        steps = T if keep else 1
        saved = {
            name: self.workspace.empty((R, steps, B, width * H), inputs)
            for name, width in cell.saved.items()
            if name != "h"
        }
        weight_hh_t, state = weight_hh.mT.contiguous(), self.initial
        for t in range(T):
            out = {name: buffer[:, t if keep else 0] for name, buffer in saved.items()}
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

    def backward(self, direct: Tensor, final: Sequence[Tensor], needs_input: bool) -> _Gradients:
        """The adjoint recursion, and every gradient from it.

        Args:
            direct: dL/dh_t from above, (R, T, B, H).
            final: dL/d(final state), each (R, B, H).
            needs_input: whether dL/dx is asked for.
        """
        cell, (weight_ih, weight_hh, _, _) = self.cell, self.weight
        _, T, B, _ = direct.shape
        adjoint = self.workspace.empty(direct.shape, direct).copy_(direct)
        adjoint[:, T - 1] += final[0]
        dgates = self.workspace.empty(self.gates.shape, direct)
        dinputs = dgates if cell.folds_bias else self.workspace.empty(self.gates.shape, direct)
        carry: Carry = (None, *final[1:])
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
        return _Gradients(
            inputs=torch.bmm(flat_inputs, weight_ih).unflatten(1, (T, B)) if needs_input else None,
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
            found = torch.bmm(flat, dgates)
            by_inputs, by_hidden = found[:, : D + 1], found[:, D + 1 :]
        else:
            by_inputs, by_hidden = torch.bmm(flat[:, : D + 1], dinputs), torch.bmm(flat[:, D + 1 :], dgates)
        return LayerWeights(by_inputs[:, :D].mT, by_hidden[:, :H].mT, by_inputs[:, D], by_hidden[:, H])

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


class _Gradients:
    def __init__(self, inputs: Tensor | None, initial: Carry, weights: LayerWeights) -> None:
        self.inputs, self.initial, self.weights = inputs, initial, weights


class _Stepwise(torch.autograd.Function):
    """(recorder, workspace, cell, keep, inputs, initial states…, weights…) → (outputs, final states…)."""

    @staticmethod
    def forward(
        ctx: Any, recorder: Recorder, workspace: Workspace, cell: HandDerivedCell, keep: bool, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        """Every layer over all steps."""
        inputs, initial, weights = unpack(cell, tensors)
        layers: list[_Layer] = []
        finals: list[Tensor] = []
        x = inputs
        for weight, state in zip(weights, initial, strict=True):
            layer = _Layer(cell, weight, state, workspace)
            x, final = layer.forward(x, keep)
            layers.append(layer)
            finals.extend(final)
        if keep:
            ctx.layers, ctx.recorder, ctx.cell = layers, recorder, cell
            ctx.save_for_backward(*tensors, x)  # read for its check that nobody wrote into them
        return (x, *finals)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, direct: Tensor, *finals: Tensor) -> Any:
        """Every layer backwards; the norms beside it while the recorder is active."""
        layers, cell, _ = ctx.layers, ctx.cell, ctx.saved_tensors
        width = len(cell.states)
        grouped = [finals[i * width : (i + 1) * width] for i in range(len(layers))]
        if ctx.recorder.active:
            backs = [layer.back() for layer in layers]
            weights_ih = [layer.weight.weight_ih for layer in layers]
            ctx.recorder.record(stack_chain(backs, weights_ih, cell.states, direct, grouped))
        initial: list[Tensor | None] = []
        weights: list[Tensor] = []
        arriving: Tensor | None = direct
        for index in reversed(range(len(layers))):
            assert arriving is not None
            found = layers[index].backward(arriving, grouped[index], index > 0 or ctx.needs_input_grad[4])
            arriving = found.inputs
            initial[:0] = found.initial
            weights[:0] = found.weights
        return (None, None, None, None, arriving, *initial, *weights)


def unpack(cell: HandDerivedCell, tensors: Sequence[Tensor]) -> tuple[Tensor, list[State], list[LayerWeights]]:
    """(inputs, initial states…, weights…) layer by layer: inputs, each layer's initial state, each layer's weights."""
    width, layers = len(cell.states), cell.num_layers
    initial = tensors[1 : 1 + layers * width]
    weights = tensors[1 + layers * width :]
    return (
        tensors[0],
        [tuple(initial[i * width : (i + 1) * width]) for i in range(layers)],
        [LayerWeights(*weights[i * 4 : (i + 1) * 4]) for i in range(layers)],
    )


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
    flat = [inputs, *[s for state in initial for s in state], *[w for weight in weights for w in weight]]
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in flat)
    # only training repeats its shapes: what an evaluation borrows is not kept
    outputs, *finals = _Stepwise.apply(recorder, Workspace(pool if keep else {}), cell, keep, *flat)
    width = len(cell.states)
    return outputs, [tuple(finals[i * width : (i + 1) * width]) for i in range(len(weights))]
