"""Every engine against float64 cells of torch.nn in a loop: outputs, every gradient, every adjoint's norm."""

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
    """Every step to 2e-6 of that step's norm, at PyTorch's initialisation.

    Norms of a loss at the last step alone, which have vanished to 1e-50 two hundred steps earlier, are ill-conditioned:
    eager and stepwise follow them in float64, the other engines in float32 with an exponent, to 5e-5.
    """
    worst = errors(case, layers, loss, torch.float32)
    print(case, {key: f"{value:.1e}" for key, value in worst.items()})
    in_double = loss == "every" or case.engine in ("eager", "stepwise")
    norms = {key: worst.pop(key) for key in list(worst) if key.startswith("norm")}
    assert max(norms.values()) <= (2e-6 if in_double else 5e-5), norms
    assert max(worst.values()) <= 2e-6, worst
