"""Layers that every model is built from, with a set of weights or random numbers for each replica."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goldfish.engines import select
from goldfish.tasks.base import PAD


class Dropout(nn.Module):
    """Zeroes each number with probability p and divides the others by 1 − p (Srivastava et al. 2014).

    Off, unless a training step has set `generators`: a measurement sees the whole network, and torch's own random
    numbers, which all runs of a process share, play no part.

    Attributes:
        generators: R CPU generators, one for each replica, or none.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generators: Sequence[torch.Generator] = ()

    @property
    def draws(self) -> bool:
        """Whether it needs random numbers."""
        return self.p > 0

    def forward(self, x: Tensor) -> Tensor:
        """(R, …) → (R, …)."""
        if not (self.generators and self.draws):
            return x
        drawn = [torch.empty(x.shape[1:]).bernoulli_(1 - self.p, generator=own) for own in self.generators]
        return x * torch.stack(drawn).to(x) / (1 - self.p)


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


class Readout(nn.Module):
    """y = W h + b for every replica: weight (R, O, H), bias (R, O)."""

    def __init__(self, hidden_size: int, output_size: int, replicas: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(replicas, output_size, hidden_size))
        self.bias = nn.Parameter(torch.zeros(replicas, output_size))

    def initialise(self, replica: int, generator: torch.Generator) -> None:
        """U(±1/√H), as torch.nn.Linear."""
        bound = 1 / math.sqrt(self.weight.shape[-1])
        with torch.no_grad():
            for parameter in (self.weight, self.bias):
                drawn = torch.rand(parameter.shape[1:], generator=generator, dtype=torch.float64)
                parameter[replica] = (2 * drawn - 1) * bound

    def forward(self, h: Tensor) -> Tensor:
        """(R, N, H) → (R, N, O)."""
        if h.is_cuda and select.has_own_products(h.dtype):  # on a GPU the bits of torch's depend on the pack
            from goldfish.engines.cuda import readout

            return readout.linear(h, self.weight, self.bias)
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if weight.shape[1] == 1:  # a pack of one takes a product with one column through gemv, with other last bits
            weight, bias = F.pad(weight, (0, 0, 0, 1)), F.pad(bias, (0, 1))
        return torch.baddbmm(bias.unsqueeze(1), h, weight.mT)[..., : self.weight.shape[1]]
