"""The multiplication problem (Hochreiter & Schmidhuber 1997, experiment 5): the product of two marked values."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge

from goldfish.tasks.adding import SHORTEST, marked_values
from goldfish.tasks.base import Batch, Task, only_last


class Multiplication(Task):
    """Multiply the two marked values, from U[0, 1], of a sequence of (value, mark); read at the last step. T = length.

    By hand (length=5, markers="bai2018"):
        values .1 .7 .3 .9 .5
        marks   0  1  0  1  0      target .7 · .9 = .63, lag 4 − 1 = 3.

    Args:
        length: T.
        markers: where the two marks stand, as in the adding problem.
        train_size: sequences in a fixed training set; 0 draws fresh ones for ever.
    """

    kind: ClassVar[Literal["classification", "regression"]] = "regression"
    shortest = SHORTEST

    def __init__(
        self,
        *,
        length: Annotated[int, Ge(4)] = 50,
        markers: Literal["bai2018", "arjovsky2016", "pascanu2013", "schmidt2021", "hochreiter1997"] = "bai2018",
        train_size: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.length, self.markers, self.train_size = length, markers, train_size
        self.input_size, self.output_size = 2, 1

    def sample(self, n: int, length: int, generator: torch.Generator, split: str = "train") -> Batch:
        """Inputs are (n, T, 2): value, mark. Targets are (n,) values."""
        inputs, marked, lag = marked_values(n, length, self.markers, 0.0, generator)
        return Batch(inputs=inputs, targets=marked.prod(1), mask=only_last(n, length), lag=lag)

    @property
    def chance(self) -> float:
        """Share of targets within the tolerance t of the best constant, which is t: P(a·b < 2t) = 2t(1 − ln 2t)."""
        width = 2 * self.tolerance
        return width * (1 - math.log(width))

    def floor(self, length: int) -> float:
        """Variance of the product: 1/9 − 1/16 = 7/144."""
        return 7 / 144
