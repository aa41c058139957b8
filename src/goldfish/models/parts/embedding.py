"""Vectors for words, one table for each replica."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goldfish.tasks.base import PAD


class Embedding(nn.Module):
    """Row w of a replica's table for word w: weight (R, V, E); PAD is a vector of zeros and stays one.

    Args:
        vocabulary: V.
        size: E.
        replicas: R.
    """

    def __init__(self, vocabulary: int, size: int, replicas: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(replicas, vocabulary, size))

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """N(0, 1), as torch.nn.Embedding with padding_idx=0."""
        with torch.no_grad():
            drawn = torch.randn(self.weight.shape[1:], generator=generator, dtype=torch.float64)
            drawn[PAD] = 0
            self.weight[replica] = drawn

    def forward(self, words: Tensor) -> Tensor:
        """(R, …) int64 → (R, …, E)."""
        tables: Tensor = self.weight
        rows = [F.embedding(own, table, padding_idx=PAD) for own, table in zip(words, tables, strict=True)]
        return torch.stack(rows)
