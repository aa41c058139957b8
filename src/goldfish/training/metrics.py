"""Metrics of a pack, with one value for each replica: on its validation set, and over the steps between validations."""

from __future__ import annotations

from collections.abc import Sequence

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


class RunningMeans:
    """Means of the training loss and the gradient norm since the last validation: sums in float64, added to in place.

    Attributes:
        steps: how many steps were added, counted by whoever makes them.
    """

    def __init__(self) -> None:
        self._losses: Tensor | None = None  # (R, B); None before the first step
        self._norms: Tensor | None = None  # (R,); likewise
        self.steps = 0

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that a step changes."""
        return [value for value in (self._losses, self._norms) if value is not None]

    def add(self, losses: Tensor, norms: Tensor) -> None:
        """Add those of one step: losses (R, B), norms (R,)."""
        if self._losses is None or self._norms is None:
            self._losses = torch.zeros_like(losses, dtype=torch.float64)
            self._norms = torch.zeros_like(norms, dtype=torch.float64)
        self._losses += losses
        self._norms += norms

    def means(self) -> dict[str, Tensor]:
        """Name → (R,); nothing where there was no step."""
        if self._losses is None or self._norms is None or not self.steps:
            return {}
        losses = sums.means(self._losses)
        return {"train/loss": losses / self.steps, "train/gradient_norm": self._norms / self.steps}

    def reset(self) -> None:
        """Set the sums to zero."""
        for value in self.tensors:
            value.zero_()
        self.steps = 0

    def rows(self, replicas: int) -> list[tuple[Tensor, Tensor] | None]:
        """The sums of each replica's losses and norms, on the CPU; None where there was no step."""
        if self._losses is None or self._norms is None or not self.steps:
            return [None] * replicas
        return list(zip(self._losses.cpu(), self._norms.cpu(), strict=True))

    def restore(self, rows: Sequence[tuple[Tensor, Tensor] | None], device: torch.device) -> None:
        """Restore the sums that `rows` returned; those of a run that has stopped may be missing, and are not used."""
        for like in (row for row in rows if row is not None and self.steps):
            losses, norms = zip(*(row or map(torch.zeros_like, like) for row in rows), strict=True)
            self._losses, self._norms = torch.stack(losses).to(device), torch.stack(norms).to(device)
            return
