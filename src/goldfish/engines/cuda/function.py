"""The CUDA engine's autograd function: whole-sequence products, one kernel forward, one back, norms with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from goldfish.cells.base import HandDerivedCell, State
from goldfish.engines import compiled, operands, stepwise
from goldfish.engines.cuda import gemm, launch, plan, tiles
from goldfish.engines.eager import LayerWeights
from goldfish.engines.scaled import Recorder
from goldfish.engines.stepwise import Workspace, unpack


@dataclass
class _Gradients:
    inputs: Tensor | None  # (R, T, B, D); mantissas of 2^exponent where they go to a layer below
    exponent: Tensor  # (R, T, B), int32
    initial: list[Tensor]
    weights: LayerWeights
    squares: Tensor  # of the norms, (1 or 3, R, T, B), float64


class _Layer:
    """One layer's two passes over time. Where it is `timed`, `seconds` is what its kernels took."""

    def __init__(
        self,
        cell: HandDerivedCell,
        weight: LayerWeights,
        initial: State,
        inputs: Tensor,
        rows: int | None,
        timed: bool = False,
    ) -> None:
        self.timed, self.seconds = timed, 0.0
        self.cell, self.inputs = cell, inputs.contiguous()
        self.weight = LayerWeights(*(_aligned(tensor) for tensor in weight))
        self.initial = [_aligned(state) for state in initial]
        R, T, B, _ = inputs.shape
        self.R, self.T, self.B, self.H, self.G = R, T, B, cell.hidden_size, len(cell.gates)
        self.gated_bias = not cell.folds_bias  # the GRU's: b_hn stays inside the gate
        gpu = launch.multiprocessor(inputs.device)
        self.plan = plan.choose(cell, inputs.element_size(), R, B, gpu, rows)

    def forward(self, workspace: Workspace, keep: bool) -> tuple[Tensor, State]:
        """Run all steps, keeping what the backward pass needs: outputs (R, T, B, H) and the final state."""
        R, T, B, G, H = self.R, self.T, self.B, self.G, self.H
        weight_ih, weight_hh, bias_ih, bias_hh = self.weight
        bias, gated = bias_ih + bias_hh, None
        if self.gated_bias:
            gated = bias_hh[:, 2 * H :].contiguous()
            bias = torch.cat([bias[:, : 2 * H], bias_ih[:, 2 * H :]], dim=1)
        gates = workspace.empty((R, T, B, G * H), self.inputs)
        gemm.project(self.inputs.view(R, T * B, -1), weight_ih, bias, gates)
        has_extra = keep and (self.gated_bias or len(self.initial) > 1)
        extra = workspace.empty((R, T, B, H), self.inputs) if has_extra else None
        outputs = self.inputs.new_empty(R, T, B, H)
        initial_h, initial_c = _pair(self.initial)
        last_c = None if initial_c is None else torch.empty_like(initial_c)
        arguments = [
            weight_hh, gated, gates, extra, outputs, initial_h, initial_c, last_c, *map(np.int32, (T, B, keep)),
        ]  # fmt: skip
        self._launch("forward", self.plan.forward, arguments)
        self.gates, self.extra, self.outputs = gates, extra, outputs.detach()  # not the tensor that owns the graph
        last_h = self.outputs[:, -1].clone()
        return outputs, (last_h,) if last_c is None else (last_h, last_c)

    def backward(
        self,
        direct: Tensor,
        exponent: Tensor | None,
        finals: Sequence[Tensor],
        workspace: Workspace,
        to_inputs: bool,
        below: bool,
    ) -> _Gradients:
        """The adjoint recursion, its norms, and every gradient from it.

        Args:
            direct: what reaches the outputs, (R, T, B, H), as mantissas of 2^`exponent` (R, T, B); None for 2^0.
            finals: dL/d(final state), each (R, B, H).
            workspace: lends the buffers.
            to_inputs: whether dL/dx is asked for.
            below: whether dL/dx goes to a layer below, so that it must not underflow: as mantissas, then.
        """
        R, T, B, G, H = self.R, self.T, self.B, self.G, self.H
        width = compiled.CELLS[self.plan.cell].adjoints * H
        direct = direct if direct.stride(-1) == 1 or H == 1 else direct.contiguous()
        finals = [final.contiguous() for final in finals]
        adjoints = workspace.empty((R, T, B, width), direct)
        mantissas = workspace.empty((R, T, B, width), direct) if below else None
        initial = [torch.empty_like(final) for final in finals]
        squares = direct.new_empty(2 * len(finals) - 1, R, T, B, dtype=torch.float64)
        exponents = direct.new_empty(R, T, B, dtype=torch.int32)
        arguments = [
            self._transposed(), self.gates, self.extra, self.outputs, *_pair(self.initial), direct, exponent,
            *_pair(finals), *_pair(initial), adjoints, mantissas, squares, exponents,
            *map(np.int64, direct.stride()[:3]), *map(np.int32, (R, T, B)),
        ]  # fmt: skip
        self._launch("backward", self.plan.backward, arguments)
        from_inputs = mantissas if mantissas is not None else adjoints
        dx = None
        if to_inputs:
            dx = torch.empty_like(self.inputs)
            columns = from_inputs.view(R, T * B, width)[..., width - G * H :]
            gemm.project(columns, self.weight.weight_ih.mT, None, dx)
        return _Gradients(dx, exponents, initial, self._weight_gradients(adjoints.view(R, T * B, width)), squares)

    def _launch(self, name: str, own: plan.Pass, arguments: list[Any]) -> None:
        kernel = launch.Kernel(self.plan.cell, self.plan.macros(), name, own.threads, own.shared_memory)
        grid = (self.R * -(-self.B // self.plan.rows) * self.plan.cluster, 1, 1)
        if self.timed:
            self.seconds += launch.seconds(kernel, grid, arguments)
        else:
            launch.launch(kernel, grid, arguments)

    def _transposed(self) -> Tensor:
        """W_hhᵀ (R, H, G·H), gates in the order of the adjoints' columns: the GRU's n comes first."""
        weight, H = self.weight.weight_hh, self.H
        if self.gated_bias:
            return torch.cat([weight[:, 2 * H :], weight[:, : 2 * H]], dim=1).mT.contiguous()
        return weight.mT.contiguous()

    def _weight_gradients(self, adjoints: Tensor) -> LayerWeights:
        """From dL/d(gates), (R, T·B, columns)."""
        R, rows, width = adjoints.shape
        G, H = self.G, self.H
        # the rows of one product: h, x, and the bias; the GRU's W_hh and W_ih take three of its four columns each
        found = gemm.to_weights(self.outputs.view(R, rows, H), adjoints, self.inputs.view(R, rows, -1), self.initial[0])
        by_hidden, by_inputs = found[..., : G * H], found[..., width - G * H :]
        if self.gated_bias:
            by_hidden = torch.cat([by_hidden[..., H:], by_hidden[..., :H]], dim=-1)
        return LayerWeights(
            by_inputs[:, H:-1].mT, by_hidden[:, :H].mT, by_inputs[:, -1], by_hidden[:, -1].clone()
        )  # a clone: a parameter may take its gradient without copying it


def _fastest(cell: HandDerivedCell, weight: LayerWeights, initial: State, inputs: Tensor) -> int | None:
    """The fastest tile for a layer that is trained, timed on its first steps; None where nothing can be timed now."""
    R, T, B, D = inputs.shape
    if not launch.can_time(inputs.device):
        return None
    size = inputs.element_size()
    T = tiles.steps(T, R * B * len(cell.gates) * cell.hidden_size * size)
    x = inputs.new_zeros(R, T, B, D)
    initial = tuple(torch.zeros_like(state) for state in initial)

    def seconds(rows: int) -> float:
        layer = _Layer(cell, weight, initial, x, rows, timed=True)
        workspace = Workspace({})
        outputs, finals = layer.forward(workspace, keep=True)
        layer.backward(outputs, None, finals, workspace, to_inputs=False, below=False)
        return layer.seconds

    problem = (type(cell), cell.nonlinearity, cell.hidden_size, inputs.dtype, inputs.device, R, B)
    known = plan.tiles(cell, size, B, launch.multiprocessor(inputs.device))
    return tiles.fastest(problem, known, seconds)


def _pair(states: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """That of h, and that of c where there is one."""
    return states[0], states[1] if len(states) > 1 else None


def _aligned(tensor: Tensor) -> Tensor:
    """Contiguous and on 16 bytes, as the kernels read it."""
    tensor = tensor.detach().contiguous()
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


class _Cuda(torch.autograd.Function):
    """(recorder, workspace, cell, keep, rows, inputs, initial states…, weights…) → (outputs, final states…)."""

    @staticmethod
    def forward(
        ctx: Any,
        recorder: Recorder,
        workspace: Workspace,
        cell: HandDerivedCell,
        keep: bool,
        rows: int | None,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        """Every layer over all steps."""
        x, initial, weights = unpack(cell, tensors)
        layers: list[_Layer] = []
        finals: list[Tensor] = []
        for weight, state in zip(weights, initial, strict=True):
            tile = _fastest(cell, weight, state, x) if keep and rows is None else rows
            layers.append(_Layer(cell, weight, state, x, tile))
            x, final = layers[-1].forward(workspace, keep)
            finals.extend(final)
        if keep:
            ctx.layers, ctx.recorder, ctx.cell, ctx.workspace = layers, recorder, cell, workspace
            ctx.save_for_backward(*tensors, x)  # read for its check that nobody wrote into them
        return (x, *finals)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, direct: Tensor, *finals: Tensor) -> Any:
        """Every layer backwards; the norms come with it."""
        layers, cell, _ = ctx.layers, ctx.cell, ctx.saved_tensors
        direct, *reached = operands.resolved((direct, *finals))
        width = len(cell.states)
        initial: list[Tensor] = []
        weights: list[Tensor] = []
        norms: list[dict[str, Tensor]] = []
        arriving: Tensor | None = direct
        exponent = None
        for index in reversed(range(len(layers))):
            assert arriving is not None
            own = reached[index * width : (index + 1) * width]
            asked = index > 0 or ctx.needs_input_grad[5]
            found = layers[index].backward(arriving, exponent, own, ctx.workspace, asked, below=index > 0)
            arriving, exponent = found.inputs, found.exponent
            initial[:0] = found.initial
            weights[:0] = found.weights
            if ctx.recorder.active:
                norms.insert(0, _log2_norms(found, cell))
        if ctx.recorder.active:
            ctx.recorder.record(norms)
        return (None, None, None, None, None, arriving, *initial, *weights)


def _log2_norms(found: _Gradients, cell: HandDerivedCell) -> dict[str, Tensor]:
    """By name, each (R, T, B): every state's total adjoint, and the joint one."""
    logs = 0.5 * torch.log2(found.squares) + found.exponent
    names = (*cell.states, "state") if len(cell.states) > 1 else ("h",)
    norms = dict(zip(names, logs, strict=True))
    return norms | {"state": norms.get("state", norms["h"])}


def run(
    cell: HandDerivedCell,
    inputs: Tensor,
    weights: Sequence[LayerWeights],
    initial: Sequence[State],
    recorder: Recorder,
    pool: dict[Any, list[Tensor]],
    rows: int | None = None,
) -> tuple[Tensor, list[State]]:
    """Run every layer over all steps; arguments and results as `stepwise.run`. `rows` asks for tiles of a size."""
    operands.check(cell, inputs, weights, initial)
    if inputs.shape[2] == 0:  # no kernel starts without a block
        return stepwise.run(cell, inputs, weights, initial, recorder, pool)
    flat = operands.resolved(
        [inputs, *[s for state in initial for s in state], *[w for weight in weights for w in weight]]
    )
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in flat)
    # only training repeats its shapes: what an evaluation borrows is not kept
    outputs, *finals = _Cuda.apply(recorder, Workspace(pool if keep else {}), cell, keep, rows, *flat)
    width = len(cell.states)
    return outputs, [tuple(finals[i * width : (i + 1) * width]) for i in range(len(weights))]
