"""A layer in the engine `cpu`: it describes its buffers to the compiled passes and reads gradients and norms from them.

Hidden units are padded to whole vectors inside. A padded unit has zero weights and biases: its state and its adjoint
stay zero.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from goldfish.cells.base import HandDerivedCell, State
from goldfish.engines import compiled, layers, operands
from goldfish.engines.cpu import field, passes, threads
from goldfish.engines.cpu.vector import BYTES
from goldfish.engines.layers import Gradients, LayerWeights, Recorder, Workspace

RECOMPUTE_FROM = 10_000  # steps from which on the backward pass computes what it needs again, chunk by chunk
RING = 2**17  # bytes of adjoints that are gathered before they enter the weights' gradients: they stay in cache
_NOTHING = bytes(8 * field.COUNT)


def tile_rows(B: int) -> int:
    """Sequences that one job takes through time: a function of B alone, for sums over tiles depend on it."""
    return 8 if B > 8 else max(1, math.ceil(B / 2))


_Description = dict[int, Tensor | int | None]  # what a pass reads, by its place in `field`; None for nothing


def _start(function: Any, given: _Description, thread_count: int) -> None:
    """Run a pass on so many threads; addresses are taken now, for memory may have moved since the forward pass."""
    numbers = array("q", _NOTHING)
    for which, value in given.items():
        if isinstance(value, int):
            numbers[which] = value
        elif value is not None:
            numbers[which] = value.data_ptr() or operands.address(value)
    threads.run(function.address, numbers, thread_count)


class Layer(layers.Layer):
    """One layer's two passes over time."""

    materialises = False

    def __init__(
        self,
        cell: HandDerivedCell,
        weight: LayerWeights,
        initial: State,
        inputs: Tensor,
        workspace: Workspace,
        keep: bool,
        recompute: bool,
    ) -> None:
        self.workspace, self.keep, self.recompute = workspace, keep, keep and recompute
        # what the backward pass reads, as tensors of its own: the caller's may be given other data in the meantime
        self.cell, self.initial = cell, tuple(tensor.detach() for tensor in initial)
        self.name = compiled.name(cell)
        self.sizes = compiled.CELLS[self.name]
        self.dtype = compiled.DTYPES[inputs.dtype]
        inputs = inputs.detach()
        self.inputs = inputs if inputs.stride(-1) == 1 else inputs.contiguous()
        self.lanes = BYTES // inputs.element_size()
        self.hidden = self._whole(cell.hidden_size)
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = self._gates_padded(weight)
        self.rows = tile_rows(inputs.shape[2])
        self.tiles = max(1, -(-inputs.shape[2] // self.rows))  # without sequences, one of no rows

    def forward(self, inputs: Tensor) -> tuple[Tensor, State]:
        """See Layer.forward; keeps what the backward pass needs."""
        (R, T, B, D), H, sizes, inputs = self.inputs.shape, self.hidden, self.sizes, self.inputs
        chunk = math.isqrt(T - 1) + 1 if self.recompute else T
        keeps = self.keep and not self.recompute
        saved = self.workspace.empty((R, T, B, sizes.saved * H), inputs) if keeps else None
        outputs = inputs.new_empty(R, T, B, H)
        self.outputs = outputs.detach()  # not the tensor that owns the graph
        finals = [self.outputs[:, -1]]
        given: _Description = {
            field.R: R, field.T: T, field.B: B, field.H: H, field.HIDDEN: self.cell.hidden_size, field.D: D,
            field.ROWS: self.rows, field.TILES: self.tiles, field.CHUNK: chunk, field.X: inputs,
            field.X_R: inputs.stride(0), field.X_T: inputs.stride(1), field.X_B: inputs.stride(2),
            field.OUTPUTS: self.outputs, field.SAVED: saved, field.H0: self._padded(self.initial[0]).contiguous(),
            field.NONLINEARITY: compiled.NONLINEARITIES.index(self.cell.nonlinearity),
        }  # fmt: skip
        if sizes.states > 1:
            finals.append(inputs.new_empty(R, B, H))
            given[field.C0], given[field.C_LAST] = self._padded(self.initial[1]).contiguous(), finals[1]
            if self.recompute:
                given[field.CELL] = inputs.new_empty(R, -(-T // chunk), B, H)
        given[field.WEIGHT_IH] = self.weight_ih.mT.contiguous()
        given[field.WEIGHT_HH] = self.weight_hh.mT.contiguous()
        bias = self.bias_ih + self.bias_hh
        if not self.cell.folds_bias:  # r and z have one bias each, n two
            bias = torch.cat([bias[:, :-H], self.bias_ih[:, -H:], self.bias_hh[:, -H:]], dim=1)
        given[field.BIAS] = bias.contiguous()  # a sum of transposed tensors is transposed
        self.given, self.chunk = given, chunk
        self._run(passes.forward, given, 0 if saved is not None else self.rows * sizes.saved * H)
        return self._cut(outputs), tuple(self._cut(s).clone() for s in finals)

    def backward(
        self,
        direct: Tensor | None,
        exponent: Tensor | None,
        finals: Sequence[Tensor | None],
        to_inputs: bool,
        below: bool,
    ) -> Gradients:
        """See Layer.backward; the norms come with it."""
        (R, T, B, D), H, sizes, inputs = self.inputs.shape, self.hidden, self.sizes, self.inputs
        ring = self._ring(T)
        states = range(sizes.states)
        names = ("h", "c", "state")[: 2 * sizes.states - 1]
        norms = {name: inputs.new_empty(R, T, B, dtype=torch.float64) for name in names}
        exponents = inputs.new_empty(R, T, B, dtype=torch.int32)
        width = (D + 4) // 4 * 4 + H + 4
        gradient = inputs.new_empty(R, self.tiles, width, sizes.gates * H)
        initial = [inputs.new_empty(R, B, H) for _ in states]
        DX = self._whole(D)
        dx = inputs.new_empty(R, T, B, DX) if to_inputs else None
        given: _Description = {
            **self.given, field.RING: ring, field.DX: DX, field.DIRECT_EXPONENT: exponent, field.INPUT_GRADIENT: dx,
            field.EXPONENT: exponents, field.WEIGHT_GRADIENT: gradient,
            field.WEIGHT_HH_ROWS: self.weight_hh.contiguous(),
            **dict(zip((field.LOG2_NORM_H, field.LOG2_NORM_C, field.LOG2_NORM_STATE), norms.values(), strict=False)),
            **dict(zip((field.INITIAL_H, field.INITIAL_C), initial, strict=False)),
        }  # fmt: skip
        if to_inputs:
            given[field.WEIGHT_IH_ROWS] = torch.nn.functional.pad(self.weight_ih, (0, DX - D)).contiguous()
        if direct is not None:
            direct = self._padded(direct)
            direct = direct if direct.stride(-1) == 1 else direct.contiguous()
            given[field.DIRECT] = direct
            given[field.DIRECT_R], given[field.DIRECT_T], given[field.DIRECT_B], _ = direct.stride()
        for which, final in zip((field.FINAL_H, field.FINAL_C), finals, strict=False):
            given[which] = inputs.new_zeros(R, B, H) if final is None else self._padded(final).contiguous()
        again = self.chunk * self.rows * sizes.saved * H if self.recompute else 0
        row = sizes.states * H + ring * (sizes.adjoints * H + width) + H
        self._run(passes.backward, given, max(H, DX) + self.rows * row + again)
        if dx is not None and not below:
            dx = torch.ldexp(dx, exponents.unsqueeze(-1))[..., :D]
        return Gradients(
            inputs=dx,
            exponent=exponents,
            initial=[self._cut(value) for value in initial],
            weights=self._weight_gradients(gradient),
            norms={"state": norms["h"], **norms},
        )

    @staticmethod
    def log2_norms(
        layers: Sequence[Any], gradients: Sequence[Gradients], direct: Tensor, finals: Sequence[Sequence[Tensor]]
    ) -> list[dict[str, Tensor]]:
        """See Layer.log2_norms."""
        return [own.norms for own in gradients]

    def _run(self, pass_of: Any, given: _Description, scratch: int) -> None:
        """Run a pass, with so many numbers of scratch memory for each thread."""
        count = threads.count(self.inputs.shape[0] * self.tiles)
        size = self._whole(scratch) + self.lanes
        given[field.SCRATCH] = torch.empty(count * size, dtype=self.inputs.dtype)
        given[field.SCRATCH_SIZE] = size
        _start(pass_of(self.name, self.dtype), given, count)

    def _ring(self, T: int) -> int:
        step = self.rows * self.sizes.adjoints * self.hidden * self.inputs.element_size()
        return max(1, min(T, RING // step))

    def _whole(self, n: int) -> int:
        """N rounded up to whole vectors."""
        return -(-n // self.lanes) * self.lanes

    def _padded(self, value: Tensor) -> Tensor:
        """(…, hidden_size) with zeros behind: (…, H)."""
        missing = self.hidden - self.cell.hidden_size
        return torch.nn.functional.pad(value, (0, missing)) if missing else value

    def _cut(self, value: Tensor) -> Tensor:
        """(…, H) without the padding."""
        return value if value.shape[-1] == self.cell.hidden_size else value[..., : self.cell.hidden_size]

    def _gates_padded(self, weight: LayerWeights) -> Sequence[Tensor]:
        """The weights, each gate's rows padded, and the columns of W_hh: (R, G·H, …)."""
        missing = self.hidden - self.cell.hidden_size
        if not missing:
            return weight.weight_ih.detach(), weight.weight_hh.detach(), weight.bias_ih, weight.bias_hh
        by_gate = [tensor.unflatten(1, (self.sizes.gates, -1)) for tensor in weight]
        padded = [torch.nn.functional.pad(w, (0, 0) * (w.dim() - 3) + (0, missing)).flatten(1, 2) for w in by_gate]
        padded[1] = self._padded(padded[1])
        return padded

    def _weight_gradients(self, gradient: Tensor) -> LayerWeights:
        """Sum over tiles, one after the other, and cut: (R, tiles, width, G·H) → the gradients of the four weights."""
        D, H = self.inputs.shape[-1], self.cell.hidden_size
        summed, *others = gradient.unbind(1)
        for other in others:
            summed += other
        if self.hidden != H:
            summed = self._cut(summed.unflatten(2, (self.sizes.gates, -1))).flatten(2)
        hidden = summed[:, (D + 4) // 4 * 4 :]
        bias_ih = summed[:, D]
        bias_hh = bias_ih if self.cell.folds_bias else hidden[:, self.hidden]
        return LayerWeights(summed[:, :D].mT, hidden[:, :H].mT, bias_ih, bias_hh)


def run(
    cell: HandDerivedCell,
    inputs: Tensor,
    weights: Sequence[LayerWeights],
    initial: Sequence[State],
    recorder: Recorder,
    pool: dict[Any, list[Tensor]],
    recompute: bool | None = None,
) -> tuple[Tensor, list[State]]:
    """Run every layer over all steps; arguments, which were checked, and results as `stepwise.run`.

    `recompute` keeps the states only, and computes the gates again in the backward pass, √T steps at a time: the same
    bits, a third more work, memory for T·B·H numbers instead of six times as many. By default from 10,000 steps on.
    """
    again = inputs.shape[1] >= RECOMPUTE_FROM if recompute is None else recompute
    return layers.run(partial(Layer, recompute=again), cell, inputs, weights, initial, recorder, pool)
