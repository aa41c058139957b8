"""A feedforward network on a window of fixed size, which never sees what is older (Bengio et al. 2003)."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Interval
from torch import Tensor, nn

from goldfish.models.parts.sequence_model import SequenceModel
from goldfish.tasks.base import Task

READOUTS = ("last", "every")  # what a task may ask for


class Feedforward(SequenceModel):
    """y_t = V tanh(W [x_t, x_{t-1}, …, x_{t-w+1}] + b) + c, zeros before the first step; words embedded first.

    Args:
        task: any that is not decoded.
        replicas: R.
        window: w, steps that are seen.
        hidden_size: H.
        embedding_size: of words.
        dropout: its probability, on embedded words and before the readout.
    """

    def __init__(
        self,
        task: Task,
        replicas: int,
        *,
        window: Annotated[int, Ge(1)] = 10,
        hidden_size: Annotated[int, Ge(1)] = 64,
        embedding_size: Annotated[int, Ge(1)] = 64,
        dropout: Annotated[float, Interval(ge=0, le=0.95)] = 0.0,
    ) -> None:
        super().__init__(
            task,
            replicas,
            lambda size: _Window(size, window, hidden_size),
            embedding_size=embedding_size,
            hidden_size=hidden_size,
            dropout=dropout,
        )


class _Window(nn.Module):
    def __init__(self, input_size: int, window: int, hidden_size: int) -> None:
        super().__init__()
        self.window, self.hidden = window, nn.Linear(window * input_size, hidden_size)

    def forward(self, x: Tensor, inside: Tensor) -> Tensor:
        """(B, T, D) → (B, T, H)."""
        given = (x * inside.unsqueeze(-1)).transpose(1, 2)
        T = x.shape[1]
        seen = torch.cat([F.pad(given, (age, 0))[..., :T] for age in range(self.window)], dim=1)  # zeros come first
        return torch.tanh(self.hidden(seen.transpose(1, 2)))
