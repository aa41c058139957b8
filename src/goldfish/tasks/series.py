"""Classification of real series of any length, such as the voices of nine speakers."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from goldfish.data import sources as real
from goldfish.data import text
from goldfish.data.tables import Tables
from goldfish.tasks.base import Batch, StoredTask

HUB_IDS = {"japanese_vowels": None}
COLUMNS = {"japanese_vowels": {"series": ("steps", 12), "label": ("classes", 9)}}
ROWS = {"japanese_vowels": {"train": 55, "test": 1}}  # HELD_OUT and one more
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
        ConfigError: on first use, when the folder is not there, a series is empty, a number in it is not finite, or a
            label is no class.
    """

    variable_length = True
    has_lag = False
    input_size, output_size = 12, 9

    def __init__(
        self,
        *,
        dataset: Literal["japanese_vowels"] = "japanese_vowels",
        data: str | None = None,
        length: Annotated[int, Ge(1)] = 29,
    ) -> None:
        self.length, self.reads = length, {"name": "series", "dataset": dataset, "data": data}

    @cached_property
    def _splits(self) -> dict[str, tuple[list[Tensor], Tensor]]:
        return _splits(self.tables)

    def _split(self, split: str) -> tuple[list[Tensor], Tensor]:
        return self._splits[split]

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


@lru_cache(maxsize=8)
def _splits(tables: Tables) -> dict[str, tuple[list[Tensor], Tensor]]:
    series, labels = _read(tables, "train")
    return {
        "train": (series[HELD_OUT:], labels[HELD_OUT:]),
        "validation": (series[:HELD_OUT], labels[:HELD_OUT]),
        "test": _read(tables, "test"),
    }


def _read(tables: Tables, split: str) -> tuple[list[Tensor], Tensor]:
    """Series and labels in a fixed order: the stored ones are sorted by speaker."""
    series, labels = tables.read(split, "series", "label")
    order = np.random.RandomState(ORDER_SEED).permutation(len(labels)).tolist()
    rows = [torch.tensor(row, dtype=torch.float32) for row in series.to_pylist()]
    return [rows[index] for index in order], torch.tensor(real.class_numbers(labels))[order]
