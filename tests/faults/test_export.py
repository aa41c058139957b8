"""An experiment's tables, truncated or corrupted in fifty ways: an error in one line, and never a figure."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pandas as pd
import pytest

from goldfish.errors import ConfigError
from goldfish.papers import results

RESULTS = Path(__file__).parents[2] / "experiments" / "forgetting" / "results" / "cpu"
TABLES = ("runs.csv", "curves.parquet", "selection.csv", "manifest.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copied = tmp_path / "forgetting" / "results" / "cpu"
    copied.mkdir(parents=True)
    for name in TABLES:
        shutil.copy(RESULTS / name, copied)
    results.read(copied)
    return copied


def refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="goldfish reproduce forgetting --scale cpu") as caught:
        results.read(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TABLES[:3])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_table(folder: Path, name: str, share: float) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: int(share * len(data))])
    refused(folder)


@pytest.mark.parametrize("name", TABLES[:3])
@pytest.mark.parametrize("seed", range(10))
def test_a_flipped_bit(folder: Path, name: str, seed: int) -> None:
    data = bytearray((folder / name).read_bytes())
    place = random.Random(seed).randrange(8 * len(data))
    data[place // 8] ^= 1 << place % 8
    (folder / name).write_bytes(data)
    refused(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"sha256": 3}', '{"sha256": {}}'])
def test_a_damaged_manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    refused(folder)


@pytest.mark.parametrize("name", TABLES[:3])
def test_a_table_that_is_gone(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder)


def test_tables_are_complete_only_with_their_manifest(folder: Path, tmp_path: Path) -> None:
    """A process that is killed between two tables leaves none; the next one begins by removing it."""
    runs, curves = results.read(folder)
    out = tmp_path / "out"
    results.write(out, {"runs.csv": runs, "curves.parquet": curves}, "goldfish reproduce forgetting --scale cpu")
    again, points = results.read(out)
    pd.testing.assert_frame_equal(again, runs.reset_index(drop=True), check_dtype=False)
    assert len(points) == len(curves)
    broken = curves.drop(columns="x")
    with pytest.raises(KeyError):
        results.write(out, {"runs.csv": runs.head(3), "curves.parquet": broken}, "goldfish reproduce forgetting")
    assert not (out / "manifest.json").exists()
