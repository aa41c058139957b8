"""The interface of a probe: the pack that it is given, and the measurements that it returns.

A probe is a function `measure(pack, *, …)`. Its keyword arguments are its configuration, `probe.<name>.<argument>`. It
returns a Measurement for each replica, or an empty list where it does not apply: every run is probed, whatever its task
and model. A module-level `MOMENTS = ("after",)` says that it is asked of a trained network alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from goldfish.recurrent import Recurrent
from goldfish.tasks.base import Batch, Task, last_step


@dataclass
class Measurement:
    """A probe's measurement of one replica.

    Attributes:
        metrics: numbers by the name that they are recorded under; `_before`, `_half` or `_step100` is added to it for
            other moments than the end of training.
        curves: points (x, value) by quantity.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


def numbers(values: Mapping[str, Tensor]) -> list[Measurement]:
    """One number for each replica: name → (R,)."""
    columns = {name: column.tolist() for name, column in values.items()}
    return [Measurement(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


class Answers(NamedTuple):
    """Answers of R replicas to the n sequences of an evaluation set.

    Attributes:
        correct: right answers, (R, n).
        asked: questions, (n,).
        losses: (R, n).
        lags: (n,), where the task has them.
    """

    correct: Tensor
    asked: Tensor
    losses: Tensor
    lags: Tensor | None


class Pack(Protocol):
    """R networks that differ in seed, initialisation and learning rate, and the data that they can be asked about."""

    task: Task
    replicas: int  # R

    @property
    def model(self) -> Any:
        """The network that is in training, to be left as it is."""

    @property
    def recurrents(self) -> list[Recurrent]:
        """The recurrent networks in it."""

    def copied(self) -> nn.Module:
        """A copy of the network with weights of its own, to be treated in any way."""

    def batch(self, size: int = 64, dtype: torch.dtype | None = None) -> Batch:
        """The fixed probe batch, (n, T, …), where the network is; floats in the run's precision unless told."""

    def spread(self, batch: Batch) -> Batch:
        """The same sequences for every replica: (n, …) → (R, n, …), without a copy."""

    def answers(self, length: int, split: str = "test") -> Answers:
        """The network's answers to the validation or test set of one length."""


@torch.no_grad()
def driving_inputs(pack: Pack, samples: int) -> Tensor:
    """The measured recurrent network's inputs for the first sequences of the probe batch: (R, samples, T, D), float64.

    T is the length of the shortest of them, so that no padding is among the inputs.
    """
    seen: list[Tensor] = []
    batch = pack.batch(samples)
    hook = pack.model.measured.register_forward_pre_hook(lambda module, given: seen.append(given[0].double()))
    try:
        pack.task.ask(pack.model, pack.spread(batch))
    finally:
        hook.remove()
    return seen[0][:, :, : int(last_step(batch.mask).min()) + 1]
