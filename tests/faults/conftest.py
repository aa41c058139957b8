"""What the fault tests share: the sweep as it comes out when nothing goes wrong."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.faults import sweeps


class Whole(NamedTuple):
    """An uninterrupted sweep: what it has recorded, and the seconds it took."""

    contents: dict[str, Any]
    seconds: float


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder: Path = tmp_path_factory.mktemp("whole")
    sweeps.finish(folder)  # the first one of a machine compiles kernels
    begun = time.monotonic()
    again = folder / "again"
    sweeps.finish(again)
    seconds = time.monotonic() - begun
    found = sweeps.contents(again)
    assert found == sweeps.contents(folder)
    return Whole(found, seconds)
