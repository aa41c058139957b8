"""Small configurations for the training tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from goldfish.config.config import Config, resolve


@pytest.fixture(scope="session")
def small() -> Callable[..., Config]:
    """A configuration that trains in a fraction of a second: recall over six steps."""

    def build(cell: str = "rnn", *, hidden: int = 8, steps: int = 6, batch: int = 5, **others: Any) -> Config:
        trainer = {"max_steps": steps, "batch_size": batch, "validate_every": 3, "evaluation_size": 9}
        values: dict[str, Any] = {
            "cell": {"name": cell, "hidden_size": hidden},
            "task": {"name": "recall", "length": 6},
            "optimizer": {"name": "adam", "lr": 0.01},
            "trainer": trainer | others.pop("trainer", {}),
        }
        return resolve(values | others)

    return build
