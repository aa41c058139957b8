"""Bad data are refused in one line before anything trains, and good data are known by what is in their files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from goldfish.config import registry
from goldfish.config.config import resolve
from goldfish.data import columns, tables, text
from goldfish.data.sources import content_hash, look, parquet_files
from goldfish.errors import ConfigError
from goldfish.sweep.identity import fingerprint, fingerprints
from goldfish.tasks import mnist, sentiment, series

SPLITS = ("train", "validation", "test")
SENTIMENT = {"name": "sentiment", "dataset": "rotten_tomatoes"}
TAGGING = {"name": "tagging", "dataset": "wnut_17"}
PARTS = {"name": "tagging", "dataset": "ud_english_ewt"}
SERIES = {"name": "series", "dataset": "japanese_vowels"}
PAIRS = {"name": "translation", "dataset": "tatoeba_en_fr"}
LETTERS = {"name": "characters", "dataset": "tiny_shakespeare"}
MNIST = {"name": "mnist"}
NAMES = ["O", "B-x", "I-x"]
STEP = [0.5] * 12

# task → columns of five good rows, and the splits that it reads
GOOD: dict[str, tuple[dict[str, Any], dict[str, list[Any]], tuple[str, ...]]] = {
    "sentiment": (SENTIMENT, {"text": ["a b", "c", "d e", "f", "g"], "label": [0, 1, 0, 1, 0]}, SPLITS),
    "entities": (TAGGING, {"tokens": [["a", "b"]] * 5, "ner_tags": [[0, 1]] * 5}, SPLITS),
    "parts": (PARTS, {"tokens": [["a", "b"]] * 5, "upos": [[0, 1]] * 5}, SPLITS),
    "series": (SERIES, {"series": [[STEP, STEP]] * 5, "label": [0, 1, 2, 3, 8]}, ("train", "test")),
    "pairs": (PAIRS, {"en": ["a"] * 5, "fr": ["b"] * 5}, SPLITS),
    "letters": (LETTERS, {"text": ["abc"] * 5}, SPLITS),
    "mnist": (MNIST, {"image": [{"bytes": b"x", "path": None}] * 5, "label": [0, 1, 2, 3, 9]}, ("train", "test")),
}


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny splits do, where a task holds some training rows out."""
    for name in ("mnist", "series"):
        rows: dict[str, Any] = {"train": 1, "test": 1}
        constants = registry.signature("task", name).constants
        monkeypatch.setitem(constants, "ROWS", rows if name == "mnist" else {"japanese_vowels": rows})


def named(names: list[str] | None, *columns: str) -> dict[bytes, bytes] | None:
    """The metadata that the library datasets writes, of columns that are classes or lists of them."""
    if names is None:
        return None
    kind = {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "List"}
    return {b"huggingface": json.dumps({"info": {"features": dict.fromkeys(columns, kind)}}).encode()}


def write(path: Path, values: dict[str, Any], names: list[str] | None = None, *classes: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(values).replace_schema_metadata(named(names, "ner_tags", "upos", *classes))
    parquet.write_table(table, path)


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """made(kind, split, **columns): the task on a folder of good data but for these columns of that split."""

    def make(kind: str, split: str = "", names: list[str] | None = NAMES, **changed: Any) -> dict[str, Any]:
        task, good, splits = GOOD[kind]
        for own in splits:
            write(tmp_path / "data" / f"{own}.parquet", good | (changed if own == split else {}), names)
        return task | {"data": str(tmp_path / "data")}

    return make


@pytest.mark.parametrize("kind", GOOD)
def test_good_data_are_accepted(made: Callable[..., dict[str, Any]], kind: str) -> None:
    assert len(content_hash(made(kind)) or "") == 64


INF, NAN = float("inf"), float("nan")
BAD: list[tuple[str, dict[str, Any], int | None, str]] = [
    ("sentiment", {"text": ["a", "b", "", "d", "e"]}, 2, "an empty text"),
    ("sentiment", {"text": ["a", "b", "c", " \n\u2003<br />", "e"]}, 3, "an empty text"),
    ("sentiment", {"text": ["a", None, "c", "d", "e"]}, 1, "null"),
    ("sentiment", {"text": [1, 2, 3, 4, 5]}, None, "it holds int64; expected texts"),
    ("sentiment", {"text": [b"a"] * 5}, None, "it holds binary; expected texts"),
    ("sentiment", {"label": ["neg", "pos"] * 2 + ["neg"]}, None, "it holds string; expected whole numbers from 0 to 1"),
    ("sentiment", {"label": [1, 2, 1, 2, 1]}, 1, "2 is no class; expected a whole number from 0 to 1"),
    ("sentiment", {"label": [0, 1, 0, None, 1]}, 3, "null"),
    ("sentiment", {"label": [0, 1, 0, 1, -1]}, 4, "-1 is no class; .*published test sets hide their labels so"),
    ("sentiment", {"label": [0, 1, 0, 1, -100]}, 4, "-100 is no class; .*leaves such labels out of its loss"),
    ("sentiment", {"label": [0.0, 1.0, 0.5, 1.0, 0.0]}, 2, "0.5 is no class"),
    ("sentiment", {"label": [0.0, NAN, 0.0, 1.0, 0.0]}, 1, "nan is no class"),
    ("sentiment", {"label": [[0]] * 5}, None, "it holds list<int64>; expected whole numbers"),
    ("entities", {"tokens": [["a", "b"]] * 4 + [[]]}, 4, "a sentence without words"),
    ("entities", {"tokens": [["a", "b"], ["a", None]] + [["a", "b"]] * 3}, 1, "null among its values"),
    ("entities", {"tokens": [["a", "b"], None] + [["a", "b"]] * 3}, 1, "null"),
    ("entities", {"tokens": ["a b"] * 5}, None, "it holds string; expected lists of words"),
    ("entities", {"ner_tags": [[0, 1]] * 3 + [[0]] + [[0, 1]]}, 3, "1 tags for 2 words in 'tokens'"),
    ("entities", {"ner_tags": [[0, 1, 0]] + [[0, 1]] * 4}, 0, "3 tags for 2 words in 'tokens'"),
    ("entities", {"ner_tags": [[0, 1]] * 4 + [[0, 3]]}, 4, "3 is no class; expected a whole number from 0 to 2"),
    ("entities", {"ner_tags": [[0, 1], [-100, 1]] + [[0, 1]] * 3}, 1, "-100 is no class"),
    ("entities", {"ner_tags": [[0, 1], [0, None]] + [[0, 1]] * 3}, 1, "null is no class"),
    ("entities", {"ner_tags": [["O", "B-x"]] * 5}, None, "it holds list<string>; expected lists of whole numbers"),
    ("entities", {"ner_tags": [0] * 5}, None, "it holds int64; expected lists of whole numbers"),
    ("series", {"series": [[STEP], [STEP, [NAN] * 12]] + [[STEP]] * 3}, 1, "nan; expected a finite number"),
    ("series", {"series": [[STEP]] * 4 + [[STEP, STEP, [-INF, *STEP[1:]]]]}, 4, "-inf; expected a finite number"),
    ("series", {"series": [[STEP], [[*STEP[1:], 1e39]]] + [[STEP]] * 3}, 1, "1e.39; expected a finite number"),
    ("series", {"series": [[STEP], [[*STEP[1:], None]]] + [[STEP]] * 3}, 1, "null among its values"),
    ("series", {"series": [[STEP], [STEP, None]] + [[STEP]] * 3}, 1, "null among its values"),
    ("series", {"series": [[STEP], []] + [[STEP]] * 3}, 1, "a series without steps"),
    ("series", {"series": [[STEP], [STEP, STEP[1:]]] + [[STEP]] * 3}, 1, "a step of 11 numbers; expected 12"),
    ("series", {"series": [STEP] * 5}, None, "it holds list<double>; expected lists of steps of 12 numbers"),
    ("series", {"label": [0, 1, 2, -100, 8]}, 3, "-100 is no class; expected a whole number from 0 to 8"),
    ("series", {"label": [0, 1, 2, 3, 9]}, 4, "9 is no class"),
    ("series", {"label": [True] * 5}, None, "it holds bool; expected whole numbers from 0 to 8"),
    ("pairs", {"fr": ["b", "b", None, "b", "b"]}, 2, "null"),
    ("pairs", {"en": [1] * 5}, None, "it holds int64; expected texts"),
    ("letters", {"text": ["a", None, "c", "d", "e"]}, 1, "null"),
    ("mnist", {"image": [{"bytes": b"x", "path": "p"}] * 3 + [{"bytes": None, "path": "p"}] * 2}, 3, "no image"),
    ("mnist", {"image": ["p"] * 5}, None, "it holds string; expected images, with their encoded bytes"),
    ("mnist", {"label": [0, 1, 2, 3, 10]}, 4, "10 is no class; expected a whole number from 0 to 9"),
]


@pytest.mark.parametrize(("kind", "changed", "row", "said"), BAD)
def test_a_bad_value_is_named_by_file_row_and_column(
    made: Callable[..., dict[str, Any]], kind: str, changed: dict[str, Any], row: int | None, said: str
) -> None:
    (column,) = changed
    for split in GOOD[kind][2]:
        where = "" if row is None else f", row {row}"
        with pytest.raises(ConfigError, match=rf"^task\.data: \S+{split}\.parquet{where}, column '{column}': {said}"):
            content_hash(made(kind, split, **changed))


def test_a_text_that_is_not_utf_8_is_named_in_any_column(tmp_path: Path) -> None:
    odd = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")]
    )
    for split in SPLITS:
        write(tmp_path / f"{split}.parquet", {"text": ["a", "b"], "label": [0, 1], "note": odd})
    with pytest.raises(ConfigError, match=r"parquet, row 1, column 'note': its text is not UTF-8"):
        content_hash(SENTIMENT | {"data": str(tmp_path)})


def test_rows_are_counted_through_a_file(tmp_path: Path) -> None:
    """A file is read in parts; the row is the file's."""
    labels = [0] * (2 * tables._PART + 5)
    for split in SPLITS:
        write(tmp_path / f"{split}.parquet", {"text": ["a"] * len(labels), "label": [*labels[1:], 7]})
    with pytest.raises(ConfigError, match=r"row 20004, column 'label': 7 is no class"):
        content_hash(SENTIMENT | {"data": str(tmp_path)})


@pytest.mark.parametrize("labels", [[False, True, False, True, False], [0.0, 1.0, 0.0, 1.0, 0.0]])
def test_labels_that_mean_the_same_are_understood(
    made: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, labels: list[Any]
) -> None:
    monkeypatch.setenv("GOLDFISH_CACHE_DIR", str(tmp_path / "cache"))
    plain, other = (made("sentiment", "test", label=label) for label in ([0, 1, 0, 1, 0], labels))
    task = registry.load("task", "sentiment")(data=other["data"], min_count=1)
    assert sorted(task.answers("test").tolist()) == [0, 0, 0, 1, 1]
    assert plain == other


@given(st.text(max_size=8))
def test_an_accepted_text_has_a_word(words: str) -> None:
    if columns.check({"text": columns.Column("string", [words])}, "text", "words") is None:
        tokenizer = text.train(["a"], "words", size=5)
        assert len(text.encode(tokenizer, [words], "words")[0])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (None, "its numbers have no names"),
        (["O", "B-x", "B-x"], "two of its tags are called 'B-x'"),
        (["O", "PER", "LOC"], "'PER' follows no scheme of tags"),
        (["O", "B_x", "I_x"], "'B_x' follows no scheme of tags"),
        (["O", "B-x", "M-x", "E-x"], "'M-x' follows no scheme of tags"),
        (["O", "B-x", "E-x", "U-x"], "'O, B-x, E-x, U-x' follows no scheme of tags"),
    ],
)
def test_tags_of_entities_follow_a_known_scheme(
    made: Callable[..., dict[str, Any]], names: list[str] | None, said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"test\.parquet, column 'ner_tags': {said}"):
        content_hash(made("entities", names=names))
    refused = names is None or "called" in said  # parts of speech need names of their own, and no scheme
    with pytest.raises(ConfigError, match=said) if refused else nullcontext():
        content_hash(made("parts", names=names))


def test_classes_are_as_many_as_the_task_has(made: Callable[..., dict[str, Any]]) -> None:
    task = made("sentiment")
    write(Path(task["data"], "test.parquet"), GOOD["sentiment"][1], ["neg", "neutral", "pos"], "label")
    with pytest.raises(ConfigError, match=r"column 'label': it has 3 classes \(neg, neutral, pos\); expected 2"):
        content_hash(task)
    write(Path(task["data"], "test.parquet"), GOOD["sentiment"][1], ["neg", "pos"], "label")
    assert content_hash(task)


def test_splits_that_number_their_classes_differently_are_refused(made: Callable[..., dict[str, Any]]) -> None:
    task = made("entities")
    write(Path(task["data"], "test.parquet"), GOOD["entities"][1], ["O", "I-x", "B-x"])
    with pytest.raises(
        ConfigError, match=r"train.parquet and .*test.parquet name the classes of column 'ner_tags' diff"
    ):
        content_hash(task)


def test_missing_columns_splits_and_rows_are_named(made: Callable[..., dict[str, Any]]) -> None:
    task = made("sentiment")
    folder = Path(task["data"])
    write(folder / "validation.parquet", {"texts": ["a"], "label": [0]})
    with pytest.raises(ConfigError, match=r"validation.parquet: no column 'text'; did you mean 'texts'\?"):
        content_hash(task)
    write(folder / "validation.parquet", {"text": pa.array([], pa.string()), "label": pa.array([], pa.int64())})
    with pytest.raises(ConfigError, match=r"0 rows in the split 'validation'; expected 1 at least"):
        content_hash(task)
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array([0])], names=["text", "text", "label"])
    parquet.write_table(twice, folder / "validation.parquet")
    with pytest.raises(ConfigError, match=r"validation.parquet: two columns are called 'text'"):
        content_hash(task)
    (folder / "validation.parquet").unlink()
    with pytest.raises(ConfigError, match=r"has no parquet file of the split 'validation'; it has test, train"):
        content_hash(task)
    nested = made("pairs")
    with pytest.raises(ConfigError, match=r"no column 'de'; \(?.*choices: en, fr"):
        content_hash(nested | {"target": "de"})


def test_a_training_split_is_larger_than_what_it_holds_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert mnist.ROWS == {"train": mnist.VALIDATION + 1, "test": 1}
    assert series.ROWS["japanese_vowels"] == {"train": series.HELD_OUT + 1, "test": 1}
    assert sentiment.ROWS["imdb"] == {"train": sentiment.HELD_OUT + 1, "test": 1}


def test_hidden_files_are_no_data(made: Callable[..., dict[str, Any]]) -> None:
    task = made("sentiment")
    folder, before = Path(task["data"]), content_hash(task)
    for name in (".ipynb_checkpoints", "__MACOSX"):
        (folder / name).mkdir()
        shutil.copy(folder / "test.parquet", folder / name / "train-checkpoint.parquet")
    (folder / "._train.parquet").write_bytes(b"no table")
    (folder / ".train.parquet.swp").write_bytes(b"no table")
    assert content_hash(task) == before


@pytest.mark.parametrize("name", ["set[1]", "a::b", "x*y?", "file: c", "50%20", "#1", "train", "d'oh\" ", "data=1"])
def test_a_path_is_taken_letter_by_letter(tmp_path: Path, name: str) -> None:
    """No glob, no chain of URLs, no split or partition by a folder's name."""
    for folder, word in ((name, "its own"), ("set1", "another's"), ("b", "another's")):
        for split in SPLITS:
            write(tmp_path / folder / f"{split}.parquet", {"text": [word] * 3, "label": [0, 1, 0]})
    found = look(SENTIMENT | {"data": str(tmp_path / name)})
    assert found is not None
    assert found.read("train", "text")[0].to_pylist() == ["its own"] * 3


def test_links_are_followed(made: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    task = made("sentiment")
    before = content_hash(task)
    (tmp_path / "above").mkdir()
    (tmp_path / "above" / "below").symlink_to(task["data"], target_is_directory=True)
    (tmp_path / "above" / "again").symlink_to(tmp_path / "above", target_is_directory=True)
    assert content_hash(SENTIMENT | {"data": str(tmp_path / "above")}) == before
    (tmp_path / "broken").mkdir()
    for split in SPLITS:
        (tmp_path / "broken" / f"{split}.parquet").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"test\.parquet cannot be read: No such file"):
        content_hash(SENTIMENT | {"data": str(tmp_path / "broken")})


def test_other_files_a_file_and_damage_are_named(made: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    task = made("sentiment")
    with pytest.raises(ConfigError, match="this is a file; expected the folder that it lies in"):
        content_hash(SENTIMENT | {"data": f"{task['data']}/train.parquet"})
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "train.csv").write_text("text,label\na,0\n")
    with pytest.raises(ConfigError, match=r"no parquet files there \(there: train.csv\); expected those of cornell-"):
        content_hash(SENTIMENT | {"data": str(tmp_path / "csv")})
    whole = Path(task["data"], "test.parquet").read_bytes()
    Path(task["data"], "test.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ConfigError, match=r"test\.parquet cannot be read as parquet: "):
        content_hash(task)


def test_copies_gaps_and_two_names_are_refused(made: Callable[..., dict[str, Any]]) -> None:
    task = made("sentiment")
    folder = Path(task["data"])
    shutil.copy(folder / "train.parquet", folder / "train (copy).parquet")
    with pytest.raises(
        ConfigError, match=r"train\.parquet is a copy of .*train \(copy\)\.parquet; expected each row once"
    ):
        content_hash(task)
    (folder / "train (copy).parquet").unlink()
    shutil.copy(folder / "validation.parquet", folder / "dev.parquet")
    with pytest.raises(ConfigError, match=r"dev\.parquet and .*validation\.parquet both name the split 'validation'"):
        content_hash(task)
    (folder / "dev.parquet").unlink()
    (folder / "train.parquet").rename(folder / "train-00000-of-00002.parquet")
    with pytest.raises(ConfigError, match=r"is one of 2 parts; part 00001 is missing"):
        content_hash(task)
    write(folder / "train-00001-of-00002.parquet", {"text": ["h"], "label": [1]})
    assert [len(paths) for paths in parquet_files(None, str(folder)).values()] == [1, 2, 1]


def test_names_and_types_belong_to_the_content(made: Callable[..., dict[str, Any]]) -> None:
    contents = [content_hash(made("entities", names=names)) for names in (NAMES, ["O", "I-x", "B-x"], NAMES)]
    assert contents[0] == contents[2] != contents[1]
    typed = [
        content_hash(made("sentiment", "test", label=pa.array([0, 1, 0, 1, 0], kind)))
        for kind in (pa.int64(), pa.int8())
    ]
    assert typed[0] != typed[1]
    stored = [
        content_hash(made("sentiment", "test", text=pa.array(["a b", "c", "d e", "f", "g"]).cast(kind)))
        for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()))
    ]
    assert len(set(stored)) == 1


@pytest.mark.parametrize("kind", [pa.list_(pa.dictionary(pa.int32(), pa.string())), pa.large_list(pa.large_string())])
def test_words_are_read_however_they_are_stored(made: Callable[..., dict[str, Any]], kind: pa.DataType) -> None:
    words = [["a", "b"]] * 5
    found = look(made("entities", "train", tokens=pa.array(words, kind)))
    assert found is not None
    assert found.read("train", "tokens")[0].to_pylist() == words


def test_a_table_of_pairs_may_be_nested(tmp_path: Path) -> None:
    pairs: list[dict[str, str | None] | None] = [{"en": "a", "fr": "b"}, {"en": "c", "fr": None}, None]
    for rows, said in ((pairs[:1], ""), (pairs[:2], "row 1, column 'fr': null"), ([pairs[0], None], "row 1.*: null")):
        for split in SPLITS:
            kind = pa.struct({"en": pa.string(), "fr": pa.string()})
            write(tmp_path / f"{split}.parquet", {"translation": pa.array(rows, kind)})
        with pytest.raises(ConfigError, match=said) if said else nullcontext():
            content_hash(PAIRS | {"data": str(tmp_path)})


def test_checking_imports_nothing_heavy(made: Callable[..., dict[str, Any]]) -> None:
    """A command looks at the data before it answers."""
    asked = f"import sys, goldfish.data.sources; goldfish.data.sources.content_hash({made('entities')!r})"
    heavy = "print([name for name in ('torch', 'datasets', 'sklearn', 'pandas') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{asked}; {heavy}"], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_replaced_files_are_new_data(
    made: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process, in the same place, with the time stamps and the size of the old ones."""
    monkeypatch.setenv("GOLDFISH_CACHE_DIR", str(tmp_path / "cache"))
    task = made("sentiment", label=[0, 1, 0, 1, 0])
    config = resolve({"task": task | {"min_count": 1}})
    path = Path(task["data"], "train.parquet")
    stamp = path.stat()
    old = registry.load("task", "sentiment")(data=task["data"], min_count=1)
    before, seen = fingerprint(config), old.answers("train").tolist()
    made("sentiment", "train", label=[1, 0, 1, 0, 1])
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    new = registry.load("task", "sentiment")(data=task["data"], min_count=1)
    assert new.answers("train").tolist() == [1 - label for label in seen]
    assert old.answers("train").tolist() == seen, "a task keeps to the data that it began with"
    assert fingerprint(config) != before
    assert fingerprints([config, config]) == [fingerprint(config)] * 2


def test_files_that_change_between_the_look_and_the_reading_are_said(made: Callable[..., dict[str, Any]]) -> None:
    found = look(made("sentiment"))
    assert found is not None
    made("sentiment", "train", label=[1, 1, 1, 0, 0])
    with pytest.raises(ConfigError, match=r"train\.parquet has changed since it was looked at; start again"):
        found.read("train", "label")
