"""Delayed recall: which symbol came first, many distractors ago?"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge

from goldfish.tasks.base import Batch, Task, one_hot, only_last, uniform_cross_entropy


class Recall(Task):
    """Classify the first symbol after `length` distractor steps; read at the last step.

    With distractors="separate" the distractors have symbols of their own, so that the first symbol stands out; with
    "same" they are drawn from the symbols themselves, and only the position tells what to remember, which is harder.

    By hand (symbols=3, distractor_symbols=2, length=4; symbols 0 1 2, distractors 3 4):
        input 1 4 3 3 4, T = 5, target 1, lag 4.
    With distractors="same":
        input 1 0 2 2 1, T = 5, target 1, lag 4.

    Args:
        length: distractor steps after the symbol; T = length + 1, lag = length.
        symbols: number of symbols to remember, the classes.
        distractors: separate or same.
        distractor_symbols: number of distractor symbols when they are separate.
        train_size: sequences in a fixed training set; 0 draws fresh ones for ever.
    """

    def __init__(
        self,
        *,
        length: Annotated[int, Ge(1)] = 40,
        symbols: Annotated[int, Ge(2)] = 8,
        distractors: Literal["separate", "same"] = "separate",
        distractor_symbols: Annotated[int, Ge(1)] = 2,
        train_size: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.length, self.symbols, self.train_size = length, symbols, train_size
        self.distractors = range(symbols) if distractors == "same" else range(symbols, symbols + distractor_symbols)
        self.input_size = self.distractors.stop
        self.output_size = symbols

    def sample(self, n: int, length: int, generator: torch.Generator, split: str = "train") -> Batch:
        """Inputs are one-hot, (n, length + 1, D)."""
        first = torch.randint(self.symbols, (n, 1), generator=generator)
        rest = torch.randint(self.distractors.start, self.distractors.stop, (n, length), generator=generator)
        return Batch(
            inputs=one_hot(torch.cat([first, rest], dim=1), self.input_size),
            targets=first.squeeze(1),
            mask=only_last(n, length + 1),
            lag=torch.full((n,), length),
        )

    def steps(self, length: int) -> int:
        """T = length + 1: the symbol, then the distractors."""
        return length + 1

    @property
    def chance(self) -> float:
        """1/symbols."""
        return 1 / self.symbols

    def floor(self, length: int) -> float:
        """ln(symbols)."""
        return uniform_cross_entropy(self.symbols)
