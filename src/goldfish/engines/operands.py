"""Checks of the tensors that an engine is given, before any is read: dtype, device, layout, shape and memory.

A compiled kernel takes an address and reads numbers of its own type there, whatever they are. So a tensor
that torch.nn refuses is refused here, with torch.nn's exceptions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from goldfish.cells.base import Cell, State

if TYPE_CHECKING:
    from goldfish.engines.layers import LayerWeights

T = TypeVar("T", Tensor, Tensor | None)


def check(cell: Cell, inputs: Tensor, weights: Sequence[LayerWeights], initial: Sequence[State]) -> None:
    """Refuse tensors that are not all of one floating-point dtype, on one device, dense, and of the right shape.

    Args:
        cell: the cell that is to run.
        inputs: (R, T, B, D).
        weights: one for each layer: (R, G·H, D or H), (R, G·H, H), (R, G·H) and (R, G·H).
        initial: the initial states of each layer, each (R, B, H).

    Raises:
        ValueError: when the inputs have another dtype than the weights.
        RuntimeError: for everything else.
    """
    dtype, device, dense = weights[0].weight_ih.dtype, inputs.device, torch.strided
    if inputs.dtype is not dtype:
        raise ValueError(
            f"RNN input dtype ({inputs.dtype}) does not match weight dtype ({dtype}). "
            f"Convert input: input.to({dtype}), or convert model: model.to({inputs.dtype})"
        )
    if not dtype.is_floating_point:
        raise RuntimeError(f"the weights are {dtype}: expected real floating-point numbers")
    if inputs.layout is not dense:
        raise RuntimeError(f"the inputs have layout {inputs.layout}, expected {dense}")
    R, _, B, D = inputs.shape
    H, G = cell.hidden_size, len(cell.gates) * cell.hidden_size
    shapes = [(R, G, D), (R, G, H), (R, G), (R, G), *[(R, B, H)] * len(cell.states)]
    for layer, weight in enumerate(weights):
        tensors = (*weight, *initial[layer])
        for tensor, shape in zip(tensors, shapes, strict=True):
            if (
                tensor.shape != shape
                or tensor.dtype is not dtype
                or tensor.device != device
                or tensor.layout is not dense
            ):
                raise RuntimeError(_difference(cell, layer, tensors, tensor, inputs, shape))
        shapes[0] = (R, G, H)


def _difference(
    cell: Cell, layer: int, tensors: Sequence[Tensor], odd: Tensor, inputs: Tensor, shape: tuple[int, ...]
) -> str:
    """What is wrong with one of a layer's tensors, in one line that begins as torch.nn's does."""
    weights = [f"{name}_l{layer}" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    names = [*weights, *(f"the initial {name} of layer {layer}" for name in cell.states)]
    name = names[next(k for k, tensor in enumerate(tensors) if tensor is odd)]
    kind = "parameter" if name in weights else "hidden"
    if odd.device != inputs.device:
        which = f"the inputs are on {inputs.device}, {name} is on {odd.device}"
        return f"Input and {kind} tensors are not at the same device: {which}"
    if odd.dtype != inputs.dtype:
        which = f"the inputs are {inputs.dtype}, {name} is {odd.dtype}"
        return f"Input and {kind} tensors are not the same dtype: {which}"
    if odd.layout != torch.strided:
        return f"{name} has layout {odd.layout}, expected torch.strided"
    return f"{name} has shape {tuple(odd.shape)}, expected {shape}"


def resolved(tensors: Sequence[T]) -> list[T]:
    """The same tensors; where torch has yet to change the sign in memory, as in z.conj().imag, one with that done."""
    return [tensor.resolve_neg() if tensor is not None and tensor.is_neg() else tensor for tensor in tensors]


def address(tensor: Tensor) -> int:
    """Where a tensor's numbers lie; 0 for one that has none.

    Raises:
        RuntimeError: when it has numbers but no memory: a fake or traced tensor, or a storage that was freed.
    """
    place = tensor.data_ptr()
    if not place and tensor.numel():
        raise RuntimeError(
            f"a tensor of shape {tuple(tensor.shape)} has no memory: it is fake (traced), or its storage was freed"
        )
    return place
