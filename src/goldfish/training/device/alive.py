"""The mask of the runs that still train, kept on their device, so that a step need not wait for the host."""

from __future__ import annotations

from collections.abc import Container, Sequence

import torch
from torch import Tensor


class Alive:
    """A mask over the runs that every step brings up to date on the device, and the host looks at when it validates.

    Args:
        replicas: R.
        device: where the runs train.

    Attributes:
        moving: (R,), bool: whose weights a step may change; a run that has ended never moves again.
        ended: (R,), int64: the step, counted from 1, in which a run's loss turned non-finite; the negative of the step
            in which its gradient did; else 0.
        step: (), int64: steps done.
    """

    def __init__(self, replicas: int, device: torch.device) -> None:
        self.moving = torch.ones(replicas, dtype=torch.bool, device=device)
        self.ended = torch.zeros(replicas, dtype=torch.int64, device=device)
        self.step = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that a step changes."""
        return [self.moving, self.ended, self.step]

    def add(self, losses: Tensor, norms: Tensor) -> None:
        """Count a step and take out whose loss or gradient is not finite: losses (R, B), norms (R,)."""
        self.step += 1
        fine_losses = torch.isfinite(losses).all(-1)
        fine = fine_losses & torch.isfinite(norms)
        now = torch.where(fine_losses, -self.step, self.step)
        self.ended.copy_(torch.where(self.moving & ~fine, now, self.ended))
        self.moving &= fine

    def keep(self, values: Tensor, before: Tensor) -> None:
        """Put back the weights (R, N) of the runs that do not move."""
        values.copy_(torch.where(self.moving.unsqueeze(1), values, before))

    def stop(self, replica: int) -> None:
        """Stop a run: its weights stay as they are."""
        self.moving[replica] = False


def told(ended: Sequence[int], known: Container[int]) -> dict[int, tuple[int, str]]:
    """The step of each run that has ended and is not known yet, and "loss" or "gradient", what was not finite."""
    new = {replica: step for replica, step in enumerate(ended) if step and replica not in known}
    return {replica: (abs(step), "loss" if step > 0 else "gradient") for replica, step in new.items()}
