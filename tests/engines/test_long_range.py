"""A thousand steps in float32: the norms are right at every one of them, long after float32 itself has nothing left."""

from __future__ import annotations

import math

from tests.engines.comparison import long_errors, long_reference
from tests.engines.reference import Case, each_case


@each_case
def test_every_step(case: Case) -> None:
    """1e-4 relative at each of 1000 steps, both layers (the upper one is a network of one layer) and both samples."""
    worst = long_errors(case)
    smallest = float(long_reference(case.problem)["h"].min()) * math.log10(2)
    print(case, {name: f"{value:.1e}" for name, value in worst.items()}, f"norms down to 1e{smallest:.0f}")
    assert smallest < -190
    assert max(worst.values()) <= 1e-4, worst
