"""Prediction of a text's next character: language models of one text (Karpathy 2015)."""

from __future__ import annotations

import ast
import math
from functools import cached_property, lru_cache
from typing import Annotated, Literal, NamedTuple

import torch
from annotated_types import Ge
from torch import Tensor

from goldfish.data import sources as real
from goldfish.data.tables import Tables
from goldfish.tasks.base import Batch, StoredTask

HUB_IDS = {"tiny_shakespeare": "karpathy/tiny_shakespeare"}
COLUMNS = {"tiny_shakespeare": {"text": ("texts",)}}
ROWS = {"tiny_shakespeare": {"train": 1, "validation": 1, "test": 1}}
SPLITS = ("train", "validation", "test")
FIRST, UNKNOWN = 4, 1  # numbers of characters begin after the four special ones
SHARES = (0.9, 0.95)  # where validation and test split begin, of a text that has none


class Characters(StoredTask):
    """Tell the next character at every step of a window of T = length characters; its predecessors alone are known.

    Training windows begin anywhere in the training split, evaluation windows follow each other. The state is zero at
    the beginning of each: the first characters have little to go on, and count.

    By hand: from the text "to be or" the window of 4 at 0 has the inputs t o _ b and the targets o _ b e.

    Args:
        dataset: tiny_shakespeare: 1.1 million characters of plays. python_docs: the English text of Python's own help,
            0.4 million characters, in every installation of Python.
        data: a folder with the parquet file of that dataset; null takes the hub's.
        length: T.

    Raises:
        ConfigError: on first use, when neither hub nor folder is reachable, or a split is shorter than a window.
    """

    tokens = True
    readout = "every"
    has_lag = False

    def __init__(
        self,
        *,
        dataset: Literal["tiny_shakespeare", "python_docs"] = "tiny_shakespeare",
        data: str | None = None,
        length: Annotated[int, Ge(1)] = 100,
    ) -> None:
        self.length, self.reads = length, {"name": "characters", "dataset": dataset, "data": data}

    @cached_property
    def _encoded(self) -> _Encoded:
        return _encoded(self._stored) if self._stored else _docs()

    @property
    def input_size(self) -> int:  # type: ignore[override]
        """Different characters of the training split, and the four special numbers."""
        return FIRST + len(self._encoded.alphabet)

    @property
    def output_size(self) -> int:  # type: ignore[override]
        """The same as input_size."""
        return self.input_size

    def size(self, split: str) -> int:
        """Windows that follow each other in a split."""
        return (len(self._encoded.splits[split]) - 1) // self.length

    def too_short(self, split: str) -> str:
        """What is wrong with a split that has no window."""
        there, least = len(self._encoded.splits[split]), self.length + 1
        return f"task.length={self.length}: the split '{split}' has {there} characters; expected {least} at least"

    def examples(self, split: str, rows: Tensor, length: int) -> Batch:
        """The windows at these rows; a row's window begins at row · task.length."""
        return self._windows(split, rows * self.length, length)

    def sample(self, n: int, length: int, generator: torch.Generator, split: str = "train") -> Batch:
        """Windows that begin anywhere."""
        starts = torch.randint(len(self._encoded.splits[split]) - length, (n,), generator=generator)
        return self._windows(split, starts, length)

    def _windows(self, split: str, starts: Tensor, length: int) -> Batch:
        pieces = self._encoded.splits[split][starts.unsqueeze(1) + torch.arange(length + 1)]
        return Batch(pieces[:, :-1], pieces[:, 1:], torch.ones(len(starts), length, dtype=torch.bool))

    def valid(self, length: int) -> bool:
        """Windows have one length."""
        return length == self.length

    def answers(self, split: str) -> Tensor:
        """Every class that is asked for in a split."""
        return self._encoded.splits[split]

    def from_loss(self, loss: float) -> dict[str, float]:
        """bits_per_character: the mean cross-entropy in bits."""
        return {"bits_per_character": loss / math.log(2)}

    def text(self, characters: Tensor) -> str:
        """Numbers (n,) as characters; a special number is a question mark."""
        alphabet = self._encoded.alphabet
        return "".join(alphabet[number - FIRST] if number >= FIRST else "?" for number in characters.tolist())


class _Encoded(NamedTuple):
    splits: dict[str, Tensor]
    alphabet: str


@lru_cache(maxsize=4)
def _encoded(tables: Tables) -> _Encoded:
    return _numbered({split: "".join(tables.read(split, "text")[0].to_pylist()) for split in SPLITS})


@lru_cache(maxsize=1)
def _docs() -> _Encoded:
    return _numbered(_python_docs())


def _numbered(texts: dict[str, str]) -> _Encoded:
    alphabet = "".join(sorted(set(texts["train"])))
    numbers = {character: FIRST + index for index, character in enumerate(alphabet)}
    splits = {
        split: torch.tensor([numbers.get(character, UNKNOWN) for character in own]) for split, own in texts.items()
    }
    return _Encoded(splits, alphabet)


def _python_docs() -> dict[str, str]:
    """The text of every topic, one after another by name; 90 %, 5 % and 5 % of it."""
    tree = ast.parse(real.python_docs_file().read_text(encoding="utf-8"))
    (topics,) = (node.value for node in tree.body if isinstance(node, ast.Assign))
    whole = "".join(topic for _, topic in sorted(ast.literal_eval(topics).items()))
    first, second = (round(share * len(whole)) for share in SHARES)
    return {"train": whole[:first], "validation": whole[first:second], "test": whole[second:]}
