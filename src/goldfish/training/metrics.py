"""Metrics of a pack: torchmetrics with one state for each replica."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from goldfish.training.device import sums


class ReplicaMean(Metric):
    """A weighted mean for each replica, (R,): right answers over questions, or losses over ones."""

    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self, replicas: int) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(replicas, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("weight", torch.zeros(replicas, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, values: Tensor, weights: Tensor) -> None:
        """Add values and their weights, both (R, n)."""
        self.total += sums.over_rows(values)
        self.weight += sums.over_rows(weights)

    def compute(self) -> Tensor:
        """Mean of each replica, (R,)."""
        return self.total / self.weight
