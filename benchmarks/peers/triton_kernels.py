"""Triton kernels on a GPU, where they are installed: FlashRNN's (LSTM), TorchRL's (LSTM, GRU) and our own RNN's."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from benchmarks.interleave import Entrant, NotRun, reason, repeated
from benchmarks.peers import alone
from benchmarks.problem import Shape, draw

EXACT = ("ieee", "tf32x3")  # precisions of Triton's matrix product that have float32's digits


def all_kernels(shape: Shape, device: str) -> Iterator[tuple[str, Entrant]]:
    """By name: FlashRNN, TorchRL in both precisions, and this project's RNN had it been written in Triton."""
    yield "FlashRNN triton, TF32", _entrant(_flashrnn, shape, device)
    for precision in ("tf32", "ieee"):
        yield f"TorchRL triton, {precision}", _entrant(_torchrl, shape, device, precision)
    for precision in EXACT:
        yield f"goldfish's RNN in triton, {precision}", _entrant(_own, shape, device, precision)


def _entrant(build: Callable[..., Entrant], *arguments: Any) -> Entrant:
    """What `build` makes; an import or a build that fails is told, with its reason."""
    try:
        return build(*arguments)
    except Exception as error:
        return NotRun(reason(error))


def _trainer(shape: Shape, device: str, forward: Callable[[Tensor, Mapping[str, Tensor]], Tensor]) -> Entrant:
    """A step around a kernel `forward`: inputs (B, T, D), weights as in torch.nn → outputs (B, T, H)."""
    module = alone.module(shape.cell, shape.inputs, shape.hidden, device)
    weights = {name.removesuffix("_l0"): value for name, value in module.named_parameters()}
    inputs, cotangent = draw(shape, device)
    x, on_outputs = inputs[0].contiguous(), cotangent[0].contiguous()

    def train() -> None:
        module.zero_grad(set_to_none=True)
        forward(x, weights).backward(on_outputs)

    return repeated(train)


def _flashrnn(shape: Shape, device: str) -> Entrant:
    if shape.cell != "lstm":
        return NotRun("its Triton kernels have LSTM only")
    flashrnn = importlib.import_module("flashrnn.flashrnn").flashrnn
    H = shape.hidden

    def forward(x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        wx = (x @ weights["weight_ih"].T).unflatten(-1, (4, 1, H))  # (B, T, G, heads, H)
        recurrent = weights["weight_hh"].unflatten(0, (4, 1, H))  # (G, heads, H out, H in)
        bias = (weights["bias_ih"] + weights["bias_hh"]).unflatten(0, (4, 1, H))
        outputs, _ = flashrnn(wx, recurrent, bias, function="lstm", backend="triton_fused", dtype="float32")
        return outputs[0].reshape(*x.shape[:2], H)

    return _trainer(shape, device, forward)


def _torchrl(shape: Shape, device: str, precision: str) -> Entrant:
    if shape.cell == "rnn":
        return NotRun("its Triton kernels have LSTM and GRU only")
    kernel = getattr(importlib.import_module("torchrl.modules.tensordict_module._rnn_triton"), f"{shape.cell}_triton")
    B, T, H = shape.batch, shape.length, shape.hidden
    resets = torch.zeros(B, T, dtype=torch.bool, device=device)
    zeros = torch.zeros(B, T, H, device=device)

    def forward(x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        states = (zeros, zeros) if shape.cell == "lstm" else (zeros,)
        named = [weights[key] for key in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        outputs: Tensor = kernel(x, *states, *named, resets, input_precision=precision)[0]
        return outputs

    return _trainer(shape, device, forward)


def _own(shape: Shape, device: str, precision: str) -> Entrant:
    if shape.cell != "rnn":
        return NotRun("written for the RNN only, to compare the compilers")
    train = importlib.import_module("benchmarks.peers.triton_rnn").train
    module = alone.module(shape.cell, shape.inputs, shape.hidden, device)
    weights = {name.removesuffix("_l0"): value.detach()[None] for name, value in module.named_parameters()}
    weights["bias"] = weights.pop("bias_ih") + weights.pop("bias_hh")
    inputs, cotangent = (value.transpose(1, 2) for value in draw(shape, device))
    return repeated(lambda: train(inputs, cotangent, weights, precision))
