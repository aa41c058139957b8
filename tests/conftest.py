"""What tests share: the folder of real datasets, where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """A folder of datasets as parquet, one folder each: $GOLDFISH_DATA, or ../shared/data beside the repository."""
    folder = Path(os.environ.get("GOLDFISH_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real datasets: {folder} is not there (set GOLDFISH_DATA)")
    return folder
