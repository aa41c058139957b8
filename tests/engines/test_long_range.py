"""A thousand steps in float32: the norms are right at every one of them, long after float32 itself has nothing left."""

from __future__ import annotations

import math
from functools import cache

import torch
from tests.engines.reference import Case, Tensors, Unrolled, each_case, relative_log2
from torch import Tensor

import goldfish

L, B, T, D, H = 2, 2, 1000, 3, 32
LIFT = 700  # the reference starts at 2^700: float64 then reaches down to 2^-1774, about 1e-534


def _problem(case: Case) -> tuple[Tensors, Tensor, Tensor]:
    torch.manual_seed(1)
    recurrent = case.build(D, H, num_layers=L)  # as PyTorch initialises, U(±1/√H)
    return recurrent.state_dict(), torch.randn(1, B, T, D), torch.randn(1, B, H)


@cache
def _reference(problem: tuple[str, str | None]) -> Tensors:
    """log2 norms in float64 from the same float32 weights, name → (L, B, T)."""
    case = Case(*problem, "eager")
    weights, inputs, on_last = _problem(case)
    recurrent = case.build(D, H, num_layers=L)
    recurrent.load_state_dict(weights)
    unrolled = Unrolled(recurrent, 0, inputs[0], {name: torch.zeros(L, B, H) for name in recurrent.cell.states})
    (unrolled.outputs[:, -1] * on_last[0].double()).sum().mul(2.0**LIFT).backward()
    return unrolled.log2_norms(LIFT)


@each_case
def test_every_step(case: Case) -> None:
    """1e-4 relative at each of 1000 steps, layers and samples, from about 1 down to 1e-230 and beyond."""
    weights, inputs, on_last = _problem(case)
    recurrent = case.build(D, H, num_layers=L)
    recurrent.load_state_dict(weights)
    outputs, _ = recurrent(inputs)
    with goldfish.gradient_flow(recurrent) as flow:
        (outputs[:, :, -1] * on_last).sum().backward()
    expected = _reference(case.problem)
    assert float(expected["h"].min()) * math.log10(2) < -150
    worst = {name: relative_log2(flow.log2_norm[name][0], norm) for name, norm in expected.items()}
    print(case, {name: f"{value:.1e}" for name, value in worst.items()}, float(expected["h"].min()) * math.log10(2))
    assert max(worst.values()) <= 1e-4, worst
