"""A stack of recurrent layers: in one direction or both, with dropout between layers, for sequences of any length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from goldfish.models.parts.layers import Dropout
from goldfish.recurrent import Recurrent
from goldfish.tasks.base import last_step


@dataclass(frozen=True)
class Builder:
    """Makes a run's recurrent networks: a cell and its arguments, the same for every network of a model.

    Attributes:
        cell: its registered name.
        replicas: R.
        engine: as in Recurrent.
        arguments: the cell's, hidden_size and num_layers among them.
    """

    cell: str
    replicas: int
    engine: str
    arguments: Mapping[str, Any]

    def __call__(self, input_size: int, num_layers: int | None = None) -> Recurrent:
        """A network with the run's own number of layers, or another."""
        given = dict(self.arguments) | ({} if num_layers is None else {"num_layers": num_layers})
        return Recurrent(self.cell, input_size, replicas=self.replicas, engine=self.engine, **given)


class Stack(nn.Module):
    """L recurrent layers on top of each other, in one or two directions, dropout between layers (Zaremba et al. 2014).

    The second direction reads each sequence from its own last step to its first (Schuster & Paliwal 1997); the outputs
    of both stand side by side. As torch.nn with bidirectional=True on packed sequences, but for the dropout's numbers.

    Args:
        build: makes the networks.
        input_size: D.
        dropout: its probability, between layers.
        bidirectional: whether there are two directions.
    """

    def __init__(self, build: Builder, input_size: int, *, dropout: float = 0.0, bidirectional: bool = False) -> None:
        super().__init__()
        self.forwards, self.backwards = nn.ModuleList(), nn.ModuleList()
        size = input_size
        for _ in range(build.arguments["num_layers"]):
            self.forwards.append(build(size, 1))
            if bidirectional:
                self.backwards.append(build(size, 1))
            size = self.top.cell.hidden_size * (1 + bidirectional)
        self.dropout, self.output_size = Dropout(dropout), size

    @property
    def top(self) -> Recurrent:
        """The last layer's network that reads forwards: gradient flow is reported from it."""
        last = self.forwards[-1]
        assert isinstance(last, Recurrent)
        return last

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """(R, B, T, D) → (R, B, T, H), or 2·H; what stands after a sequence's last step in `mask` is meaningless."""
        order = reversal(mask) if len(self.backwards) else None
        x = inputs
        for index, network in enumerate(self.forwards):
            x = self.dropout(x) if index else x
            outputs, _ = network(x)
            if order is not None:
                back, _ = self.backwards[index](_reorder(x, order))
                outputs = torch.cat([outputs, _reorder(back, order)], dim=-1)
            x = outputs
        return x


def reversal(mask: Tensor) -> Tensor:
    """Indices that turn each sequence round up to its last step, and leave what follows: (…, T) bool → (…, T)."""
    steps = torch.arange(mask.shape[-1], device=mask.device)
    last = last_step(mask).unsqueeze(-1)
    return torch.where(steps <= last, last - steps, steps)


def _reorder(x: Tensor, order: Tensor) -> Tensor:
    return x.gather(2, order.unsqueeze(-1).expand_as(x))
