"""A temporal convolutional network: causal, dilated, all steps at once (Bai, Kolter & Koltun 2018)."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor, nn

from goldfish.models.parts.sequence_model import SequenceModel
from goldfish.tasks.base import Task

READOUTS = ("last", "every")  # what a task may ask for


class Tcn(SequenceModel):
    """Blocks of two causal convolutions with ReLU and a residual connection; dilation 2^i in block i.

    What is seen of the past: 1 + 2 (k − 1)(2^levels − 1) steps. The paper's weight normalisation is left out; dropout
    stands before the first block and after the last one, not inside.

    Args:
        task: any that is not decoded.
        replicas: R.
        channels: C, of every block.
        kernel_size: k.
        levels: blocks.
        embedding_size: of words.
        dropout: its probability, on embedded words and before the readout.
    """

    def __init__(
        self,
        task: Task,
        replicas: int,
        *,
        channels: Annotated[int, Ge(1)] = 32,
        kernel_size: Annotated[int, Ge(2)] = 3,
        levels: Annotated[int, Interval(ge=1, le=12)] = 4,
        embedding_size: Annotated[int, Ge(1)] = 64,
        dropout: Annotated[float, Interval(ge=0, le=0.95)] = 0.0,
    ) -> None:
        super().__init__(
            task,
            replicas,
            lambda size: _Blocks(size, channels, kernel_size, levels),
            embedding_size=embedding_size,
            hidden_size=channels,
            dropout=dropout,
        )


class _Blocks(nn.Module):
    def __init__(self, input_size: int, channels: int, kernel_size: int, levels: int) -> None:
        super().__init__()
        sizes = [input_size, *[channels] * levels]
        self.blocks = nn.Sequential(*(_Block(sizes[i], channels, kernel_size, 2**i) for i in range(levels)))

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """(B, T, D) → (B, T, C); what comes after a sequence's end is not seen before it."""
        hidden: Tensor = self.blocks(x.transpose(1, 2))
        return hidden.transpose(1, 2)


class _Block(nn.Module):
    def __init__(self, input_size: int, channels: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.before = (kernel_size - 1) * dilation
        self.first = nn.Conv1d(input_size, channels, kernel_size, dilation=dilation)
        self.second = nn.Conv1d(channels, channels, kernel_size, dilation=dilation)
        self.skip = nn.Conv1d(input_size, channels, 1) if input_size != channels else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, T) → (B, C, T)."""
        y = torch.relu(self.first(F.pad(x, (self.before, 0))))
        y = torch.relu(self.second(F.pad(y, (self.before, 0))))
        return torch.relu(y + self.skip(x))
