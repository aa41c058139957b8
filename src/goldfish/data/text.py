"""Text as numbers: vocabularies made from a training split, encoded texts, and a cache of both.

Numbers 0 … 3 are PAD, UNKNOWN, BEGIN and END in every vocabulary (goldfish.tasks.base). Splitting, counting and merging
is done by the library `tokenizers`.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from goldfish import files

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL = ["[PAD]", "[UNKNOWN]", "[BEGIN]", "[END]"]
FORMAT = 2  # of what is cached: a new one makes every cached text anew
_PART = 1000  # texts that are encoded between two movements of the bar
BUCKETS = 12  # lengths that training batches have, at most
Kind = Literal["words", "tokens", "bpe"]
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Ragged:
    """Sequences of whole numbers of any length, stored one after another.

    Attributes:
        values: (sum of lengths,) int64.
        starts: (n + 1,) int64: sequence i is values[starts[i]:starts[i + 1]].
    """

    values: Tensor
    starts: Tensor

    @staticmethod
    def of(sequences: Iterable[Sequence[int] | np.ndarray]) -> Ragged:
        """Put sequences one after another."""
        rows = [np.asarray(sequence, dtype=np.int64) for sequence in sequences]
        starts = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
        values = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)
        return Ragged(torch.from_numpy(values), torch.from_numpy(starts))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Tensor:
        return self.values[self.starts[index] : self.starts[index + 1]]

    @property
    def lengths(self) -> Tensor:
        """(n,)."""
        return self.starts.diff()

    def take(self, rows: Tensor) -> Ragged:
        """Some of the sequences, in the given order."""
        return Ragged.of([self[row].numpy() for row in rows.tolist()])

    def padded(self, rows: Tensor, steps: int, *, last: bool = False) -> Tensor:
        """The first (or last) `steps` numbers of some sequences, zeros after them: (len(rows), steps)."""
        lengths = self.lengths[rows]
        starts = self.starts[rows] + ((lengths - steps).clamp(min=0) if last else 0)
        offsets = torch.arange(steps)
        inside = offsets < lengths.unsqueeze(1)
        index = torch.where(inside, starts.unsqueeze(1) + offsets, 0)
        return torch.where(inside, self.values[index], 0) if len(self.values) else torch.zeros(len(rows), steps).long()


def buckets(lengths: Tensor, longest: int) -> list[tuple[int, Tensor]]:
    """Group sequences by length, up to a dozen groups of about equal size: (T, rows), T ascending.

    T is the group's greatest length, but `longest` at most: what is longer is cut.
    """
    cut = lengths.clamp(min=1, max=longest)
    shares = torch.arange(1, BUCKETS + 1, dtype=torch.float64) / BUCKETS
    edges = torch.quantile(cut.double(), shares, interpolation="higher").long().unique()
    group = torch.bucketize(cut, edges)
    return [(int(edge), (group == index).nonzero().squeeze(1)) for index, edge in enumerate(edges)]


def train(texts: Iterable[Any], kind: Kind, *, size: int, min_count: int = 1) -> Tokenizer:
    """Make a vocabulary from the texts of a training split.

    Args:
        texts: texts; for kind "tokens" sequences of words.
        kind: words: lower-cased words and marks. tokens: words as they are given, lower-cased. bpe: pieces of words
            (Sennrich et al. 2016) with case; decoding gives the text again.
        size: entries at most, the four special ones included.
        min_count: how often a word (or a pair of pieces) must come.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    options: dict[str, Any] = {
        "vocab_size": size,
        "min_frequency": min_count,
        "special_tokens": SPECIAL,
        "show_progress": False,
    }
    unknown = SPECIAL[1]
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token=unknown))
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        trainer: Any = trainers.BpeTrainer(**options)
    else:
        tokenizer = Tokenizer(models.WordLevel(unk_token=unknown))
        lower: Any = normalizers.Lowercase()
        if kind == "words":
            breaks = normalizers.Replace("<br />", " ")  # line breaks of reviews that were web pages
            lower = normalizers.Sequence([breaks, lower])
            tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer.normalizer = lower
        trainer = trainers.WordLevelTrainer(**options)
    tokenizer.train_from_iterator(_shown(texts, "vocabulary"), trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Sequence[Any], kind: Kind) -> Ragged:
    """Texts as numbers."""
    if kind == "tokens":
        vocabulary = tokenizer.get_vocab()
        unknown = vocabulary[SPECIAL[1]]
        numbers = (
            [vocabulary.get(word.lower(), unknown) for word in words] for words in _shown(texts, "words to numbers")
        )
        return Ragged.of(list(numbers))
    parts = [list(texts[start : start + _PART]) for start in range(0, len(texts), _PART)]
    encoded = (tokenizer.encode_batch(part) for part in _shown(parts, "words to numbers"))
    return Ragged.of([encoding.ids for part in encoded for encoding in part])


def _shown(items: Iterable[Any], what: str) -> Iterable[Any]:
    """The items, with a progress bar on a terminal; a large corpus takes a while, once."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    shown: Iterable[Any] = track(items, what, console=console, transient=True, disable=not console.is_terminal)
    return shown


def cached(settings: Mapping[str, Any], build: Callable[[], Arrays]) -> Arrays:
    """Return what `build` makes, kept in a file whose name is the fingerprint of the settings.

    The settings name everything that it depends on: the data's content hash, and how they are encoded. The library's
    version is added. A file that is damaged is made again.
    """
    import tokenizers

    named = json.dumps({**settings, "format": FORMAT, "tokenizers": tokenizers.__version__}, sort_keys=True)
    name = f"{hashlib.sha256(named.encode()).hexdigest()[:32]}.npz"
    content = files.read_cache("text", name)
    try:
        if content is not None:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile):
        logging.getLogger(__name__).warning("the cache's text/%s is damaged and made again", name)
    made = build()
    archive = io.BytesIO()
    np.savez(archive, allow_pickle=False, **made)
    files.write_cache("text", name, archive.getbuffer())
    return made


def packed(tokenizer: Tokenizer) -> np.ndarray:
    """A tokenizer as an array that a cache can hold."""
    return np.frombuffer(tokenizer.to_str().encode(), dtype=np.uint8)


def unpacked(array: np.ndarray) -> Tokenizer:
    """The inverse of `packed`."""
    from tokenizers import Tokenizer

    return Tokenizer.from_str(array.tobytes().decode())


def ragged_arrays(name: str, sequences: Ragged) -> Arrays:
    """Sequences as arrays that a cache can hold."""
    return {f"{name}.values": sequences.values.numpy().astype(np.int32), f"{name}.starts": sequences.starts.numpy()}


def ragged_from(arrays: Arrays, name: str) -> Ragged:
    """The inverse of `ragged_arrays`."""
    values, starts = (torch.from_numpy(arrays[f"{name}.{part}"].astype(np.int64)) for part in ("values", "starts"))
    return Ragged(values, starts)


def texts_arrays(name: str, texts: Sequence[str]) -> Arrays:
    """Texts as arrays that a cache can hold: their UTF-8, one after another, and where each begins."""
    encoded = [text.encode() for text in texts]
    starts = np.concatenate([[0], np.cumsum([len(own) for own in encoded], dtype=np.int64)])
    return {f"{name}.bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8), f"{name}.starts": starts}


def texts_from(arrays: Arrays, name: str) -> list[str]:
    """The inverse of `texts_arrays`."""
    whole, starts = arrays[f"{name}.bytes"].tobytes(), arrays[f"{name}.starts"].tolist()
    return [whole[start:stop].decode() for start, stop in pairwise(starts)]
