"""What the fault tests share: the sweep as it comes out when nothing goes wrong."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.faults import sweeps

from goldfish.engines import cpu


class Whole(NamedTuple):
    """An uninterrupted sweep: what it has recorded, and the seconds it took."""

    contents: dict[str, Any]
    seconds: float


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder: Path = tmp_path_factory.mktemp("whole")
    for cell in ("rnn", "lstm"):
        cpu.load(cell, "float32")  # compiled here on a machine's first time, which is none of the sweep's seconds
    begun = time.monotonic()
    sweeps.finish(folder)
    return Whole(sweeps.contents(folder), time.monotonic() - begun)
