"""Tagging: a tag for every word, such as a part of speech, a slot or a named entity."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge
from torch import Tensor

from goldfish.data import text
from goldfish.data.entity_f1 import entity_f1
from goldfish.data.tables import Tables
from goldfish.data.text import Ragged
from goldfish.tasks.base import Batch, StoredTask

HUB_IDS = {
    "ud_english_ewt": "universal-dependencies/universal_dependencies@refs/convert/parquet:en_ewt",
    "snips_slots": None,
    "wnut_17": "leondz/wnut_17@refs/convert/parquet",
}
COLUMNS = {  # dataset → column → what it holds (data/columns.py): tags of these words, and whether they tell entities
    "ud_english_ewt": {"tokens": ("tokens",), "upos": ("tags", "tokens", False)},
    "snips_slots": {"tokens": ("tokens",), "ner_tags": ("tags", "tokens", True)},
    "wnut_17": {"tokens": ("tokens",), "ner_tags": ("tags", "tokens", True)},
}
ROWS = {
    "ud_english_ewt": {"train": 1, "validation": 1, "test": 1},
    "snips_slots": {"train": 1, "validation": 1, "test": 1},
    "wnut_17": {"train": 1, "validation": 1, "test": 1},
}
SPLITS = ("train", "validation", "test")
SUFFIX = 3  # letters of a word that stand for it, where it has no entry of its own


class Tagging(StoredTask):
    """Tag every word of a sentence; all words are read out.

    By hand (ud_english_ewt): The dog barks . has the targets DET NOUN VERB PUNCT, T = 4.

    Args:
        dataset: ud_english_ewt: 17 parts of speech of 16,622 sentences from the web (Silveira et al. 2014).
            snips_slots: 39 kinds of slots of 14,484 commands to an assistant (Coucke et al. 2018).
            wnut_17: 6 kinds of rare entities of 5,690 short messages (Derczynski et al. 2017). Tags of slots and
            entities follow IOB, IOBES or BILOU.
        data: a folder with the parquet files of that dataset; null takes the hub's.
        length: the longest sentence in words; a longer one is cut after them.
        vocabulary: the most entries that the vocabulary may have.
        min_count: how often a word must come in the training split to have an entry.
        unknown: what stands for a word without an entry. ending: its kind (capital, digit, other) and last three
            letters, where these are common enough. one: UNKNOWN for all.

    Raises:
        ConfigError: on first use, when neither hub nor folder is reachable, a sentence has no words or another number
            of tags, or a tag is no class or follows no known scheme.
    """

    tokens = True
    variable_length = True
    readout = "every"
    has_lag = False

    def __init__(
        self,
        *,
        dataset: Literal["ud_english_ewt", "snips_slots", "wnut_17"] = "ud_english_ewt",
        data: str | None = None,
        length: Annotated[int, Ge(1)] = 160,
        vocabulary: Annotated[int, Ge(5)] = 20_000,
        min_count: Annotated[int, Ge(1)] = 2,
        unknown: Literal["ending", "one"] = "ending",
    ) -> None:
        self.length, self.dataset = length, dataset
        self.reads = {"name": "tagging", "dataset": dataset, "data": data}
        self._given = (dataset, vocabulary, min_count, unknown)

    @cached_property
    def _encoded(self) -> _Encoded:
        return _encoded(self.tables, *self._given)

    @property
    def input_size(self) -> int:  # type: ignore[override]
        """Entries of the vocabulary."""
        return self._encoded.vocabulary

    @property
    def output_size(self) -> int:  # type: ignore[override]
        """Number of tags."""
        return len(self._encoded.names)

    @property
    def names(self) -> tuple[str, ...]:
        """The tags."""
        return self._encoded.names

    def size(self, split: str) -> int:
        """Number of sentences in a split."""
        return len(self._encoded.words[split])

    def examples(self, split: str, rows: Tensor, length: int) -> Batch:
        """The sentences at these rows, in T = length steps."""
        words, tags = self._encoded.words[split], self._encoded.tags[split]
        inside = torch.arange(length) < words.lengths[rows].unsqueeze(1)
        return Batch(inputs=words.padded(rows, length), targets=tags.padded(rows, length), mask=inside)

    def buckets(self) -> list[tuple[int, Tensor]]:
        """Sentences of about equal length."""
        return text.buckets(self._encoded.words["train"].lengths, self.length)

    def answers(self, split: str) -> Tensor:
        """Every class that is asked for in a split."""
        return self._encoded.tags[split].values

    def scores(self, predictions: Tensor, batch: Batch) -> dict[str, float]:
        """entity_f1 of slots and entities; macro_f1 of parts of speech, over those that come."""
        if self.dataset != "ud_english_ewt":
            return {"entity_f1": entity_f1(*(self._named(tags, batch.mask) for tags in (batch.targets, predictions)))}
        from torchmetrics.functional.classification import multiclass_f1_score

        score = multiclass_f1_score(
            predictions[batch.mask], batch.targets[batch.mask], num_classes=self.output_size, average="macro"
        )
        return {"macro_f1": float(score)}

    def _named(self, tags: Tensor, mask: Tensor) -> list[list[str]]:
        return [[self.names[tag] for tag in row[inside].tolist()] for row, inside in zip(tags, mask, strict=True)]


class _Encoded(NamedTuple):
    words: dict[str, Ragged]
    tags: dict[str, Ragged]
    names: tuple[str, ...]
    vocabulary: int


@lru_cache(maxsize=8)
def _encoded(tables: Tables, dataset: str, vocabulary: int, min_count: int, unknown: str) -> _Encoded:
    given = {"dataset": dataset, "vocabulary": vocabulary, "min_count": min_count, "unknown": unknown}

    def build() -> text.Arrays:
        read = {split: tables.read(split, *COLUMNS[dataset]) for split in SPLITS}
        train, names = read["train"][0].to_pylist(), tables.classes("train", list(COLUMNS[dataset])[1])
        endings = [[ending(word) for word in words] for words in train] if unknown == "ending" else []
        seen = [word for words in train for word in words] + [shape for shapes in endings for shape in shapes]
        tokenizer = text.train(seen, "tokens", size=vocabulary, min_count=min_count)
        entries = tokenizer.get_vocab()
        arrays: text.Arrays = {"vocabulary": np.array(tokenizer.get_vocab_size()), "names": np.array(names)}
        for split, (sentences, tags) in read.items():
            known = [
                [word if word.lower() in entries else ending(word) for word in words] for words in sentences.to_pylist()
            ]
            arrays |= text.ragged_arrays(f"{split}.words", text.encode(tokenizer, known, "tokens"))
            arrays |= text.ragged_arrays(f"{split}.tags", Ragged.of(tags.to_pylist()))
        return arrays

    arrays = text.cached({"task": "tagging", "content": tables.content, **given}, build)
    words, tags = (
        {split: text.ragged_from(arrays, f"{split}.{kind}") for split in SPLITS} for kind in ("words", "tags")
    )
    return _Encoded(words, tags, tuple(arrays["names"].tolist()), int(arrays["vocabulary"]))


def ending(word: str) -> str:
    """The token that stands for a rare word, such as "[capital] ing"; no word of a text contains a space."""
    kind = "digit" if any(map(str.isdigit, word)) else "capital" if word[:1].isupper() else "other"
    return f"[{kind}] {word[-SUFFIX:]}".lower()
