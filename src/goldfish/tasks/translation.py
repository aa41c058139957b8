"""Translation: a sentence in, a sentence in another language out, word by word (Sutskever et al. 2014)."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from goldfish import data as real
from goldfish import text
from goldfish.bounds import at_least, between
from goldfish.errors import ConfigError
from goldfish.tasks.base import END, PAD, Batch, StoredTask
from goldfish.text import Ragged

HUB_IDS = {"tatoeba_en_fr": None, "opus_books_en_fr": "Helsinki-NLP/opus_books:en-fr", "multi30k_en_de": None}
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
    made from the training split. Pairs with more than `length` pieces on either side are left out of every split.

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
        ConfigError: on first use, when neither hub nor folder is reachable.
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
        length: Annotated[int, at_least(2)] = 24,
        vocabulary: Annotated[int, between(64, 65536)] = 8000,
        pairs: Annotated[int, at_least(0)] = 0,
    ) -> None:
        languages = ("digits", "words") if dataset == "numerals" else dataset.split("_")[-2:]
        self.length = length
        self._given = (dataset, data, source or languages[0], target or languages[1], length, vocabulary, pairs)

    @property
    def _encoded(self) -> _Encoded:
        return _encoded(*self._given)

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

    def examples(self, split: str, rows: Tensor, length: int) -> Batch:
        """The pairs at these rows, both sides in T = length steps."""
        targets = self._encoded.targets[split].padded(rows, length)
        return Batch(self._encoded.sources[split].padded(rows, length), targets, targets != PAD)

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
        found: str = tokenizer.decode([piece for piece in kept if piece != PAD])
        return found

    def scores(self, predictions: Tensor, batch: Batch) -> dict[str, float]:
        """bleu and chrf of sacrebleu over the corpus, 0 … 100; exact: the share of sentences that are right."""
        from sacrebleu import corpus_bleu, corpus_chrf

        found, wanted = ([self.text("target", row) for row in rows] for rows in (predictions, batch.targets))
        exact = sum(a == b for a, b in zip(found, wanted, strict=True)) / len(wanted)
        bleu, chrf = corpus_bleu(found, [wanted]), corpus_chrf(found, [wanted])
        return {"bleu": float(bleu.score), "chrf": float(chrf.score), "exact": exact}


class _Encoded(NamedTuple):
    sources: dict[str, Ragged]
    targets: dict[str, Ragged]
    tokenizers: tuple[Any, Any]


@cache
def _encoded(
    dataset: str, folder: str | None, source: str, target: str, length: int, vocabulary: int, pairs: int
) -> _Encoded:
    content = real.content_hash({"name": "translation", "dataset": dataset, "data": folder})
    given = {"dataset": dataset, "source": source, "target": target, "vocabulary": vocabulary}
    kind: text.Kind = "tokens" if dataset == "numerals" else "bpe"

    def build() -> text.Arrays:
        read = _numerals() if dataset == "numerals" else {s: _read(dataset, folder, s, source, target) for s in SPLITS}
        arrays: text.Arrays = {}
        for side, name in enumerate(("sources", "targets")):
            given = read["train"][side]
            seen = [word for words in given for word in words] if kind == "tokens" else given
            tokenizer = text.train(seen, kind, size=vocabulary, min_count=2)
            arrays[name] = text.packed(tokenizer)
            for split, sides in read.items():
                arrays |= text.ragged_arrays(f"{name}.{split}", text.encode(tokenizer, sides[side], kind))
        return arrays

    arrays = text.cached({"task": "translation", "content": content, **given}, build)
    sources, targets = {}, {}
    for split in SPLITS:
        read, written = (text.ragged_from(arrays, f"{name}.{split}") for name in ("sources", "targets"))
        short = (read.lengths <= length) & (written.lengths < length) & (read.lengths > 0) & (written.lengths > 0)
        rows = short.nonzero().squeeze(1)
        rows = rows[:pairs] if pairs and split == "train" else rows
        sources[split] = read.take(rows)
        targets[split] = Ragged.of([[*written[row].tolist(), END] for row in rows.tolist()])
    return _Encoded(sources, targets, (text.unpacked(arrays["sources"]), text.unpacked(arrays["targets"])))


Pairs = tuple[list[Any], list[Any]]


def _read(dataset: str, folder: str | None, split: str, source: str, target: str) -> Pairs:
    """Both sides of a split."""
    files = real.parquet_files(HUB_IDS[dataset], folder, dataset)
    if split not in files:
        raise ConfigError(
            f"task.dataset={dataset}: no parquet file of the split '{split}'; expected {', '.join(SPLITS)}"
        )
    from pyarrow import parquet

    names = parquet.read_schema(files[split][0]).names
    if "translation" not in names:
        table = real.load(HUB_IDS[dataset], folder, split, (source, target), dataset)
        return list(table[source]), list(table[target])
    rows = list(real.load(HUB_IDS[dataset], folder, split, ("translation",), dataset)["translation"])
    for language in (source, target):
        if language not in rows[0]:
            raise ConfigError(f"task.dataset={dataset}: no language '{language}'; expected {' or '.join(rows[0])}")
    return [row[source] for row in rows], [row[target] for row in rows]


def _numerals() -> dict[str, Pairs]:
    """Numbers without repetition, in splits that share none."""
    drawn = np.random.RandomState(NUMERALS_SEED).permutation(LARGEST)[: sum(NUMERALS.values())] + 1
    found, start = {}, 0
    for split, count in NUMERALS.items():
        numbers = drawn[start : start + count].tolist()
        found[split] = ([list(str(number)) for number in numbers], [in_words(number) for number in numbers])
        start += count
    return found


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
