"""Translation: a sentence in, a sentence in another language out, word by word (Sutskever et al. 2014)."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor

from goldfish.data import text
from goldfish.data.tables import Tables
from goldfish.data.text import Ragged
from goldfish.tasks.base import END, PAD, Batch, StoredTask

HUB_IDS = {"tatoeba_en_fr": None, "opus_books_en_fr": "Helsinki-NLP/opus_books:en-fr", "multi30k_en_de": None}
COLUMNS = {
    "tatoeba_en_fr": {"en": ("texts",), "fr": ("texts",)},
    "opus_books_en_fr": {"en": ("texts",), "fr": ("texts",)},
    "multi30k_en_de": {"en": ("texts",), "de": ("texts",)},
}
CHOOSE = {  # argument → dataset → the column that it puts another one in place of
    "source": {"tatoeba_en_fr": "en", "opus_books_en_fr": "en", "multi30k_en_de": "en"},
    "target": {"tatoeba_en_fr": "fr", "opus_books_en_fr": "fr", "multi30k_en_de": "de"},
}
ROWS = {
    "tatoeba_en_fr": {"train": 1, "validation": 1, "test": 1},
    "opus_books_en_fr": {"train": 1, "validation": 1, "test": 1},
    "multi30k_en_de": {"train": 1, "validation": 1, "test": 1},
}
SPLITS = ("train", "validation", "test")
LARGEST = 999_999  # numeral
NUMERALS = {"train": 16_000, "validation": 2_000, "test": 2_000}
NUMERALS_SEED = 1_000_000
UNITS = (
    *("", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


class Translation(StoredTask):
    """Translate: the source's pieces are read, the target's are decoded one after another, END included.

    Words are cut into pieces (byte-pair encoding, Sennrich et al. 2016), numbered by a vocabulary for each language,
    made from the training split. Pairs with more than `length` pieces on either side, or none, are left out of every
    split. Scores compare with the stored text, of which pieces may lack letters that the training split lacks.

    By hand (numerals): source 4 0 7, target four hundred seven END, T = 4.

    Args:
        dataset: tatoeba_en_fr: 142,787 short sentences and their translations. multi30k_en_de: 31,014 captions.
            opus_books_en_fr: sentences of novels. numerals: whole numbers below a million in digits and in English
            words; made by rule, here, not collected: the one that needs no data.
        data: a folder with parquet files that have a column `translation` with both languages, or a column for each:
            that of the dataset, or of any other pair; null takes the hub's.
        source: the language that is read, such as en; by default the first one in the dataset's name.
        target: the language that is written, such as fr.
        length: the longest sentence in pieces, END included.
        vocabulary: the most entries that each vocabulary may have.
        pairs: training pairs, the first of the split in its fixed order; 0 takes all.

    Raises:
        ConfigError: on first use, when neither hub nor folder is reachable, a column is missing or holds no texts, or
            every pair of a split is too long.
    """

    tokens = True
    variable_length = True
    readout = "decoded"
    has_lag = False

    def __init__(
        self,
        *,
        dataset: Literal["tatoeba_en_fr", "opus_books_en_fr", "multi30k_en_de", "numerals"] = "tatoeba_en_fr",
        data: str | None = None,
        source: str | None = None,
        target: str | None = None,
        length: Annotated[int, Ge(2)] = 24,
        vocabulary: Annotated[int, Interval(ge=64, le=65536)] = 8000,
        pairs: Annotated[int, Ge(0)] = 0,
    ) -> None:
        languages = ("digits", "words") if dataset == "numerals" else dataset.split("_")[-2:]
        self.length = length
        self.reads = {"name": "translation", "dataset": dataset, "data": data, "source": source, "target": target}
        self._given = (dataset, source or languages[0], target or languages[1], length, vocabulary, pairs)

    @cached_property
    def _encoded(self) -> _Encoded:
        return _encoded(self._stored, *self._given)

    @property
    def input_size(self) -> int:  # type: ignore[override]
        """Entries of the source's vocabulary."""
        return int(self._encoded.tokenizers[0].get_vocab_size())

    @property
    def output_size(self) -> int:  # type: ignore[override]
        """Entries of the target's vocabulary."""
        return int(self._encoded.tokenizers[1].get_vocab_size())

    def size(self, split: str) -> int:
        """Number of pairs in a split."""
        return len(self._encoded.sources[split])

    def too_short(self, split: str) -> str:
        """What is wrong with a split of which no pair is left."""
        return f"task.length={self.length}: every pair of the split '{split}' is longer; expected a greater length"

    def examples(self, split: str, rows: Tensor, length: int) -> Batch:
        """The pairs at these rows, both sides in T = length steps."""
        targets = self._encoded.targets[split].padded(rows, length)
        return Batch(self._encoded.sources[split].padded(rows, length), targets, targets != PAD)

    def evaluation(self, split: str, length: int, n: int) -> Batch:
        """The evaluation set of a stored task, in which each pair knows its stored text."""
        batch = super().evaluation(split, length, n)
        begin = self.size("validation") if split == "test" else 0
        return replace(batch, stored=begin + torch.arange(len(batch.inputs)))

    def buckets(self) -> list[tuple[int, Tensor]]:
        """Pairs whose longer side is about equally long."""
        sides = (self._encoded.sources["train"].lengths, self._encoded.targets["train"].lengths)
        return text.buckets(torch.maximum(*sides), self.length)

    def answers(self, split: str) -> Tensor:
        """Every class that is asked for in a split."""
        return self._encoded.targets[split].values

    def text(self, side: Literal["source", "target"], pieces: Tensor) -> str:
        """Pieces (T,) up to END as text."""
        tokenizer = self._encoded.tokenizers[side == "target"]
        kept = pieces.tolist()
        kept = kept[: kept.index(END)] if END in kept else kept
        if self._given[0] == "numerals":
            return " ".join(tokenizer.id_to_token(piece) for piece in kept if piece != PAD)
        decoded: str = tokenizer.decode([piece for piece in kept if piece != PAD])
        return decoded

    def scores(self, predictions: Tensor, batch: Batch) -> dict[str, float]:
        """bleu and chrf of sacrebleu over the corpus, 0 … 100; exact: the share of sentences that are right.

        `batch` is an evaluation set or a part of one: its pairs know their stored text.
        """
        from sacrebleu import corpus_bleu, corpus_chrf

        if batch.stored is None:
            raise ValueError("only the sets of Translation.evaluation know the text that scores compare with")
        written = [self.text("target", row) for row in predictions]
        wanted = [self._encoded.references[row] for row in batch.stored.tolist()]
        exact = sum(a == b for a, b in zip(written, wanted, strict=True)) / len(wanted)
        bleu, chrf = corpus_bleu(written, [wanted]), corpus_chrf(written, [wanted])
        return {"bleu": float(bleu.score), "chrf": float(chrf.score), "exact": exact}


class _Encoded(NamedTuple):
    sources: dict[str, Ragged]
    targets: dict[str, Ragged]
    tokenizers: tuple[Any, Any]
    references: list[str]  # the stored targets of the validation split, then those of the test split


@lru_cache(maxsize=8)
def _encoded(
    tables: Tables | None, dataset: str, source: str, target: str, length: int, vocabulary: int, pairs: int
) -> _Encoded:
    content = tables.content if tables else None
    given = {"dataset": dataset, "source": source, "target": target, "vocabulary": vocabulary}
    kind: text.Kind = "tokens" if dataset == "numerals" else "bpe"

    def build() -> text.Arrays:
        read = {split: _read(tables, split, source, target) for split in SPLITS} if tables else _numerals()
        arrays: text.Arrays = {}
        for side, name in enumerate(("sources", "targets")):
            given = read["train"][side]
            seen = [word for words in given for word in words] if kind == "tokens" else given
            tokenizer = text.train(seen, kind, size=vocabulary, min_count=2)
            arrays[name] = text.packed(tokenizer)
            for split, sides in read.items():
                arrays |= text.ragged_arrays(f"{name}.{split}", text.encode(tokenizer, sides[side], kind))
        for split in SPLITS[1:]:
            written = read[split][1]
            plain = [" ".join(words) for words in written] if kind == "tokens" else written
            arrays |= text.texts_arrays(f"references.{split}", plain)
        return arrays

    arrays = text.cached({"task": "translation", "content": content, **given}, build)
    sources, targets, references = {}, {}, []
    for split in SPLITS:
        read, written = (text.ragged_from(arrays, f"{name}.{split}") for name in ("sources", "targets"))
        short = (read.lengths <= length) & (written.lengths < length) & (read.lengths > 0) & (written.lengths > 0)
        rows = short.nonzero().squeeze(1)
        rows = rows[:pairs] if pairs and split == "train" else rows
        sources[split] = read.take(rows)
        targets[split] = Ragged.of([[*written[row].tolist(), END] for row in rows.tolist()])
        if split != "train":
            plain = text.texts_from(arrays, f"references.{split}")
            references += [plain[row] for row in rows.tolist()]
    tokenizers = (text.unpacked(arrays["sources"]), text.unpacked(arrays["targets"]))
    return _Encoded(sources, targets, tokenizers, references)


Pairs = tuple[list[Any], list[Any]]


def _read(tables: Tables, split: str, source: str, target: str) -> Pairs:
    """Both sides of a split."""
    read, written = tables.read(split, source, target)
    return read.to_pylist(), written.to_pylist()


def _numerals() -> dict[str, Pairs]:
    """Numbers without repetition, in splits that share none."""
    drawn = np.random.RandomState(NUMERALS_SEED).permutation(LARGEST)[: sum(NUMERALS.values())] + 1
    pairs, start = {}, 0
    for split, count in NUMERALS.items():
        numbers = drawn[start : start + count].tolist()
        pairs[split] = ([list(str(number)) for number in numbers], [in_words(number) for number in numbers])
        start += count
    return pairs


def in_words(number: int) -> list[str]:
    """A number from 1 to 999,999 in English words."""
    if number >= 1000:
        rest = number % 1000
        return [*in_words(number // 1000), "thousand", *(in_words(rest) if rest else [])]
    if number >= 100:
        rest = number % 100
        return [UNITS[number // 100], "hundred", *(in_words(rest) if rest else [])]
    if number >= 20:
        return [TENS[number // 10], *([UNITS[number % 10]] if number % 10 else [])]
    return [UNITS[number]]
