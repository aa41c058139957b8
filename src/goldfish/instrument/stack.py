"""A torch.nn.RNN, LSTM or GRU run on this project's engines, layer by layer and direction by direction.

Everything here is time first, as inside torch.nn: (T, B, …). Sequences may end early; a sequence's steps after its end
hold every state but h, are read by nobody, and give no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from goldfish.cells.base import HandDerivedCell
from goldfish.cells.gru import GRU
from goldfish.cells.lstm import LSTM
from goldfish.cells.rnn import RNN
from goldfish.engines import compiled, cpu, scaled, select, stepwise
from goldfish.engines.layers import Layer, LayerWeights, Make, Workspace

Norms = dict[str, Tensor]  # name → (L · directions, B, T), float64
Record = Callable[[Norms], None]


@dataclass
class Call:
    """One call of a module: what does not change between its layers.

    Attributes:
        cell: one layer of the module's cell.
        make: makes a layer of the engine that runs it.
        directions: 1 or 2.
        lengths: of the sequences, (B,); None where all end at the last step.
        masks: what dropout multiplies each layer's outputs with, (T, B, directions · H), None for the last.
        record: takes the norms in the backward pass.
    """

    cell: HandDerivedCell
    make: Make
    directions: int
    lengths: Tensor | None
    masks: Sequence[Tensor | None]
    record: Record

    def turned(self, sequence: Tensor) -> Tensor:
        """Each sequence (…, T, B, …) from its own last step to its first; the padding stays where it is."""
        if self.lengths is None:
            return sequence.flip(1)
        steps = torch.arange(sequence.shape[1], device=sequence.device).unsqueeze(1)
        index = torch.where(steps < self.lengths, self.lengths - 1 - steps, steps)
        index = index.view(1, *index.shape, *(1,) * (sequence.dim() - 3)).expand(sequence.shape)
        return sequence.gather(1, index)


def cell_of(module: nn.RNNBase) -> HandDerivedCell:
    """One layer of a module's cell."""
    H = module.hidden_size
    if isinstance(module, nn.LSTM):
        return LSTM(hidden_size=H, num_layers=1)
    if isinstance(module, nn.GRU):
        return GRU(hidden_size=H, num_layers=1)
    return RNN(hidden_size=H, num_layers=1, nonlinearity=module.nonlinearity)  # type: ignore[arg-type]


def maker(cell: HandDerivedCell, like: Tensor) -> Make:
    """What makes a layer of the fastest engine for a device and a dtype."""
    engine = select.choose("auto", cell, like.device, like.dtype)
    if engine is cpu:
        function = cpu.load(compiled.name(cell), compiled.DTYPES[like.dtype])
        return partial(function.Layer, recompute=like.shape[0] >= function.RECOMPUTE_FROM)
    if engine is stepwise:
        return stepwise.Layer
    from goldfish.engines.cuda import function

    return function.Layer  # type: ignore[no-any-return]


def weights_of(module: nn.RNNBase) -> list[Tensor]:
    """Four weights for each layer and direction, layers first; zeros where there are no biases."""
    found: list[Tensor] = []
    for layer in range(module.num_layers):
        for suffix in ("", "_reverse") if module.bidirectional else ("",):
            weights = [getattr(module, f"weight_{kind}_l{layer}{suffix}") for kind in ("ih", "hh")]
            if module.bias:
                weights += [getattr(module, f"bias_{kind}_l{layer}{suffix}") for kind in ("ih", "hh")]
            else:
                weights += [weights[0].new_zeros(weights[0].shape[0]) for _ in range(2)]
            found += weights
    return found


class Stack(torch.autograd.Function):
    """(call, x, initial states…, weights…) → (outputs, final states…): layers and directions, all steps.

    x: (T, B, D). States: each (L · directions, B, H), h first. Weights: as `weights_of`.
    """

    @staticmethod
    def forward(ctx: Any, call: Call, x: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Every layer over all steps."""
        states = len(call.cell.states)
        initial, weights = tensors[:states], tensors[states:]
        workspace, layers, finals = Workspace({}), [], []
        inputs, together = x.unsqueeze(0), list[Tensor]()
        for index in range(len(weights) // 4):
            direction = index % call.directions
            own = LayerWeights(*(weight.unsqueeze(0) for weight in weights[4 * index : 4 * index + 4]))
            own, read = _held(call, own, inputs if direction == 0 else call.turned(inputs))
            start = tuple(state[index : index + 1] for state in initial)
            layers.append(call.make(call.cell, own, start, read, workspace, True))
            outputs, final = layers[-1].forward(read)
            finals.append((_last(call, outputs), *final[1:]))
            together = [outputs] if direction == 0 else [*together, call.turned(outputs)]
            if direction == call.directions - 1:
                inputs = _between(call, together, index // call.directions)
        ctx.call, ctx.layers, ctx.width, ctx.workspace = call, layers, x.shape[-1], workspace
        ctx.save_for_backward(x, *tensors)  # read for its check that nobody wrote into them
        return inputs[0].clone(), *(torch.cat(parts).clone() for parts in zip(*finals, strict=True))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, direct: Tensor, *finals: Tensor) -> Any:
        """Every layer backwards, and the norms."""
        call, layers, H = ctx.call, ctx.layers, ctx.call.cell.hidden_size
        (x, *tensors), states = ctx.saved_tensors, len(call.cell.states)
        arriving = _Arriving(direct.unsqueeze(0), None)
        gradients: list[list[Tensor]] = []
        initial: list[list[Tensor]] = []
        norms: list[Norms] = []
        for bottom in reversed(range(0, len(layers), call.directions)):
            below: list[_Arriving] = []
            for direction in range(call.directions):
                index = bottom + direction
                part = arriving.part(direction * H, H)
                part = part if direction == 0 else part.turned(call)
                part, own_finals = _at_the_end(call, part, [final[index : index + 1] for final in finals])
                backward = part.through(layers[index], own_finals, bottom > 0 or ctx.needs_input_grad[1])
                below.append(backward.below if direction == 0 else backward.below.turned(call))
                norms.append(
                    {name: norm if direction == 0 else call.turned(norm) for name, norm in backward.norms.items()}
                )
                initial.append(backward.initial)
                by_inputs, *others = backward.weights
                read = tensors[states + 4 * index].shape[1]  # without the input that holds
                gradients.append([by_inputs[..., :read], *others])
            arriving = below[0] if call.directions == 1 else below[0].plus(below[1])
            arriving = arriving.narrowed(call, bottom // call.directions - 1, ctx.width if bottom == 0 else None)
        ordered = _bottom_first(call.directions, norms)
        call.record({name: torch.cat([own[name] for own in ordered]).transpose(1, 2) for name in ordered[0]})
        initial, gradients = _bottom_first(call.directions, initial), _bottom_first(call.directions, gradients)
        starts = [torch.cat([own[k] for own in initial]) for k in range(states)]
        dx = arriving.value()[0].to(x.dtype) if ctx.needs_input_grad[1] else None
        return (None, dx, *starts, *(gradient[0] for own in gradients for gradient in own))


def run(call: Call, x: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """`Stack` applied: outputs (T, B, directions · H), and final states, each (L · directions, B, H)."""
    results: tuple[Tensor, ...] = Stack.apply(call, x, *tensors)  # type: ignore[no-untyped-call]
    return results


def _bottom_first(directions: int, collected: list[Any]) -> list[Any]:
    """What was collected from the top layer down, its directions in order, from the bottom layer up."""
    groups = [collected[k : k + directions] for k in range(0, len(collected), directions)]
    return [own for group in reversed(groups) for own in group]


def _held(call: Call, weights: LayerWeights, x: Tensor) -> tuple[LayerWeights, Tensor]:
    """One more input, 1 at the steps after a sequence's end, which makes the gates of an LSTM hold c."""
    if call.lengths is None or not call.cell.hold:
        return weights, x
    steps = torch.arange(x.shape[1], device=x.device).unsqueeze(1)
    flag = (steps >= call.lengths).to(x.dtype).view(1, *x.shape[1:3], 1)
    column = weights.weight_ih.new_zeros(len(call.cell.gates), call.cell.hidden_size)
    for gate, value in call.cell.hold.items():
        column[call.cell.gates.index(gate)] = value
    column = column.view(1, -1, 1)
    return weights._replace(weight_ih=torch.cat([weights.weight_ih, column], -1)), torch.cat([x, flag], -1)


def _last(call: Call, outputs: Tensor) -> Tensor:
    """h at each sequence's last step in the order in which it was run: (1, T, B, H) → (1, B, H)."""
    if call.lengths is None:
        return outputs[:, -1]
    return outputs[0, call.lengths - 1, torch.arange(outputs.shape[2], device=outputs.device)].unsqueeze(0)


def _between(call: Call, outputs: list[Tensor], layer: int) -> Tensor:
    """What the next layer reads: both directions side by side, after dropout."""
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
    mask = call.masks[layer]
    return joined if mask is None else joined * mask


@dataclass
class _Backward:
    """What one layer's backward pass in one direction gives; norms are (1, T, B)."""

    below: _Arriving
    initial: list[Tensor]
    weights: list[Tensor]
    norms: Norms


@dataclass
class _Arriving:
    """A gradient that reaches outputs, (1, T, B, ·), and how it is kept from underflow between layers.

    Either mantissas to an `exponent` (1, T, B), or, where the engine takes none, the value itself with float64
    mantissas and exponents beside it, from which the norms come.
    """

    direct: Tensor
    exponent: Tensor | None
    beside: tuple[Tensor, Tensor] | None = None

    def part(self, start: int, width: int) -> _Arriving:
        """One direction's share."""
        beside = self.beside and (self.beside[0][..., start : start + width], self.beside[1])
        return _Arriving(self.direct[..., start : start + width].contiguous(), self.exponent, beside)

    def turned(self, call: Call) -> _Arriving:
        """In the other order of time."""
        exponent = None if self.exponent is None else call.turned(self.exponent)
        beside = self.beside and (call.turned(self.beside[0]), call.turned(self.beside[1]))
        return _Arriving(call.turned(self.direct), exponent, beside)

    def plus(self, other: _Arriving) -> _Arriving:
        """The sum of both directions' gradients."""
        beside = self.beside and other.beside and scaled.add(*self.beside, *other.beside)
        if self.exponent is None or other.exponent is None:
            return _Arriving(self.direct + other.direct, None, beside)
        mine, others = self.exponent.double(), other.exponent.double()
        total, exponent = scaled.add(self.direct.double(), mine, other.direct.double(), others)
        return _Arriving(total.to(self.direct.dtype), exponent.to(self.exponent.dtype), None)

    def narrowed(self, call: Call, layer: int, width: int | None) -> _Arriving:
        """What reaches the outputs of the layer below (`layer`, through its dropout), or the inputs of so many."""
        mask = None if layer < 0 else call.masks[layer]
        width = width or call.directions * call.cell.hidden_size

        def cut(gradient: Tensor) -> Tensor:
            gradient = gradient[..., :width]
            return gradient if mask is None else gradient * mask

        beside = self.beside and (cut(self.beside[0]), self.beside[1])
        return _Arriving(cut(self.direct), self.exponent, beside)

    def value(self) -> Tensor:
        """The gradient itself."""
        return self.direct if self.exponent is None else torch.ldexp(self.direct, self.exponent.unsqueeze(-1))

    def through(self, layer: Layer, finals: list[Tensor], to_inputs: bool) -> _Backward:
        """Carry it through one layer."""
        found = layer.backward(self.direct, self.exponent, finals, to_inputs, True)
        weights, initial = list(found.weights), [start for start in found.initial if start is not None]
        if not isinstance(layer, stepwise.Layer):
            norms = layer.log2_norms([layer], [found], self.direct, [finals])[0]
            below = self.direct if found.inputs is None else found.inputs
            return _Backward(_Arriving(below, found.exponent), initial, weights, norms)
        mantissa, exponent = self.beside or scaled.rescale(
            self.direct.double(), torch.zeros_like(self.direct[..., 0]).double()
        )
        states = layer.cell.states
        norms, to_input, exponent = scaled.layer_chain(
            layer.back(), states, mantissa, exponent, [final.double() for final in finals]
        )
        beside = scaled.rescale(to_input @ layer.weight.weight_ih.double().unsqueeze(1), exponent)
        return _Backward(
            _Arriving(found.inputs if found.inputs is not None else self.direct, None, beside), initial, weights, norms
        )


def _at_the_end(call: Call, arriving: _Arriving, finals: list[Tensor]) -> tuple[_Arriving, list[Tensor]]:
    """Where sequences end early, what reaches the final h reaches h at each one's last step."""
    if call.lengths is None:
        return arriving, finals
    T, B = arriving.direct.shape[1:3]
    place = (0, call.lengths - 1, torch.arange(B, device=arriving.direct.device))
    at_end = torch.zeros_like(arriving.direct)
    at_end[place] = finals[0][0]
    others = [torch.zeros_like(finals[0]), *finals[1:]]
    nothing = torch.zeros(1, T, B, dtype=torch.float64, device=at_end.device)
    beside = arriving.beside and scaled.add(*arriving.beside, at_end.double(), nothing)
    if arriving.exponent is None:
        return _Arriving(arriving.direct + at_end, None, beside), others
    total, exponent = scaled.add(arriving.direct.double(), arriving.exponent.double(), at_end.double(), nothing)
    return _Arriving(total.to(at_end.dtype), exponent.to(arriving.exponent.dtype)), others
