"""The copying problem (Hochreiter & Schmidhuber 1997; Arjovsky et al. 2016): repeat ten symbols after a long delay."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge

from goldfish.tasks.base import Batch, Task, one_hot, uniform_cross_entropy


class Copying(Task):
    """See `items` symbols, wait, say them again in the last `items` steps, and blanks before; a loss at every step.

    T + 2·items steps, T the delay of the papers (`length`). Accuracy is counted on the recalled symbols alone, because
    saying "blank" is right at nearly every step. Each symbol is recalled T + items steps after it was seen: the lag.

    By hand (items=2, length=4, markers="arjovsky2016"; symbols 0 … 7, blank _, marker !):
        input   3 6 _ _ _ ! _ _
        target  _ _ _ _ _ _ 3 6     lag 6.

    Args:
        length: T, the delay.
        symbols: number of different symbols.
        items: number of symbols to repeat.
        markers: what tells the network to answer.
            arjovsky2016: one marker on the step before the answer (also Tallec & Ollivier 2018, scoRNN).
            pascanu2013: one marker on the first step of the answer (also expRNN).
            bai2018: markers from the step before the answer to the end.
            gu2022: markers on every step of the answer (the S4 code).
        train_size: sequences in a fixed training set; 0 draws fresh ones for ever.
    """

    readout: ClassVar[Literal["last", "every"]] = "every"

    def __init__(
        self,
        *,
        length: Annotated[int, Ge(1)] = 100,
        symbols: Annotated[int, Ge(2)] = 8,
        items: Annotated[int, Ge(1)] = 10,
        markers: Literal["arjovsky2016", "pascanu2013", "bai2018", "gu2022"] = "arjovsky2016",
        train_size: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.length, self.symbols, self.items, self.markers = length, symbols, items, markers
        self.train_size = train_size
        self.input_size, self.output_size = symbols + 2, symbols + 1  # the blank follows the symbols, then the marker

    def sample(self, n: int, length: int, generator: torch.Generator, split: str = "train") -> Batch:
        """Inputs are one-hot, (n, T + 2·items, symbols + 2); targets are (n, T + 2·items) classes."""
        seen = torch.randint(self.symbols, (n, self.items), generator=generator)
        steps, answer = self.steps(length), length + self.items
        start = answer - 1 if self.markers in ("arjovsky2016", "bai2018") else answer
        stop = steps if self.markers in ("bai2018", "gu2022") else start + 1
        tokens = torch.full((n, steps), self.symbols)
        tokens[:, : self.items] = seen
        tokens[:, start:stop] = self.symbols + 1
        targets = torch.full((n, steps), self.symbols)
        targets[:, answer:] = seen
        recall = torch.zeros(n, steps, dtype=torch.bool)
        recall[:, answer:] = True
        return Batch(
            inputs=one_hot(tokens, self.input_size),
            targets=targets,
            mask=torch.ones(n, steps, dtype=torch.bool),
            lag=torch.full((n,), answer),
            recall=recall,
        )

    def steps(self, length: int) -> int:
        """T + 2·items."""
        return length + 2 * self.items

    @property
    def chance(self) -> float:
        """1/symbols, on the recalled symbols."""
        return 1 / self.symbols

    def floor(self, length: int) -> float:
        """items · ln(symbols) / (T + 2·items): blanks are known, recalled symbols are guessed."""
        return self.items * uniform_cross_entropy(self.symbols) / self.steps(length)
