"""Where real data come from, what their hash covers, and evaluation sets as tables."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from goldfish.config import registry
from goldfish.config.config import resolve
from goldfish.data.sources import (
    content_hash,
    describe_test_set,
    digits_file,
    evaluation_table,
    grey_images,
    look,
    parquet_files,
)
from goldfish.errors import ConfigError

ASK = """
import json, sys
from goldfish.data import sources as data
from goldfish.config import registry
from goldfish.errors import ConfigError
data.HUB_TIMEOUT = 0.5
registry.signature("task", "mnist").constants["ROWS"] = {"train": 1, "test": 1}
try:
    answer = data.content_hash({"name": "mnist", "length": 784, "order": "sequential", "data": None})
except ConfigError as error:
    answer = f"refused: {error}"
heavy = [name for name in ("torch", "sklearn", "datasets") if name in sys.modules]
print(json.dumps([answer, heavy]))
"""


def png(seed: int) -> bytes:
    pixels = np.random.RandomState(seed).randint(0, 256, (28, 28)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def write(path: Path, labels: list[int], name: str = "seven.png", compression: str = "snappy") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": png(label), "path": name} for label in labels]
    parquet.write_table(pa.table({"image": images, "label": labels}), path, compression=compression)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny dataset with MNIST's columns."""
    write(tmp_path / "tiny" / "train.parquet", [1, 2, 3, 4])
    write(tmp_path / "tiny" / "test.parquet", [5, 6])
    return tmp_path / "tiny"


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny MNIST is one, too: thousands of images test nothing more."""
    monkeypatch.setitem(registry.signature("task", "mnist").constants, "ROWS", {"train": 1, "test": 1})


def mnist(folder: Path) -> str | None:
    return content_hash({"name": "mnist", "data": str(folder)})


def test_synthetic_tasks_have_no_content():
    stored = {"digits", "mnist"}
    assert all(content_hash({"name": name}) is None for name in registry.names("task") if name not in stored)


def test_digits_hash_is_that_of_the_bundled_file():
    from sklearn import datasets

    path = Path(datasets.__file__).parent / "data" / "digits.csv.gz"
    assert digits_file() == path
    assert content_hash({"name": "digits"}) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_hash_covers_the_content_and_not_how_it_is_stored(folder: Path, tmp_path: Path):
    expected = mnist(folder)
    write(tmp_path / "cut" / "mnist" / "train-00000-of-00002.parquet", [1, 2, 3], name="other.png", compression="none")
    write(tmp_path / "cut" / "mnist" / "train-00001-of-00002.parquet", [4])
    write(tmp_path / "cut" / "mnist" / "test-00000-of-00001.parquet", [5, 6])
    assert mnist(tmp_path / "cut") == expected
    assert len(expected or "") == 64


@pytest.mark.parametrize("labels", [[1, 2, 3], [1, 2, 4, 3], [1, 2, 3, 5]])
def test_hash_changes_with_the_content(folder: Path, labels: list[int]):
    before = mnist(folder)
    write(folder / "train.parquet", labels)
    assert mnist(folder) != before


def test_hash_knows_the_splits_apart(folder: Path):
    before = mnist(folder)
    (folder / "train.parquet").rename(folder / "spare.parquet")
    (folder / "test.parquet").rename(folder / "train.parquet")
    (folder / "spare.parquet").rename(folder / "test.parquet")
    assert mnist(folder) != before


def test_images_are_read_in_their_order(folder: Path):
    found = look({"name": "mnist", "data": str(folder)})
    assert found is not None
    images = grey_images(found, "train", "image", 28)
    assert found.read("train", "label")[0].to_pylist() == [1, 2, 3, 4]
    for row, label in enumerate([1, 2, 3, 4]):
        assert np.array_equal(images[row], np.random.RandomState(label).randint(0, 256, (28, 28)))


@pytest.mark.parametrize("name", ["nothing", "gone"])
def test_a_folder_without_parquet_is_named_with_the_hub_id(tmp_path: Path, name: str):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ConfigError, match=rf"task\.data=.*{name}: no parquet files there; expected .*ylecun/mnist"):
        parquet_files("ylecun/mnist", str(tmp_path / name))


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.zeros((14, 56), np.uint8), "14×56 pixels, mode L; expected 28×28, grey"),
        (np.zeros((28, 28, 3), np.uint8), "28×28 pixels, mode RGB; expected 28×28, grey"),
        (np.zeros((28, 28), bool), "28×28 pixels, mode 1; expected 28×28, grey"),
        (None, "cannot identify image file"),
    ],
)
def test_other_images_are_refused_by_row(folder: Path, pixels: np.ndarray | None, said: str):
    buffer = io.BytesIO(b"" if pixels is not None else b"no image")
    if pixels is not None:
        Image.fromarray(pixels).save(buffer, "png")
    images = [{"bytes": png(3), "path": None}, {"bytes": buffer.getvalue(), "path": None}]
    parquet.write_table(pa.table({"image": images, "label": [3, 1]}), folder / "test.parquet")
    found = look({"name": "mnist", "data": str(folder)})
    assert found is not None
    with pytest.raises(ConfigError, match=rf"test\.parquet, row 1, column 'image': {said}"):
        grey_images(found, "test", "image", 28)


def ask(**environment: str) -> tuple[str, list[str]]:
    """The answer for hub data, and the heavy modules imported, of a fresh process with this environment."""
    ours = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", ASK], env=ours | environment, capture_output=True, text=True, timeout=60, check=True
    )
    answer, heavy = json.loads(done.stdout.splitlines()[-1])
    return answer, heavy


def test_hub_data_in_the_cache_need_no_network(folder: Path, tmp_path: Path):
    home = tmp_path / "home" / "hub" / "datasets--ylecun--mnist"
    commit = "0" * 40
    write(home / "snapshots" / commit / "mnist" / "train-00000-of-00001.parquet", [1, 2, 3, 4])
    write(home / "snapshots" / commit / "mnist" / "test-00000-of-00001.parquet", [5, 6])
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    answer, heavy = ask(HF_HOME=str(tmp_path / "home"), HF_HUB_OFFLINE="1")
    assert answer == mnist(folder)
    assert heavy == []


def test_unreachable_hub_is_named_with_the_folder_key(tmp_path: Path):
    refused, heavy = ask(HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1")
    assert refused.startswith("refused: task.data=null: the hub's dataset ylecun/mnist is neither cached nor reachable")
    assert refused.endswith("task.data=<folder>")
    assert "\n" not in refused
    assert heavy == []


def test_a_hub_that_does_not_answer_is_given_up(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refused, _ = ask(HF_HOME=str(tmp_path), HF_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert refused.startswith("refused: task.data=null: the hub's dataset ylecun/mnist is neither cached nor reachable")


@pytest.mark.parametrize("name", ["recall", "copying", "digits", "parity"])
def test_evaluation_sets_as_tables(name: str):
    task = registry.load("task", name)(length=64)
    batch = task.evaluation("test", 64, 12)
    table = evaluation_table(task, "test", 64, 12)
    optional = [column for column in ("lag", "recall") if getattr(batch, column) is not None]
    assert table.column_names == ["inputs", "targets", "mask", *optional]
    for column in table.column_names:
        assert np.array_equal(
            np.array(table[column][:], dtype=getattr(batch, column).numpy().dtype), getattr(batch, column)
        )


def test_the_test_set_is_described_by_its_content():
    recall = {"task": {"name": "recall", "length": 7}, "trainer": {"evaluation_size": 12}}
    described = describe_test_set(resolve(recall))
    assert described == describe_test_set(resolve(recall | {"seed": 5, "cell": "gru"}))  # the same for every run
    assert (
        described["digest"] != describe_test_set(resolve(recall | {"task": {"name": "recall", "length": 8}}))["digest"]
    )
    assert json.loads(described["profile"]) == {"num_rows": 12}
    assert set(json.loads(described["schema"])) == {"inputs", "targets", "mask", "lag"}
    assert (described["source"], described["name"]) == ("synthetic", "recall length 7 test")
    assert describe_test_set(resolve({"task": "digits"}))["source"] == "sklearn-digits"
