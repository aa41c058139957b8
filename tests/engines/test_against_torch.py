"""Both engines against float64 cells of torch.nn in a loop: outputs, every gradient, every adjoint's norm."""

from __future__ import annotations

import torch
from tests.engines.comparison import each_loss, errors
from tests.engines.reference import Case, each_case


@each_loss
@each_case
def test_float64(case: Case, layers: int, loss: str) -> None:
    """Every vector of every sample at every step, to 1e-12 of its own norm."""
    worst = errors(case, layers, loss, torch.float64)
    print(case, {key: f"{value:.1e}" for key, value in worst.items()})
    assert max(worst.values()) <= 1e-12, worst


@each_loss
@each_case
def test_float32(case: Case, layers: int, loss: str) -> None:
    """Every step to 2e-6 of that step's norm, at PyTorch's initialisation."""
    worst = errors(case, layers, loss, torch.float32)
    print(case, {key: f"{value:.1e}" for key, value in worst.items()})
    assert max(worst.values()) <= 2e-6, worst
