"""Vocabularies, encoded texts, padding, buckets and the cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goldfish.data import text
from goldfish.data.text import Ragged
from goldfish.tasks.base import BEGIN, END, PAD, UNKNOWN

sequences = st.lists(st.lists(st.integers(1, 50), max_size=9), min_size=1, max_size=8)


def test_the_special_numbers_come_first() -> None:
    tokenizer = text.train(["a b"], "words", size=10)
    assert [tokenizer.token_to_id(word) for word in text.SPECIAL] == [PAD, UNKNOWN, BEGIN, END]


def test_words_by_hand() -> None:
    tokenizer = text.train(["A fine film.", "a FINE mess<br />a"], "words", size=100, min_count=2)
    a, fine = (tokenizer.token_to_id(word) for word in ("a", "fine"))
    assert tokenizer.get_vocab_size() == 6  # four special ones; film, mess and the stop come once
    found = text.encode(tokenizer, ["Fine, a film!", "a<br />a"], "words")
    assert [row.tolist() for row in (found[0], found[1])] == [[fine, UNKNOWN, a, UNKNOWN, UNKNOWN], [a, a]]


def test_the_commonest_words_are_kept() -> None:
    tokenizer = text.train(["a a a b b c"], "words", size=6)
    assert set(tokenizer.get_vocab()) == {*text.SPECIAL, "a", "b"}


def test_pieces_give_the_text_again() -> None:
    sentences = ["Le chat dort bien.", "Tu es où ?", "Elle dort."] * 3
    tokenizer = text.train(sentences, "bpe", size=60)
    for sentence, row in zip(
        sentences, map(text.encode(tokenizer, sentences, "bpe").__getitem__, range(9)), strict=True
    ):
        assert tokenizer.decode(row.tolist()) == sentence


@given(sequences, st.integers(1, 12), st.booleans())
def test_padding(rows: list[list[int]], steps: int, last: bool) -> None:
    ragged = Ragged.of(rows)
    found = ragged.padded(torch.arange(len(rows)), steps, last=last)
    cut = [row[-steps:] if last else row[:steps] for row in rows]
    assert found.tolist() == [row + [0] * (steps - len(row)) for row in cut]
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert [ragged.take(torch.tensor([i]))[0].tolist() for i in range(len(rows))] == rows


@given(st.lists(st.integers(0, 90), min_size=1, max_size=200), st.integers(1, 60))
def test_buckets(lengths: list[int], longest: int) -> None:
    found = text.buckets(torch.tensor(lengths), longest)
    assert len(found) <= text.BUCKETS
    assert sorted(torch.cat([rows for _, rows in found]).tolist()) == list(range(len(lengths)))
    assert [steps for steps, _ in found] == sorted({steps for steps, _ in found})
    for steps, rows in found:
        cut = [max(1, min(lengths[row], longest)) for row in rows.tolist()]
        assert max(cut) == steps, "as long as its longest, and no longer"


def test_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("GOLDFISH_CACHE_DIR", str(tmp_path))
    made = []

    def build() -> text.Arrays:
        made.append(1)
        return text.ragged_arrays("words", Ragged.of([[4, 5], [], [6]])) | {"names": np.array(["a", "bé"])}

    for _ in range(2):
        found = text.cached({"content": "x"}, build)
        assert text.ragged_from(found, "words").values.tolist() == [4, 5, 6]
        assert found["names"].tolist() == ["a", "bé"]
    assert len(made) == 1
    text.cached({"content": "y"}, build)
    assert len(made) == 2
    (first, _) = sorted((tmp_path / "text").iterdir())
    assert first.suffix == ".npz"
    whole = first.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:90] + bytes([whole[90] ^ 1]) + whole[91:]):
        for file in (tmp_path / "text").iterdir():
            file.write_bytes(damaged)
        count = len(made)
        assert text.ragged_from(text.cached({"content": "x"}, build), "words").values.tolist() == [4, 5, 6]
        assert len(made) == count + 1
        assert "is damaged and made again" in caplog.text
    assert not list((tmp_path / "text").glob("*.tmp"))


@given(st.lists(st.text()))
def test_texts_survive_the_cache(texts: list[str]) -> None:
    assert text.texts_from(text.texts_arrays("a", texts), "a") == texts


def test_no_pickle_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDFISH_CACHE_DIR", str(tmp_path))
    text.cached({"content": "x"}, lambda: {"a": np.arange(3)})
    (file,) = (tmp_path / "text").iterdir()
    with file.open("wb") as opened:
        np.savez(opened, a=np.array([{"no": "number"}], dtype=object))
    assert text.cached({"content": "x"}, lambda: {"a": np.arange(4)})["a"].tolist() == [0, 1, 2, 3]


def test_a_tokenizer_survives_the_cache() -> None:
    tokenizer = text.train(["the cat", "the dog"], "bpe", size=40)
    assert text.unpacked(text.packed(tokenizer)).get_vocab() == tokenizer.get_vocab()
