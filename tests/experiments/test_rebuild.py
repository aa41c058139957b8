"""Committed figures and tables are what the committed results give, without any training."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from goldfish.papers import experiment, results
from goldfish.tracking.provenance import machine

KEPT = [
    (name, path.parent.name)
    for name, folder in sorted(experiment.folders().items())
    for path in sorted(folder.glob(f"results/*/{results.MANIFEST}"))
]


def test_there_are_results() -> None:
    assert ("forgetting", "cpu") in KEPT


@pytest.mark.parametrize(
    ("name", "scale"),
    [pytest.param(*kept, marks=[] if kept == ("forgetting", "cpu") else pytest.mark.slow) for kept in KEPT],
)
def test_rebuilt_from_the_tables(name: str, scale: str, tmp_path: Path) -> None:
    found = experiment.read(name)
    place = results.published(found, scale)
    runs, curves = results.read(place)
    files, _ = results.draw(found, runs, curves, tmp_path)
    assert {file.name for file in files} <= {file.name for file in place.iterdir()}
    pictures = (".pdf", ".png")
    compared = [file for file in files if file.suffix not in pictures or _same_fonts(place)]
    for file in compared:
        assert file.read_bytes() == (place / file.name).read_bytes(), file.name


def _same_fonts(place: Path) -> bool:
    """Pictures have the same bytes on a like machine where matplotlib, which brings its fonts, has the same version."""
    made = json.loads((place / results.MANIFEST).read_text(encoding="utf-8"))
    matplotlib = f"matplotlib {importlib.metadata.version('matplotlib')}"
    return matplotlib in made["versions"] and made["machine"] == machine()
