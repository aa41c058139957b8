"""Newton's method over the whole sequence: every step at once, iteration by iteration, until the states fit the cell.

A recurrent network is s_t = f(s_{t-1}, x_t) for t = 1 … T, T equations in as many unknowns. From a guess of all states
Newton's method computes f at every step side by side and then solves the linearised recurrence
s_t ← f(s'_{t-1}) + J_t (s_{t-1} - s'_{t-1}), a linear scan, which a parallel machine does in log T steps (Lim et al.,
ICLR 2024, "Parallelizing non-linear sequential models over the sequence length": DEER). It is exact after at most T
iterations, since each makes one more step right, and pays only where a few are enough: where the network forgets
(Gonzalez et al., NeurIPS 2025, "Predictability enables parallelization of nonlinear state space models").

This engine counts iterations; it is written to be right and not to be fast.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.autograd import forward_ad

from goldfish.cells.base import Cell, State
from goldfish.engines.eager import LayerWeights


@dataclass
class Solution:
    """The states that Newton's method ends with.

    Attributes:
        states: by name, h first, each (R, T, B, H).
        iterations: until no state moved by more than the tolerance, (R, B); `limit` + 1 where that never came.
    """

    states: tuple[Tensor, ...]
    iterations: Tensor


@torch.no_grad()
def solve(
    cell: Cell,
    projected: Tensor,
    weights: LayerWeights,
    initial: State,
    *,
    tolerance: float = 1e-10,
    limit: int | None = None,
) -> Solution:
    """Solve one layer for all states, from zeros.

    Args:
        cell: its `step` is differentiated forwards.
        projected: W_ih x_t + b_ih, (R, T, B, G·H).
        weights: W_hh and b_hh are read.
        initial: the state before the first step, each (R, B, H).
        tolerance: an iteration that moves no state of a sequence by more than this is its last.
        limit: at most so many iterations; by default T, which are always enough but for rounding.
    """
    _load_forward_mode()
    R, T, B, _ = projected.shape
    limit = T if limit is None else limit
    guess = tuple(torch.zeros(R, T, B, state.shape[-1], dtype=projected.dtype) for state in initial)
    iterations = torch.full((R, B), limit + 1)
    right = 0  # steps at the start that are right in every sequence
    for iteration in range(1, limit + 1):
        moved = torch.zeros(R, B, dtype=projected.dtype)
        state = initial if right == 0 else tuple(part[:, right - 1] for part in guess)
        last = state
        still = True
        states = []
        for t in range(right, T):
            state_before = last
            last = tuple(part[:, t].clone() for part in guess)
            state = _linear_step(cell, projected[:, t], weights, state_before, state)
            change = torch.stack([(new - old).abs().amax(-1) for new, old in zip(state, last, strict=True)]).amax(0)
            moved = torch.maximum(moved, change)
            states.append(state)
            if still and bool((change <= tolerance).all()):
                right = t + 1
            else:
                still = False
        for k in range(len(guess)):
            guess[k][:, T - len(states) :] = torch.stack([state[k] for state in states], dim=1)
        done = (moved <= tolerance) & (iterations > limit)
        iterations[done] = iteration
        if bool((iterations <= limit).all()):
            break
    return Solution(guess, iterations)


@cache
def _load_forward_mode() -> None:
    """Have torch set up forward-mode differentiation, for which it scripts rules with its own deprecated compiler."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.script.* is deprecated", DeprecationWarning)
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


def _linear_step(cell: Cell, projected: Tensor, weights: LayerWeights, at: State, state: State) -> State:
    """f(at) + J(at) (state - at); what overflows starts again from zero."""
    with forward_ad.dual_level():
        dual = tuple(forward_ad.make_dual(base, here - base) for base, here in zip(at, state, strict=True))
        after = [
            forward_ad.unpack_dual(part) for part in cell.step(projected, dual, weights.weight_hh, weights.bias_hh)
        ]
        return tuple((value + tangent).nan_to_num(0.0, 0.0, 0.0) for value, tangent in after)
