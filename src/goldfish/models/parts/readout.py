"""The linear readout, one for each replica."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from goldfish.engines import select


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
            weight, bias = nn.functional.pad(weight, (0, 0, 0, 1)), nn.functional.pad(bias, (0, 1))
        return torch.baddbmm(bias.unsqueeze(1), h, weight.mT)[..., : self.weight.shape[1]]
