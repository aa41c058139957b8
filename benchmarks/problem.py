"""The training step that everybody runs: outputs are weighted by a fixed cotangent, every weight gets a gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CELLS = ("rnn", "lstm", "gru")
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
INPUT_SIZE = 16  # D
LENGTH = 200  # T


@dataclass(frozen=True)
class Shape:
    """What is computed: cell, H, B, T, R and D."""

    cell: str
    hidden: int = 32
    batch: int = 32
    length: int = LENGTH
    replicas: int = 1
    inputs: int = INPUT_SIZE

    def __str__(self) -> str:
        parts = [self.cell, f"H={self.hidden}", f"B={self.batch}"]
        parts += [f"T={self.length}"] if self.length != LENGTH else []
        parts += [f"R={self.replicas}"] if self.replicas != 1 else []
        return " ".join(parts)


def draw(shape: Shape, device: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Inputs (R, B, T, D) and the cotangent of the outputs (R, B, T, H): the same for all, and laid out in time."""
    generator = torch.Generator().manual_seed(7)
    R, T, B = shape.replicas, shape.length, shape.batch
    inputs = torch.randn(R, T, B, shape.inputs, generator=generator)
    cotangent = torch.randn(R, T, B, shape.hidden, generator=generator)
    return inputs.to(device, dtype).transpose(1, 2), cotangent.to(device, dtype).transpose(1, 2)
