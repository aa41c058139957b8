"""MNIST, read pixel by pixel or row by row (Le, Jaitly & Hinton 2015): real images of 28×28 pixels."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Interval
from torch import Tensor

from goldfish.data import sources as real
from goldfish.data.tables import Tables
from goldfish.errors import ConfigError
from goldfish.tasks.base import Batch, StoredTask, only_last

HUB_ID = "ylecun/mnist"
COLUMNS = {"image": ("images",), "label": ("classes", 10)}  # what each holds (goldfish.data.columns)
ROWS = {"train": 5001, "test": 1}  # the fewest: VALIDATION and one more
LENGTHS = {"order": {"sequential": 784, "permuted": 784, "rows": 28}}  # argument → choice → its only length
SIDE = 28
PIXELS = SIDE * SIDE
PERMUTATION_SEED = 92916  # the published permutation (scoRNN, expRNN)
SPLIT_SEED = 60000
VALIDATION = 5000


class Mnist(StoredTask):
    """Classify a 28×28 digit from its pixels, one a step (T = 784) or one row a step (T = 28); read at the last step.

    Inputs are (n, 784, 1), or (n, 28, 28) for rows, grey values in 0 … 1. All pixels matter, so there is no lag.

    Split, the same for every run: the hub's 60,000 training images are put in the order
    RandomState(60000).permutation(60000); the first 5,000 are the validation split, the rest the training split. The
    10,000 test images are put in the order RandomState(60000).permutation(10000): the first half of the published order
    is easier than the second.

    By hand (order="rows"): rows r0 … r27 of a five, 28 values each: r0 r1 … r27, T = 28, target 5.

    Args:
        length: T, 784; 28 for order="rows".
        order: sequential: left to right, top to bottom. permuted: RandomState(92916).permutation(784) of it, the
            published one. rows: a row of 28 pixels a step.
        data: a folder with the parquet files of ylecun/mnist (columns image, label); null takes the hub's.

    Raises:
        ConfigError: for a length that the order does not have; on first use, when neither hub nor folder is reachable,
            an image is not grey or not 28×28, or a label is no digit.
    """

    has_lag: ClassVar[bool] = False

    def __init__(
        self,
        *,
        length: Annotated[int, Interval(ge=28, le=784)] = 784,
        order: Literal["sequential", "permuted", "rows"] = "sequential",
        data: str | None = None,
    ) -> None:
        only = LENGTHS["order"][order]
        if length != only:
            raise ConfigError(f"task.length={length}: task.order={order} has {only} steps; expected {only}")
        self.length = self.shortest = length
        self.reads = {"name": "mnist", "data": data}
        self.input_size, self.output_size = PIXELS // length, 10
        shuffled = np.random.RandomState(PERMUTATION_SEED).permutation(PIXELS)
        self.order = torch.from_numpy(shuffled) if order == "permuted" else None

    @cached_property
    def _splits(self) -> dict[str, tuple[Tensor, Tensor]]:
        return _splits(self.tables)

    def size(self, split: str) -> int:
        """Number of images in a split."""
        return len(self._splits[split][1])

    def examples(self, split: str, rows: Tensor, length: int) -> Batch:
        """The images at these rows."""
        images, labels = self._splits[split]
        pixels = images[rows] if self.order is None else images[rows][:, self.order]
        return Batch(
            inputs=pixels.float().div_(255).view(len(rows), length, self.input_size),
            targets=labels[rows],
            mask=only_last(len(rows), length),
        )

    def valid(self, length: int) -> bool:
        """Images have one size."""
        return length == self.length

    def answers(self, split: str) -> Tensor:
        """Every class that is asked for in a split."""
        return self._splits[split][1]


@lru_cache(maxsize=2)
def _splits(tables: Tables) -> dict[str, tuple[Tensor, Tensor]]:
    """Split → grey values (N, 784) uint8 and labels (N,), each split in its fixed order."""
    train, test = (_read(tables, split) for split in ("train", "test"))
    images, labels = train
    return {
        "train": (images[VALIDATION:], labels[VALIDATION:]),
        "validation": (images[:VALIDATION], labels[:VALIDATION]),
        "test": test,
    }


def _read(tables: Tables, split: str) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(real.grey_images(tables, split, "image", SIDE))
    labels = torch.tensor(real.class_numbers(tables.read(split, "label")[0]))
    order = torch.from_numpy(np.random.RandomState(SPLIT_SEED).permutation(len(labels)))
    return images[order].flatten(1), labels[order]
