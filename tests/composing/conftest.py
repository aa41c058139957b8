"""A composer, and how often one composes."""

from __future__ import annotations

from typing import Any

import pytest
from hydra.types import RunMode

from goldfish.composing import compose
from goldfish.composing.compose import Composer


@pytest.fixture(scope="module")
def composer() -> Composer:
    return Composer(compose.loader())


@pytest.fixture
def counted(composer: Composer, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A list that grows with each composition of a fresh composer."""
    calls: list[list[str]] = []
    load = composer.loader.load_configuration

    def counting(name: str, lines: list[str], mode: RunMode) -> Any:
        calls.append(lines)
        return load(name, lines, mode)

    monkeypatch.setattr(composer.loader, "load_configuration", counting)
    return calls
