"""Every test here computes on one torch thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from goldfish.threads import one_thread


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield
