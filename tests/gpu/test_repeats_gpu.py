"""Ten repeats of one pack on a GPU have the same bits, or the runs say why not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.training.exactness import essence

from goldfish.config import registry
from goldfish.config.config import resolve
from goldfish.training.module import PackModule
from goldfish.training.train import train_pack

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
TRAINER = {"max_steps": 30, "validate_every": 15, "evaluation_size": 32, "accelerator": "gpu"}


@pytest.mark.parametrize("task", [{"name": "recall", "length": 40}, {"name": "translation", "dataset": "numerals"}])
@pytest.mark.parametrize("cell", registry.names("cell"))
def test_ten_repeats(cell: str, task: dict[str, Any]) -> None:
    values = {"cell": {"name": cell, "hidden_size": 64}, "task": task, "trainer": TRAINER, "model": {"dropout": 0.2}}
    configs = [resolve(values | {"seed": seed}) for seed in range(4)]
    first = train_pack(configs)
    for _ in range(9):
        again = train_pack(configs)
        same = [essence(one) == essence(other) for one, other in zip(first, again, strict=True)]
        assert all(same) or all(outcome.nondeterministic for outcome in again)


@pytest.mark.parametrize("cell", registry.names("cell"))
def test_a_graph_changes_nothing(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole steps replayed as a CUDA graph, and kernel by kernel."""
    task = {"name": "recall", "length": 40}
    configs = [
        resolve({"cell": {"name": cell, "hidden_size": 64}, "task": task, "trainer": TRAINER, "seed": seed})
        for seed in range(4)
    ]
    replayed = [essence(outcome) for outcome in train_pack(configs)]
    monkeypatch.setattr(PackModule, "_chosen_step", lambda module, like: module._plain)
    assert [essence(outcome) for outcome in train_pack(configs)] == replayed
