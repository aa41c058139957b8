"""Tasks on text by hand, from small tables with the columns of the real ones."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import sacrebleu
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from sklearn.metrics import f1_score

from goldfish.errors import ConfigError
from goldfish.tasks.base import END, PAD, UNKNOWN
from goldfish.tasks.characters import Characters
from goldfish.tasks.sentiment import Sentiment
from goldfish.tasks.series import Series
from goldfish.tasks.tagging import Tagging, ending
from goldfish.tasks.translation import Translation, in_words

SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOLDFISH_CACHE_DIR", str(tmp_path / "cache"))


def write(folder: Path, **splits: dict[str, Any]) -> str:
    folder.mkdir(exist_ok=True)
    for split, columns in splits.items():
        parquet.write_table(pa.table(columns), folder / f"{split}.parquet")
    return str(folder)


@pytest.fixture
def reviews(tmp_path: Path) -> str:
    texts = {
        "train": (["a fine film", "a bad film", "fine", "bad bad"], [1, 0, 1, 0]),
        "validation": (["a fine surprise"], [1]),
        "test": (["a bad surprise surprise", "fine"], [0, 1]),
    }
    made: dict[str, Any] = {split: {"text": rows, "label": labels} for split, (rows, labels) in texts.items()}
    return write(tmp_path / "reviews", **made)


def test_the_vocabulary_never_sees_validation_or_test(reviews: str) -> None:
    task = Sentiment(data=reviews, min_count=1, length=5)
    assert task.input_size == 4 + 4  # a, fine, film, bad
    test = task.evaluation("test", 5, 2)
    by_label = dict(zip(test.targets.tolist(), test.inputs.tolist(), strict=True))
    assert by_label[0][2:] == [UNKNOWN, UNKNOWN, PAD]
    assert by_label[1][1:] == [PAD] * 4


def test_a_sentence_by_hand(reviews: str) -> None:
    task = Sentiment(data=reviews, min_count=1, length=3)
    rows = task.examples("train", torch.arange(4), 3)
    numbered = {tuple(row): target for row, target in zip(rows.inputs.tolist(), rows.targets.tolist(), strict=True)}
    a, fine, film, bad = (next(iter(key)) for key in [(4,), (5,), (6,), (7,)])
    assert sorted(map(len, numbered)) == [3] * 4
    assert {sum(word != PAD for word in row) for row in numbered} == {1, 2, 3}
    assert {a, fine, film, bad} == {word for row in numbered for word in row} - {PAD}
    assert rows.mask.sum(1).tolist() == [1] * 4
    assert rows.lag is None
    ends = [row.index(PAD) - 1 if PAD in row else 2 for row in rows.inputs.tolist()]
    assert rows.mask.int().argmax(1).tolist() == ends


def test_a_long_text_keeps_its_last_words(reviews: str) -> None:
    whole, cut = (Sentiment(data=reviews, min_count=1, length=length) for length in (4, 2))
    rows = [task.evaluation("test", task.length, 2).inputs.tolist() for task in (whole, cut)]
    assert [[w for w in row if w][-2:] for row in rows[0]] == [[w for w in row if w] for row in rows[1]]


def test_shuffled_words_are_the_same_words(reviews: str) -> None:
    task, shuffled = (Sentiment(data=reviews, min_count=1, length=5, shuffle_words=on) for on in (False, True))
    every = torch.arange(4)
    one, other = (t.examples("train", every, 5).inputs for t in (task, shuffled))
    assert torch.equal(one.sort(1).values, other.sort(1).values)
    assert torch.equal(
        other, Sentiment(data=reviews, min_count=1, length=5, shuffle_words=True).examples("train", every, 5).inputs
    )


def test_filler_follows_and_its_number_is_the_lag(tmp_path: Path) -> None:
    texts = {split: {"text": ["one two three"] * 300, "label": [0, 1] * 150} for split in SPLITS}
    task = Sentiment(data=write(tmp_path / "many", **texts), min_count=1, length=8, delay=4)
    batch = task.examples("train", torch.arange(300), 8)
    assert batch.lag is not None
    assert task.has_lag
    assert (batch.inputs[:, :3] == batch.inputs[0, :3]).all()
    assert torch.equal(batch.lengths() - 3, batch.lag)
    assert sorted(batch.lag.unique().tolist()) == [0, 1, 2, 3, 4]
    assert batch.lag.bincount().min() > 300 / 5 - 4 * math.sqrt(300 * 0.2 * 0.8)
    with pytest.raises(ConfigError, match=r"task.delay=8: leaves nothing of task.length=8"):
        Sentiment(data=str(tmp_path / "many"), length=8, delay=8)


def test_macro_f1_is_scikit_learns() -> None:
    targets, found = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([0, 1, 0, 0, 0])
    batch = type("Batch", (), {"targets": targets})()
    assert Sentiment().scores(found, batch)["macro_f1"] == pytest.approx(f1_score(targets, found, average="macro"))


def tags(tmp_path: Path, words: dict[str, list[list[str]]], column: str, names: list[str]) -> str:
    import datasets

    folder = tmp_path / column
    folder.mkdir()
    kind = datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), column: datasets.List(datasets.ClassLabel(names=names))}
    )
    for split, sentences in words.items():
        rows = {"tokens": sentences, column: [[len(word) % len(names) for word in row] for row in sentences]}
        datasets.Dataset.from_dict(rows, features=kind).to_parquet(folder / f"{split}.parquet")
    return str(folder)


def test_tagging_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    words = {
        "train": [["The", "dog", "the", "dog"], ["Dogs"]],
        "validation": [["Cats"]],
        "test": [["the", "Frogs", "bark"]],
    }
    folder = tags(tmp_path, words, "upos", ["X", "Y", "Z"])
    task = Tagging(data=folder, min_count=1, length=4)
    batch = task.evaluation("test", 4, 1)
    assert task.names == ("X", "Y", "Z")
    assert batch.targets.tolist() == [[0, 2, 1, 0]]
    assert batch.mask.tolist() == [[True, True, True, False]]
    the, frogs, bark, _ = batch.inputs[0].tolist()
    assert the > UNKNOWN
    assert frogs > UNKNOWN, "[capital] ogs came with Dogs"
    assert bark == UNKNOWN
    one = Tagging(data=folder, min_count=1, length=4, unknown="one").evaluation("test", 4, 1)
    assert one.inputs[0, 1] == UNKNOWN
    assert [ending(word) for word in ("Frogs", "3rd", "bark")] == ["[capital] ogs", "[digit] 3rd", "[other] ark"]


def test_entities_are_scored_as_a_whole(tmp_path: Path) -> None:
    names = ["O", "B-PER", "I-PER"]
    folder = tags(tmp_path, {split: [["x", "yy", "zzz"], ["zz"]] for split in SPLITS}, "ner_tags", names)
    task = Tagging(dataset="wnut_17", data=folder, min_count=1, length=3)
    batch = task.evaluation("test", 3, 2)
    assert batch.targets.tolist() == [[1, 2, 0], [2, 0, 0]]
    assert task.scores(batch.targets, batch) == {"entity_f1": 1.0}
    wrong = torch.tensor([[1, 0, 0], [2, 1, 1]])  # the second one's padding does not count
    assert task.scores(wrong, batch) == {"entity_f1": 0.5}


def test_tags_keep_their_own_names_in_a_common_cache(tmp_path: Path) -> None:
    """The same numbers under other names are other entities: B B is two of them, I I is one."""
    words = {split: [["x", "yy", "zzzz"]] for split in SPLITS}  # tags 1, 2, 1
    scores = []
    for place, names in (("one", ["O", "B-PER", "I-PER"]), ("other", ["O", "I-PER", "B-PER"])):
        (tmp_path / place).mkdir()
        task = Tagging(dataset="wnut_17", data=tags(tmp_path / place, words, "ner_tags", names), min_count=1, length=3)
        assert task.names == tuple(names)
        scores.append(task.scores(torch.tensor([[1, 2, 0]]), task.evaluation("test", 3, 1))["entity_f1"])
    assert scores == [pytest.approx(2 / 3), pytest.approx(0.5)]


def test_translation_from_either_form_of_table(tmp_path: Path) -> None:
    english, french = ["I sleep.", "You sleep.", "She sleeps."], ["Je dors.", "Tu dors.", "Elle dort."]
    plain = {split: {"en": english, "fr": french} for split in SPLITS}
    nested = {
        split: {"translation": [{"en": e, "fr": f} for e, f in zip(english, french, strict=True)]} for split in SPLITS
    }
    found = []
    for name, columns in (("plain", plain), ("nested", nested)):
        task = Translation(data=write(tmp_path / name, **columns), vocabulary=64, length=20)
        batch = task.evaluation("test", 20, 3)
        found.append(batch)
        assert [task.text("target", row) for row in batch.targets] == french
        assert [task.text("source", row) for row in batch.inputs] == english
        assert (batch.targets.gather(1, batch.mask.sum(1, keepdim=True) - 1) == END).all()
        assert task.scores(batch.targets, batch)["exact"] == 1.0
    assert torch.equal(found[0].inputs, found[1].inputs)
    back = Translation(data=str(tmp_path / "plain"), source="fr", target="en", vocabulary=64, length=20)
    assert back.text("source", back.evaluation("test", 20, 1).inputs[0]) == "Je dors."


def test_longer_pairs_are_left_out(tmp_path: Path) -> None:
    columns = {"en": ["a", "a a a a a a a a"], "fr": ["b", "b"]}
    task = Translation(data=write(tmp_path / "t", **dict.fromkeys(SPLITS, columns)), vocabulary=64, length=4)
    assert {split: task.size(split) for split in SPLITS} == dict.fromkeys(SPLITS, 1)


def test_scores_compare_with_the_stored_text(tmp_path: Path) -> None:
    """Letters that train lacks are in no piece: who writes all pieces right has not written the text."""
    train = {"en": ["a b", "b a"] * 4, "fr": ["c d", "d c"] * 4}
    held = {"en": ["a", "b", "a b"], "fr": ["c", "dé", "cù d"]}
    task = Translation(data=write(tmp_path / "t", train=train, validation=train, test=held), vocabulary=64, length=9)
    batch = task.evaluation("test", 9, 3)
    stored = [held["fr"][row] for row in range(3)]
    written = [task.text("target", row) for row in batch.targets]
    assert written == ["c", "d", "c d"]
    found = task.scores(batch.targets, batch)
    assert found["exact"] == pytest.approx(1 / 3)
    assert found["bleu"] == sacrebleu.corpus_bleu(written, [stored]).score
    assert found["chrf"] == sacrebleu.corpus_chrf(written, [stored]).score
    order = torch.tensor([2, 0])  # as an evaluation puts the shorter ones first, or takes a part
    assert task.scores(batch.targets[order], batch.map(lambda value: value[order]))["exact"] == 0.5
    same = task.evaluation("validation", 9, 8)
    assert task.scores(same.targets, same)["exact"] == 1.0
    with pytest.raises(ValueError, match=r"only the sets of Translation\.evaluation"):
        task.scores(batch.targets, task.examples("test", torch.arange(3), 9))


def test_numerals_are_scored_against_their_words() -> None:
    task = Translation(dataset="numerals", length=14)
    batch = task.evaluation("test", 14, 50)
    assert task.scores(batch.targets, batch)["exact"] == 1.0
    assert task.scores(batch.targets.roll(1, 0), batch)["exact"] == 0.0


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_without_an_example_is_said(tmp_path: Path, split: str) -> None:
    long = {"en": ["a " * 60], "fr": ["b"]}
    pairs = {name: {"en": ["a a a"], "fr": ["b b b"]} for name in SPLITS}
    task = Translation(data=write(tmp_path / "t", **(pairs | {split: long})), vocabulary=64)
    with pytest.raises(ConfigError, match=rf"task.length=24: every pair of the split '{split}' is longer"):
        task.check()
    texts = {name: {"text": ["to be or not"]} for name in SPLITS} | {split: {"text": ["to", "", "be"]}}
    characters = Characters(data=write(tmp_path / "c", **texts), length=4)
    with pytest.raises(ConfigError, match=rf"task.length=4: the split '{split}' has 4 characters; expected 5 at least"):
        characters.check()
    Characters(data=str(tmp_path / "c"), length=3).check()


def test_one_folder_read_in_two_ways_is_cached_in_two(tmp_path: Path) -> None:
    """imdb holds validation texts out of its training split; the other datasets have a split of their own."""
    rows = 2_600
    texts = {"train": (["t"] * rows, [0, 1] * 1_300), "validation": (["v v"], [1]), "test": (["t"], [0])}
    made: dict[str, Any] = {split: {"text": words, "label": labels} for split, (words, labels) in texts.items()}
    folder = write(tmp_path / "two", **made)
    sizes = [Sentiment(dataset=name, data=folder).size("validation") for name in ("rotten_tomatoes", "imdb")]
    assert sizes == [1, 2_500]


@given(st.integers(1, 999_999))
def test_numbers_in_words_read_back(number: int) -> None:
    values = {word: value for value in range(1, 20) for word in in_words(value)}
    values |= {in_words(tens)[0]: tens for tens in range(20, 100, 10)}
    total = part = 0
    for word in in_words(number):
        if word == "hundred":
            part *= 100
        elif word == "thousand":
            total, part = part * 1000, 0
        else:
            part += values[word]
    assert total + part == number


def test_numerals_by_hand_and_disjoint() -> None:
    assert in_words(407) == ["four", "hundred", "seven"]
    task = Translation(dataset="numerals")
    seen: set[tuple[int, ...]] = set()
    for split in SPLITS:
        rows = {tuple(row) for row in task.examples(split, torch.arange(task.size(split)), 24).inputs.tolist()}
        assert len(rows) == task.size(split)
        assert not rows & seen
        seen |= rows


def test_characters_by_hand(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "c", train={"text": ["to be or"]}, validation={"text": ["be to!"]}, test={"text": ["or to be"]}
    )
    task = Characters(data=folder, length=4)
    batch = task.examples("train", torch.tensor([0]), 4)
    assert task.text(batch.inputs[0]) == "to b"
    assert task.text(batch.targets[0]) == "o be"
    assert task.text(task.examples("validation", torch.tensor([0]), 5).targets[0]) == "e to?"
    assert task.input_size == 4 + len(set("to be or"))
    drawn = task.sample(200, 4, torch.Generator().manual_seed(0))
    assert {task.text(row) for row in drawn.inputs} == {"to b", "o be", " be ", "be o"}


def test_python_docs_are_read_whole_and_once() -> None:
    import pydoc_data.topics

    task = Characters(dataset="python_docs", length=100)
    whole = "".join(topic for _, topic in sorted(pydoc_data.topics.topics.items()))
    parts = [task._encoded.splits[split] for split in SPLITS]
    assert sum(map(len, parts)) == len(whole)
    assert task.text(parts[0][:200]) == whole[:200]
    assert task.text(parts[2][-50:]).replace("?", "") == "".join(
        c for c in whole[-50:] if c != "?" and c in task._encoded.alphabet
    )


def test_series_end_where_they_end(tmp_path: Path) -> None:
    series = [[[float(row + step)] * 12 for step in range(1 + row % 5)] for row in range(60)]
    columns = {"series": series, "label": [row % 9 for row in range(60)]}
    task = Series(data=write(tmp_path / "s", train=columns, test=columns), length=5)
    batch = task.evaluation("test", 5, 60)
    assert sorted(batch.lengths().tolist()) == sorted(1 + row % 5 for row in range(60))
    for row in range(60):
        end = int(batch.lengths()[row])
        first = batch.inputs[row, 0, 0]
        assert torch.equal(batch.inputs[row, :end, 3], first + torch.arange(end))
        assert not batch.inputs[row, end:].any()
