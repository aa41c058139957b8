"""Layers of a cell as one autograd function: shared by the engines `stepwise`, `cpu` and `cuda`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from goldfish.cells.base import Cell, HandDerivedCell, State
from goldfish.engines import operands


class LayerWeights(NamedTuple):
    """One layer's weights: (R, G·H, D), (R, G·H, H), (R, G·H), (R, G·H)."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor


@dataclass
class Recorder:
    """Where an engine leaves the norms of one backward pass, while `active`.

    log2_norm: name ("h", "c", "state") → (R, L, B, T), float64.
    """

    active: bool = False
    log2_norm: dict[str, Tensor] = field(default_factory=dict)

    def record(self, layers: Sequence[dict[str, Tensor]]) -> None:
        """Keep the norms of every layer, name → (R, T, B) each; a second backward pass is refused."""
        if self.log2_norm:
            raise RuntimeError("gradient_flow has seen two backward passes; open it once for each")
        self.log2_norm = {name: _joined([layer[name].mT for layer in layers]) for name in layers[0]}


def _joined(layers: Sequence[Tensor]) -> Tensor:
    """A new axis 1 over layers; one layer is not copied."""
    return layers[0].unsqueeze(1) if len(layers) == 1 else torch.stack([*layers], dim=1)


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


@dataclass(frozen=True)
class Gradients:
    """The gradients that a layer's backward pass computes.

    Attributes:
        inputs: dL/dx, (R, T, B, D), where it is asked for; what goes to a layer below may be mantissas to `exponent`.
        exponent: (R, T, B), int32; None for 2^0.
        initial: of the initial states.
        weights: of the weights.
        norms: what the engine measures the adjoints' norms from.
    """

    inputs: Tensor | None
    exponent: Tensor | None
    initial: Sequence[Tensor | None]
    weights: LayerWeights
    norms: Any = None


class Layer(ABC):
    """One layer's two passes over time."""

    materialises: ClassVar[bool] = True  # whether the backward pass takes zeros where nothing reaches a state, or None

    @abstractmethod
    def forward(self, inputs: Tensor) -> tuple[Tensor, State]:
        """Run all steps of (R, T, B, D): outputs (R, T, B, H) and the final state."""

    @abstractmethod
    def backward(
        self,
        direct: Tensor | None,
        exponent: Tensor | None,
        finals: Sequence[Tensor | None],
        to_inputs: bool,
        below: bool,
    ) -> Gradients:
        """The adjoint recursion, and every gradient from it.

        Args:
            direct: what reaches the outputs, (R, T, B, H), as mantissas of 2^`exponent` (R, T, B); None for 2^0.
            exponent: that of a layer above, as it gave it.
            finals: dL/d(final state), each (R, B, H).
            to_inputs: whether dL/dx is asked for.
            below: whether dL/dx goes to a layer below, so that it must not underflow.
        """

    @staticmethod
    @abstractmethod
    def log2_norms(
        layers: Sequence[Any], gradients: Sequence[Gradients], direct: Tensor, finals: Sequence[Sequence[Tensor]]
    ) -> list[dict[str, Tensor]]:
        """Norms of every layer's adjoints, bottom first, by state and "state" for the joint one: (R, T, B) each."""


Make = Callable[[HandDerivedCell, LayerWeights, State, Tensor, Workspace, bool], Layer]


class _Layers(torch.autograd.Function):
    """(make, cell, recorder, workspace, keep, inputs, initial states…, weights…) → (outputs, final states…)."""

    @staticmethod
    def forward(
        ctx: Any, make: Make, cell: HandDerivedCell, recorder: Recorder, workspace: Workspace, keep: bool,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Every layer over all steps."""
        x, states, count = tensors[0], len(cell.states), cell.num_layers
        initial, weights = tensors[1 : 1 + count * states], tensors[1 + count * states :]
        layers: list[Layer] = []
        finals: list[Tensor] = []
        for i in range(count):
            own = LayerWeights(*weights[4 * i : 4 * i + 4])
            layers.append(make(cell, own, initial[i * states : (i + 1) * states], x, workspace, keep))
            x, final = layers[-1].forward(x)
            finals.extend(final)
        if keep:
            ctx.layers, ctx.recorder, ctx.states, ctx.workspace = layers, recorder, states, workspace
            ctx.save_for_backward(*tensors, x)  # read for its check that nobody wrote into them
            ctx.set_materialize_grads(layers[0].materialises)
        return (x, *finals)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, direct: Tensor | None, *finals: Tensor | None) -> Any:
        """Every layer backwards; the norms come with it."""
        layers, states, _ = ctx.layers, ctx.states, ctx.saved_tensors
        direct, *reached = operands.resolved((direct, *finals))
        grouped = [reached[i * states : (i + 1) * states] for i in range(len(layers))]
        gradients: list[Gradients] = []
        arriving, exponent = direct, None
        for index in reversed(range(len(layers))):
            asked = index > 0 or ctx.needs_input_grad[5]
            gradients.insert(0, layers[index].backward(arriving, exponent, grouped[index], asked, index > 0))
            arriving, exponent = gradients[0].inputs, gradients[0].exponent
        if ctx.recorder.active:
            ctx.recorder.record(layers[0].log2_norms(layers, gradients, direct, grouped))
        initial = [value for own in gradients for value in own.initial]
        return (None, None, None, None, None, arriving, *initial, *(w for own in gradients for w in own.weights))


def run(
    make: Make,
    cell: Cell,
    inputs: Tensor,
    weights: Sequence[LayerWeights],
    initial: Sequence[State],
    recorder: Recorder,
    pool: dict[Any, list[Tensor]],
) -> tuple[Tensor, list[State]]:
    """Run every layer over all steps; arguments and results as `eager.run`.

    `make` makes a layer of an engine; `pool` lends the buffers.
    """
    flat = operands.resolved([inputs, *(s for state in initial for s in state), *(w for own in weights for w in own)])
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in flat)
    # only training repeats its shapes: what an evaluation borrows is not kept
    outputs, *finals = _Layers.apply(make, cell, recorder, Workspace(pool if keep else {}), keep, *flat)
    width = len(cell.states)
    return outputs, [tuple(finals[i * width : (i + 1) * width]) for i in range(len(weights))]
