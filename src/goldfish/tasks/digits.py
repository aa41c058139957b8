"""Real handwritten digits, read pixel by pixel: scikit-learn's 1,797 images of 8×8 pixels, on every machine."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from goldfish.data.sources import digits_file
from goldfish.tasks.base import Batch, StoredTask, only_last

CONTENT = "sklearn-digits"  # what goldfish.data.sources.content_hash reads
PIXELS = 64
SPLIT_SEED = 1797
HELD_OUT = 5  # one of five images of each class tests, another validates
PERMUTATION_SEED = 92916  # as in permuted MNIST


class Digits(StoredTask):
    """Classify an 8×8 digit from its 64 pixels, one a step, followed by length − 64 blanks; read at the last step.

    Inputs are (n, T, 2), T = length: channel 0 is the pixel, 0 … 1; channel 1 is 1 at a blank and 0 at a pixel, so that
    a blank is no black pixel. The lag is the number of blanks: steps since the last pixel.

    Split, the same for every run: the images are put in the order RandomState(1797).permutation(1797); of each class
    the first fifth (rounded down) is the test split, the second fifth validation, the rest training: 355, 355 and 1,087
    images. Each split keeps that order, so that its first n examples are a mixed sample.

    By hand (length=67): pixels p0 … p63 of a seven, then three blanks,
        (p0, 0) … (p63, 0) (0, 1) (0, 1) (0, 1), target 7, lag 3.

    Args:
        length: T ≥ 64, pixels and blanks.
        order: sequential: left to right, top to bottom. permuted: RandomState(92916).permutation(64) of it.
    """

    shortest = PIXELS

    def __init__(
        self,
        *,
        length: Annotated[int, Ge(64)] = 64,
        order: Literal["sequential", "permuted"] = "sequential",
    ) -> None:
        self.length, self.reads = length, {"name": "digits"}
        self.input_size, self.output_size = 2, 10
        shuffled = np.random.RandomState(PERMUTATION_SEED).permutation(PIXELS)
        self.order = torch.from_numpy(shuffled if order == "permuted" else np.arange(PIXELS))

    def size(self, split: str) -> int:
        """Number of images in a split."""
        return len(_splits()[split][1])

    def examples(self, split: str, rows: Tensor, length: int) -> Batch:
        """The images at these rows, pixel by pixel, then blanks."""
        pixels, labels = _splits()[split]
        inputs = torch.zeros(len(rows), length, 2)
        inputs[:, :PIXELS, 0] = pixels[rows][:, self.order]
        inputs[:, PIXELS:, 1] = 1.0
        return Batch(
            inputs=inputs,
            targets=labels[rows],
            mask=only_last(len(rows), length),
            lag=torch.full((len(rows),), length - PIXELS),
        )

    def answers(self, split: str) -> Tensor:
        """Every class that is asked for in a split."""
        return _splits()[split][1]


@cache
def _splits() -> dict[str, tuple[Tensor, Tensor]]:
    """Split → pixels (N, 64) in 0 … 1 and labels (N,)."""
    table = torch.from_numpy(np.loadtxt(digits_file(), delimiter=","))
    order = np.random.RandomState(SPLIT_SEED).permutation(len(table))
    table = table[torch.from_numpy(order)]
    pixels, labels = table[:, :PIXELS].float() / 16, table[:, PIXELS].long()
    fifth = _rank(labels) // (torch.bincount(labels) // HELD_OUT)[labels]
    chosen = {"test": fifth == 0, "validation": fifth == 1, "train": fifth > 1}
    return {split: (pixels[rows], labels[rows]) for split, rows in chosen.items()}


def _rank(labels: Tensor) -> Tensor:
    """How many of the same class come before each label."""
    same = labels.unsqueeze(1) == labels.unsqueeze(0)
    return same.tril(-1).sum(1)
