"""A store for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.stores import copy_store

from goldfish.tracking.store import Store


@pytest.fixture
def store(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of its own in an otherwise empty folder, which is the working directory."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return copy_store(template, tmp_path)
