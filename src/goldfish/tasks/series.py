"""Real series of any length: whose voice is it?"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor

from goldfish import data as real
from goldfish import text
from goldfish.bounds import at_least
from goldfish.tasks.base import Batch, StoredTask

HUB_IDS = {"japanese_vowels": None}
ORDER_SEED = 1999
HELD_OUT = 54  # of 270 training series: the validation split


class Series(StoredTask):
    """Classify a series of vectors, read at its last step.

    japanese_vowels: nine speakers say two vowels; 12 cepstrum coefficients at 7 to 29 steps (Kudo et al. 1999). 270
    training series, of which a fixed fifth is the validation split, and 370 test series.

    By hand: a series of 20 steps in a batch with T = 29: inputs (29, 12), zeros from step 20 on, read at step 19.

    Args:
        dataset: japanese_vowels.
        data: a folder with its parquet files (columns series, label); the hub has none.
        length: the longest series in steps; a longer one is cut after them.

    Raises:
        ConfigError: on first use, when the folder is not there.
    """

    variable_length = True
    has_lag = False
    input_size, output_size = 12, 9

    def __init__(
        self,
        *,
        dataset: Literal["japanese_vowels"] = "japanese_vowels",
        data: str | None = None,
        length: Annotated[int, at_least(1)] = 29,
    ) -> None:
        self.length, self._given = length, (dataset, data)

    def _split(self, split: str) -> tuple[list[Tensor], Tensor]:
        return _splits(*self._given)[split]

    def size(self, split: str) -> int:
        """Number of series in a split."""
        return len(self._split(split)[1])

    def examples(self, split: str, rows: Tensor, length: int) -> Batch:
        """The series at these rows, in T = length steps."""
        series, labels = self._split(split)
        inputs, mask = torch.zeros(len(rows), length, self.input_size), torch.zeros(len(rows), length, dtype=torch.bool)
        for index, row in enumerate(rows.tolist()):
            cut = series[row][:length]
            inputs[index, : len(cut)], mask[index, len(cut) - 1] = cut, True
        return Batch(inputs, labels[rows], mask)

    def buckets(self) -> list[tuple[int, Tensor]]:
        """Series of about equal length."""
        lengths = torch.tensor([len(row) for row in self._split("train")[0]])
        return text.buckets(lengths, self.length)

    def answers(self, split: str) -> Tensor:
        """Every class that is asked for in a split."""
        return self._split(split)[1]


@cache
def _splits(dataset: str, folder: str | None) -> dict[str, tuple[list[Tensor], Tensor]]:
    series, labels = _read(dataset, folder, "train")
    return {
        "train": (series[HELD_OUT:], labels[HELD_OUT:]),
        "validation": (series[:HELD_OUT], labels[:HELD_OUT]),
        "test": _read(dataset, folder, "test"),
    }


def _read(dataset: str, folder: str | None, split: str) -> tuple[list[Tensor], Tensor]:
    """Series and labels in a fixed order: the stored ones are sorted by speaker."""
    table = real.load(HUB_IDS[dataset], folder, split, ("series", "label"), dataset)
    order = np.random.RandomState(ORDER_SEED).permutation(table.num_rows).tolist()
    rows = [torch.tensor(row, dtype=torch.float32) for row in table["series"]]
    return [rows[index] for index in order], torch.tensor(table["label"][:])[order]
