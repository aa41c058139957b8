"""Dropout whose masks come from each run's own random numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


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
