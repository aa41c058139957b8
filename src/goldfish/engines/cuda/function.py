"""A layer in the engine `cuda`: products over the whole sequence, one kernel forward, and one back with the norms."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goldfish.cells.base import HandDerivedCell, State
from goldfish.engines import compiled, layers, operands, stepwise
from goldfish.engines.cuda import gemm, launch, plan, tiles
from goldfish.engines.layers import Gradients, LayerWeights, Recorder, Workspace


class Layer(layers.Layer):
    """One layer's two passes over time. Where it is `timed`, `seconds` is what its kernels took."""

    def __init__(
        self,
        cell: HandDerivedCell,
        weight: LayerWeights,
        initial: State,
        inputs: Tensor,
        workspace: Workspace,
        keep: bool,
        rows: int | None = None,
        timed: bool = False,
    ) -> None:
        if keep and rows is None:
            rows = _fastest(cell, weight, initial, inputs)
        self.workspace, self.keep = workspace, keep
        self.timed, self.seconds = timed, 0.0
        self.cell, self.inputs = cell, inputs.contiguous()
        self.weight = LayerWeights(*(_aligned(tensor) for tensor in weight))
        self.initial = [_aligned(state) for state in initial]
        R, T, B, _ = inputs.shape
        self.R, self.T, self.B, self.H, self.G = R, T, B, cell.hidden_size, len(cell.gates)
        self.gated_bias = not cell.folds_bias  # the GRU's: b_hn stays inside the gate
        gpu = launch.multiprocessor(inputs.device)
        self.plan = plan.choose(cell, inputs.element_size(), R, B, gpu, rows)

    def forward(self, inputs: Tensor) -> tuple[Tensor, State]:
        """See Layer.forward; keeps what the backward pass needs."""
        R, T, B, G, H = self.R, self.T, self.B, self.G, self.H
        weight_ih, weight_hh, bias_ih, bias_hh = self.weight
        bias, gated = bias_ih + bias_hh, None
        if self.gated_bias:
            gated = bias_hh[:, 2 * H :].contiguous()
            bias = torch.cat([bias[:, : 2 * H], bias_ih[:, 2 * H :]], dim=1)
        gates = self.workspace.empty((R, T, B, G * H), self.inputs)
        gemm.project(self.inputs.view(R, T * B, -1), weight_ih, bias, gates)
        has_extra = self.keep and (self.gated_bias or len(self.initial) > 1)
        extra = self.workspace.empty((R, T, B, H), self.inputs) if has_extra else None
        outputs = self.inputs.new_empty(R, T, B, H)
        initial_h, initial_c = _pair(self.initial)
        last_c = None if initial_c is None else torch.empty_like(initial_c)
        arguments = [
            weight_hh, gated, gates, extra, outputs, initial_h, initial_c, last_c, *map(np.int32, (T, B, self.keep)),
        ]  # fmt: skip
        self._launch("forward", self.plan.forward, arguments)
        self.gates, self.extra, self.outputs = gates, extra, outputs.detach()  # not the tensor that owns the graph
        last_h = self.outputs[:, -1].clone()
        return outputs, (last_h,) if last_c is None else (last_h, last_c)

    def backward(
        self,
        direct: Tensor | None,
        exponent: Tensor | None,
        finals: Sequence[Tensor | None],
        to_inputs: bool,
        below: bool,
    ) -> Gradients:
        """See Layer.backward; the norms' squares come with it."""
        assert direct is not None
        R, T, B, G, H = self.R, self.T, self.B, self.G, self.H
        width = compiled.CELLS[self.plan.cell].adjoints * H
        direct = direct if direct.stride(-1) == 1 or H == 1 else direct.contiguous()
        reached = [final.contiguous() for final in finals if final is not None]
        adjoints = self.workspace.empty((R, T, B, width), direct)
        mantissas = self.workspace.empty((R, T, B, width), direct) if below else None
        initial = [torch.empty_like(final) for final in reached]
        squares = direct.new_empty(2 * len(reached) - 1, R, T, B, dtype=torch.float64)
        exponents = direct.new_empty(R, T, B, dtype=torch.int32)
        arguments = [
            self._transposed(), self.gates, self.extra, self.outputs, *_pair(self.initial), direct, exponent,
            *_pair(reached), *_pair(initial), adjoints, mantissas, squares, exponents,
            *map(np.int64, direct.stride()[:3]), *map(np.int32, (R, T, B)),
        ]  # fmt: skip
        self._launch("backward", self.plan.backward, arguments)
        from_inputs = mantissas if mantissas is not None else adjoints
        dx = None
        if to_inputs:
            dx = torch.empty_like(self.inputs)
            columns = from_inputs.view(R, T * B, width)[..., width - G * H :]
            gemm.project(columns, self.weight.weight_ih.mT, None, dx)
        weights = self._weight_gradients(adjoints.view(R, T * B, width))
        return Gradients(dx, exponents, initial, weights, norms=(squares, exponents))

    @staticmethod
    def log2_norms(
        layers: Sequence[Any], gradients: Sequence[Gradients], direct: Tensor, finals: Sequence[Sequence[Tensor]]
    ) -> list[dict[str, Tensor]]:
        """See Layer.log2_norms."""
        names = ("h", "c", "state")
        logs = [0.5 * torch.log2(squares) + exponent for squares, exponent in (own.norms for own in gradients)]
        norms = [dict(zip(names, log, strict=False)) for log in logs]
        return [own | {"state": own.get("state", own["h"])} for own in norms]

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
        sums = gemm.to_weights(self.outputs.view(R, rows, H), adjoints, self.inputs.view(R, rows, -1), self.initial[0])
        by_hidden, by_inputs = sums[..., : G * H], sums[..., width - G * H :]
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
        layer = Layer(cell, weight, initial, x, Workspace({}), keep=True, rows=rows, timed=True)
        outputs, finals = layer.forward(x)
        layer.backward(outputs, None, finals, to_inputs=False, below=False)
        return layer.seconds

    problem = (type(cell), cell.nonlinearity, cell.hidden_size, inputs.dtype, inputs.device, R, B)
    known = plan.tiles(cell, size, B, launch.multiprocessor(inputs.device))
    return tiles.fastest(problem, known, seconds)


def _pair(states: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """The state h, and the state c where there is one."""
    return states[0], states[1] if len(states) > 1 else None


def _aligned(tensor: Tensor) -> Tensor:
    """Contiguous and on 16 bytes, as the kernels read it."""
    tensor = tensor.detach().contiguous()
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()


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
    return layers.run(partial(Layer, rows=rows), cell, inputs, weights, initial, recorder, pool)
