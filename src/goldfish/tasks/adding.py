"""The adding problem (Hochreiter & Schmidhuber 1997, experiment 4): the sum of two marked values."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from annotated_types import Ge
from torch import Tensor

from goldfish.tasks.base import Batch, Task, only_last

SHORTEST = 4  # every placement of the two marks exists from here on


class Adding(Task):
    """Add the two marked values of a sequence of (value, mark); read at the last step. T = length.

    By hand (length=5, markers="bai2018"):
        values .1 .7 .3 .9 .5
        marks   0  1  0  1  0      target .7 + .9 = 1.6 (sum), .8 (mean), lag 4 − 1 = 3.

    Args:
        length: T.
        markers: where the two marks stand (positions from 0); the lag, so the difficulty, differs.
            bai2018: two distinct positions anywhere.
            arjovsky2016: one in [0, T/2), one in [T/2, T).
            pascanu2013: one in [0, T/10), one in [T/10, T/2).
            schmidt2021: one in [0, 10), another in [0, T/2).
            hochreiter1997: one among the first 10, another among the first T/2 − 1; the first and the last mark are
                −1. The paper lets the first pair be marked and then sets its value to 0; here it is never marked.
                The paper's random length, T to 1.1 T, is T.
        target: sum: a + b of values from U[0, 1]. mean: (a + b)/2 of the same (Pascanu's code).
            hochreiter: 0.5 + (a + b)/4 of values from U[−1, 1].
        train_size: sequences in a fixed training set; 0 draws fresh ones for ever.
    """

    kind: ClassVar[Literal["classification", "regression"]] = "regression"
    shortest = SHORTEST

    def __init__(
        self,
        *,
        length: Annotated[int, Ge(4)] = 50,
        markers: Literal["bai2018", "arjovsky2016", "pascanu2013", "schmidt2021", "hochreiter1997"] = "bai2018",
        target: Literal["sum", "mean", "hochreiter"] = "sum",
        train_size: Annotated[int, Ge(0)] = 0,
    ) -> None:
        self.length, self.markers, self.target, self.train_size = length, markers, target, train_size
        self.input_size, self.output_size = 2, 1

    def sample(self, n: int, length: int, generator: torch.Generator, split: str = "train") -> Batch:
        """Inputs are (n, T, 2): value, mark. Targets are (n,) values."""
        low = -1.0 if self.target == "hochreiter" else 0.0
        inputs, marked, lag = marked_values(n, length, self.markers, low, generator)
        total = marked.sum(1)
        targets = {"sum": total, "mean": total / 2, "hochreiter": 0.5 + total / 4}[self.target]
        return Batch(inputs=inputs, targets=targets, mask=only_last(n, length), lag=lag)

    @property
    def chance(self) -> float:
        """Share of targets within the tolerance of the best constant, the mean: a triangular density's middle."""
        width = self.tolerance if self.target == "sum" else 2 * self.tolerance
        return 1 - (1 - width) ** 2

    def floor(self, length: int) -> float:
        """Variance of the target: 1/6 for the sum, 1/24 for the mean and for Hochreiter's target."""
        return 1 / 6 if self.target == "sum" else 1 / 24


def marked_values(
    n: int, steps: int, markers: str, low: float, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Sequences of values from U[low, 1] with two marks placed as a paper does.

    Returns:
        inputs (n, T, 2), value and mark; the two marked values (n, 2); the lag of the earlier one (n,).
    """
    values = torch.rand(n, steps, generator=generator).mul_(1 - low).add_(low)
    positions = marks(n, steps, markers, generator)
    inputs = torch.zeros(n, steps, 2)
    inputs[..., 0] = values  # torch.stack takes seven times as long to put them side by side
    inputs[..., 1].scatter_(1, positions, 1.0)
    if markers == "hochreiter1997":
        inputs[:, [0, -1], 1] = -1.0
    return inputs, values.gather(1, positions), steps - 1 - positions.amin(1)


def marks(n: int, steps: int, markers: str, generator: torch.Generator) -> Tensor:
    """Two distinct positions for each of n sequences of T ≥ 4 steps, (n, 2) int64, in no particular order."""
    half, tenth = steps // 2, max(1, steps // 10)
    if markers == "arjovsky2016":
        return torch.stack([_below(n, half, generator), half + _below(n, half, generator)], dim=1)
    if markers == "pascanu2013":
        width = max(1, 2 * steps // 5)
        return torch.stack([_below(n, tenth, generator), tenth + _below(n, width, generator)], dim=1)
    if markers == "schmidt2021":
        return _distinct(n, min(10, steps), half, generator)
    if markers == "hochreiter1997":
        return 1 + _distinct(n, min(9, steps - 2), max(1, half - 2), generator)
    return _distinct(n, steps, steps, generator)


def _distinct(n: int, first: int, second: int, generator: torch.Generator) -> Tensor:
    """One position below `first` and another one below `second`, uniform over the distinct pairs."""
    one = _below(n, min(first, second), generator)
    other = _below(n, max(first, second) - 1, generator)
    return torch.stack([one, other + (other >= one)], dim=1)


def _below(n: int, bound: int, generator: torch.Generator) -> Tensor:
    return torch.randint(bound, (n,), generator=generator)
