"""Sentiment of sentences and reviews, word by word (Pang & Lee 2005; Socher et al. 2013; Maas et al. 2011)."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from goldfish.data import sources as real
from goldfish.data import text
from goldfish.data.tables import Tables
from goldfish.data.text import Ragged
from goldfish.errors import ConfigError
from goldfish.tasks.base import PAD, Batch, StoredTask

HUB_IDS = {
    "rotten_tomatoes": "cornell-movie-review-data/rotten_tomatoes",
    "sst2": "stanfordnlp/sst2",
    "imdb": "stanfordnlp/imdb",
}
COLUMNS = {  # dataset → column → what it holds (goldfish.data.columns)
    "rotten_tomatoes": {"text": ("words",), "label": ("classes", 2)},
    "sst2": {"sentence": ("words",), "label": ("classes", 2)},
    "imdb": {"text": ("words",), "label": ("classes", 2)},
}
ROWS = {  # dataset → split → the fewest rows; HELD_OUT and one more of imdb's training reviews
    "rotten_tomatoes": {"train": 1, "validation": 1, "test": 1},
    "sst2": {"train": 1, "validation": 1, "test": 1},
    "imdb": {"train": 2501, "test": 1},
}
SPLITS = ("train", "validation", "test")
ORDER_SEED = 20_051_231  # the stored sets are sorted by label
HELD_OUT = 2500  # of imdb's training reviews: it has no validation split


class Sentiment(StoredTask):
    """Is the text for or against? Two classes, read after its last word.

    Words and marks in lower case are numbered by the training split's vocabulary; every other word is UNKNOWN. Each
    split is in one fixed, shuffled order. imdb's validation split is 2,500 reviews of its training split.

    By hand (delay=2): "a fine film ." becomes w(a) w(fine) w(film) w(.) x y, target 1, T = 6; x and y are filler words
    and the lag is 2.

    Args:
        dataset: rotten_tomatoes: 10,662 sentences. sst2: 70,042 phrases. imdb: 50,000 reviews.
        data: a folder with the parquet files of that dataset; null takes the hub's.
        length: the longest sequence in words, filler included; of a longer text the last words are kept.
        vocabulary: the most entries that the vocabulary may have.
        min_count: how often a word must come in the training split to have an entry.
        shuffle_words: whether each text's words stand in a random order of its own, the same in every run: what is
            left is their counts.
        delay: after each text come 0 … delay filler words, drawn like the training split's words without regard to
            sense, each number equally often; their number is the lag.

    Raises:
        ConfigError: when filler leaves no room for the text; on first use, when neither hub nor folder is reachable,
            a text is empty, or a label is none of the two classes, as hidden ones of a test split are.
    """

    tokens = True
    variable_length = True

    def __init__(
        self,
        *,
        dataset: Literal["rotten_tomatoes", "sst2", "imdb"] = "rotten_tomatoes",
        data: str | None = None,
        length: Annotated[int, Ge(1)] = 60,
        vocabulary: Annotated[int, Ge(5)] = 20_000,
        min_count: Annotated[int, Ge(1)] = 2,
        shuffle_words: bool = False,
        delay: Annotated[int, Ge(0)] = 0,
    ) -> None:
        if delay >= length:
            raise ConfigError(f"task.delay={delay}: leaves nothing of task.length={length}; expected less")
        self.length, self.delay = length, delay
        self.has_lag = delay > 0  # type: ignore[misc]
        self.reads = {"name": "sentiment", "dataset": dataset, "data": data}
        self._given = (dataset, vocabulary, min_count)
        self._shaped = (length, shuffle_words, delay)
        self.output_size = 2

    @property
    def input_size(self) -> int:  # type: ignore[override]
        """Entries of the vocabulary."""
        return _encoded(self.tables, *self._given).vocabulary

    @cached_property
    def _splits(self) -> dict[str, _Split]:
        return _splits(self.tables, self._given, self._shaped)

    def _split(self, split: str) -> _Split:
        return self._splits[split]

    def size(self, split: str) -> int:
        """Number of texts in a split."""
        return len(self._split(split).labels)

    def examples(self, split: str, rows: Tensor, length: int) -> Batch:
        """The texts at these rows, in T = length steps."""
        stored = self._split(split)
        words = stored.words.padded(rows, length)
        ends = (words != PAD).sum(1, keepdim=True) - 1
        return Batch(
            inputs=words,
            targets=stored.labels[rows],
            mask=torch.arange(words.shape[1]) == ends,
            lag=stored.lags[rows] if self.delay else None,
        )

    def buckets(self) -> list[tuple[int, Tensor]]:
        """Texts of about equal length."""
        return text.buckets(self._split("train").words.lengths, self.length)

    def answers(self, split: str) -> Tensor:
        """Every class that is asked for in a split."""
        return self._split(split).labels

    def scores(self, predictions: Tensor, batch: Batch) -> dict[str, float]:
        """macro_f1: the mean of the two classes' F1."""
        from torchmetrics.functional.classification import multiclass_f1_score

        return {"macro_f1": float(multiclass_f1_score(predictions, batch.targets, num_classes=2, average="macro"))}


class _Split(NamedTuple):
    words: Ragged
    labels: Tensor
    lags: Tensor


class _Encoded(NamedTuple):
    """Words and labels of each split, and the vocabulary's size."""

    splits: dict[str, tuple[Ragged, Tensor]]
    vocabulary: int


@lru_cache(maxsize=8)
def _splits(tables: Tables, given: tuple[Any, ...], shaped: tuple[int, bool, int]) -> dict[str, _Split]:
    """The splits as they are read: cut, put in disorder, followed by filler."""
    encoded, (length, shuffle_words, delay) = _encoded(tables, *given), shaped
    common = encoded.splits["train"][0].values
    splits = {}
    for index, (split, (words, labels)) in enumerate(encoded.splits.items()):
        random = np.random.RandomState(ORDER_SEED + index)
        lags = random.randint(0, delay + 1, len(words))
        rows = []
        for row, lag in enumerate(lags):
            kept = words[row][-(length - delay) :].numpy()
            kept = random.permutation(kept) if shuffle_words else kept
            rows.append(np.concatenate([kept, common[random.randint(0, len(common), lag)]]))
        splits[split] = _Split(Ragged.of(rows), labels, torch.from_numpy(lags))
    return splits


@lru_cache(maxsize=8)
def _encoded(tables: Tables, dataset: str, vocabulary: int, min_count: int) -> _Encoded:
    """Read, numbered, in the splits' fixed order; kept in the cache."""
    settings = {"task": "sentiment", "dataset": dataset, "vocabulary": vocabulary, "min_count": min_count}

    def build() -> text.Arrays:
        read = {split: _read(tables, dataset, split) for split in SPLITS}
        tokenizer = text.train(read["train"][0], "words", size=vocabulary, min_count=min_count)
        arrays: text.Arrays = {"vocabulary": np.array(tokenizer.get_vocab_size())}
        for split, (texts, labels) in read.items():
            arrays |= text.ragged_arrays(split, text.encode(tokenizer, texts, "words"))
            arrays[f"{split}.labels"] = np.array(labels)
        return arrays

    arrays = text.cached(settings | {"content": tables.content}, build)
    splits = {split: (text.ragged_from(arrays, split), torch.from_numpy(arrays[f"{split}.labels"])) for split in SPLITS}
    return _Encoded(splits, int(arrays["vocabulary"]))


def _read(tables: Tables, dataset: str, split: str) -> tuple[list[str], list[int]]:
    """Texts and labels of a split, shuffled."""
    held_out = dataset == "imdb" and split != "test"
    columns = tables.read("train" if held_out else split, *COLUMNS[dataset])
    texts, labels = columns[0].to_pylist(), real.class_numbers(columns[1]).tolist()
    order = np.random.RandomState(ORDER_SEED).permutation(len(labels)).tolist()
    if held_out:
        order = order[:HELD_OUT] if split == "validation" else order[HELD_OUT:]
    return [texts[row] for row in order], [labels[row] for row in order]
