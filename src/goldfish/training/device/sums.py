"""Sums for each run of a pack: all runs at once, and in an order that does not depend on how many there are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from goldfish.engines import select


def over_rows(values: Tensor) -> Tensor:
    """The sum of each row, (R, n) → (R,), in float64.

    On a CPU row by row. On a GPU that would be a kernel a run, and torch's own sum of all rows adds up in an order
    that depends on R: there one half of every row is added to the other, until one number is left.
    """
    if values.device.type == "cpu":
        return torch.stack([row.double().sum() for row in values])
    return halved(values)


def means(values: Tensor) -> Tensor:
    """The mean of each row, (R, n) → (R,), in float64."""
    if values.device.type == "cpu":
        return torch.stack([row.double().mean() for row in values])
    return halved(values) / values.shape[1]


def norms(values: Tensor) -> Tensor:
    """The Euclidean norm of each row, (R, n) → (R,)."""
    if values.device.type == "cpu":
        by_row: Tensor = torch.linalg.vector_norm(values, dim=1)
        return by_row
    if select.has_own_products(values.dtype):
        from goldfish.engines.cuda import gemm

        return gemm.norms(values)
    return halved(values.double().square()).sqrt().to(values.dtype)


def halved(values: Tensor) -> Tensor:
    """The sum of each row by halves, (R, n) → (R,), in float64: as many operations as n has binary digits."""
    length = 1 << max(0, values.shape[1] - 1).bit_length()
    total = F.pad(values.double(), (0, length - values.shape[1]))
    while total.shape[1] > 1:
        low, high = total.chunk(2, dim=1)
        total = low + high
    return total.squeeze(1)
