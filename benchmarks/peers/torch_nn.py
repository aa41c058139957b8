"""torch.nn.RNN, LSTM and GRU in this process, in the precisions that the device offers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.interleave import Contestant
from benchmarks.peers import alone
from benchmarks.problem import Shape

PLAIN = "torch.nn"  # the CPU's: oneDNN and ATen
TF32, IEEE = "torch.nn cuDNN TF32", "torch.nn cuDNN ieee"  # TF32 is what a GPU's user gets unasked
_CUDNN: Any = torch.backends.cudnn.rnn  # torch's type hints do not know its fp32_precision


def names(device: str) -> tuple[str, ...]:
    """The names of the contestants."""
    return (PLAIN,) if device == "cpu" else (TF32, IEEE)


def steps(shape: Shape, device: str, adam: bool = False) -> Iterator[tuple[str, Contestant]]:
    """Each precision; with `adam`, R runs are trained one after another, a step each."""
    for name in names(device):
        yield name, step(shape, device, name, adam)


def step(shape: Shape, device: str, name: str, adam: bool = False) -> Contestant:
    """One of them, by name."""
    arguments = asdict(shape)
    runs = [
        alone.training(device=device, adam=adam, **{key: arguments[key] for key in arguments if key != "replicas"})
        for _ in range(shape.replicas)
    ]

    def run(n: int) -> None:
        before = _CUDNN.fp32_precision
        _CUDNN.fp32_precision = "ieee" if name == IEEE else "tf32"
        try:
            for _ in range(n):
                for train in runs:
                    train(1)
        finally:
            _CUDNN.fp32_precision = before

    return Contestant(run, shape.replicas)
