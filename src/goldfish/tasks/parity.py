"""Parity of a binary string: a state of one bit that every input may flip."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Ge

from goldfish.tasks.base import Batch, Task, one_hot, only_last, uniform_cross_entropy


class Parity(Task):
    """Is the number of ones in a binary string odd? Read at the last step.

    Every input matters equally, so there is no lag. Fair coins: a network that misses a single bit is at chance.

    By hand (length=5): input 1 0 1 1 0, T = 5, three ones, target 1.

    Args:
        length: bits; T = length.
        train_size: sequences in a fixed training set; 0 draws fresh ones for ever.
    """

    has_lag: ClassVar[bool] = False

    def __init__(
        self,
        *,
        length: Annotated[int, Ge(1)] = 20,
        train_size: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.length, self.train_size = length, train_size
        self.input_size = self.output_size = 2

    def sample(self, n: int, length: int, generator: torch.Generator, split: str = "train") -> Batch:
        """Inputs are one-hot, (n, length, 2): channel 0 for a zero, channel 1 for a one."""
        bits = torch.randint(2, (n, length), generator=generator)
        return Batch(inputs=one_hot(bits, 2), targets=bits.sum(1) % 2, mask=only_last(n, length))

    @property
    def chance(self) -> float:
        """1/2."""
        return 0.5

    def floor(self, length: int) -> float:
        """ln 2."""
        return uniform_cross_entropy(2)
