"""Temporal order (Hochreiter & Schmidhuber 1997, experiments 6a and 6b): which of two symbols came, in which order?"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge, Interval
from torch import Tensor

from goldfish.tasks.base import Batch, Task, one_hot, only_last, uniform_cross_entropy

DISTRACTORS = 4


class TemporalOrder(Task):
    """Two (or three) symbols, each A or B, stand far apart among four distractors; name them in order. T = length.

    The class is read at the last step: AA 0, BA 1, AB 2, BB 3, in general the sum of 2^i over the positions i with a B.
    The lag is that of the first symbol.

    By hand (length=10, placement="pascanu2013"; A, B, distractors c d e f):
        input c B d d f A e c c d, T = 10, B then A: target 1, lag 9 − 1 = 8.

    Args:
        length: T.
        symbols: how many symbols to remember, 2 (4 classes) or 3 (8 classes).
        placement: where they stand (positions from 0).
            pascanu2013: in [.1T, .2T) and [.5T, .6T); for three in [.1T, .2T), [.3T, .4T) and [.6T, .7T).
            hochreiter1997: in [.1T, .2T] and [.5T, .6T]; for three in [.1T, .2T], [.33T, .43T] and [.66T, .76T]; the
                sequence begins with a start symbol and ends with an end symbol. The paper's random length, 100 to 110
                with these positions at T = 100, is T.
        train_size: sequences in a fixed training set; 0 draws fresh ones for ever.
    """

    shortest = 10
    STARTS: ClassVar[dict[tuple[str, int], tuple[int, ...]]] = {  # percent of T
        ("pascanu2013", 2): (10, 50),
        ("pascanu2013", 3): (10, 30, 60),
        ("hochreiter1997", 2): (10, 50),
        ("hochreiter1997", 3): (10, 33, 66),
    }

    def __init__(
        self,
        *,
        length: Annotated[int, Ge(10)] = 50,
        symbols: Annotated[int, Interval(ge=2, le=3)] = 2,
        placement: Literal["pascanu2013", "hochreiter1997"] = "pascanu2013",
        train_size: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.length, self.symbols, self.train_size = length, symbols, train_size
        self.framed = placement == "hochreiter1997"
        self.starts = self.STARTS[placement, symbols]
        self.input_size = 2 + DISTRACTORS + 2 * self.framed
        self.output_size = 2**symbols

    def sample(self, n: int, length: int, generator: torch.Generator, split: str = "train") -> Batch:
        """Inputs are one-hot, (n, T, 6): A, B, four distractors; with start and end symbol (n, T, 8)."""
        tokens = torch.randint(2, 2 + DISTRACTORS, (n, length), generator=generator)
        if self.framed:
            tokens[:, 0], tokens[:, -1] = 2 + DISTRACTORS, 3 + DISTRACTORS
        which = torch.randint(2, (n, self.symbols), generator=generator)
        positions = self._positions(n, length, generator)
        return Batch(
            inputs=one_hot(tokens.scatter_(1, positions, which), self.input_size),
            targets=(which << torch.arange(self.symbols)).sum(1),
            mask=only_last(n, length),
            lag=length - 1 - positions[:, 0],
        )

    def scores(self, predictions: Tensor, batch: Batch) -> dict[str, float]:
        """pair_accuracy: over the sequences with both symbols, whose counts say nothing about the class."""
        counts = (batch.targets.unsqueeze(-1) >> torch.arange(self.symbols) & 1).sum(-1)
        mixed = (counts > 0) & (counts < self.symbols)
        return {"pair_accuracy": float((predictions == batch.targets)[mixed].double().mean())}

    def _positions(self, n: int, length: int, generator: torch.Generator) -> Tensor:
        """Where the symbols stand, (n, symbols), ascending."""
        width = length // 10 + self.framed  # Hochreiter's ranges include their end
        starts = torch.tensor([length * percent // 100 for percent in self.starts])
        return starts + torch.randint(width, (n, self.symbols), generator=generator)

    @property
    def chance(self) -> float:
        """1/4 or 1/8."""
        return 1 / self.output_size

    def floor(self, length: int) -> float:
        """ln 4 or ln 8."""
        return uniform_cross_entropy(self.output_size)
