"""Recall horizon and accuracy by lag, by hand and by brute force."""

from __future__ import annotations

import pytest
import torch

from goldfish.probes.recall import BINS, accuracy_by_lag, recall_horizon


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([1.0, 0.8, 0.57, 0.56], (4, False)),  # the midpoint of 1/8 and 1 is .5625
        ([1.0, 0.8, 0.57, 0.57], (8, True)),
        ([0.5, 1.0, 1.0, 1.0], (0, False)),
        ([0.5625, 1.0, 1.0, 1.0], (0, False)),  # above it, not at it
    ],
)
def test_every_smaller_lag_must_pass(accuracies: list[float], expected: tuple[float, bool]) -> None:
    assert recall_horizon([1, 2, 4, 8], accuracies, chance=1 / 8) == expected


def test_few_lags_stand_each_for_itself() -> None:
    lags = torch.tensor([3, 1, 3, 7])
    correct = torch.tensor([[1.0, 0, 0, 1], [1, 1, 1, 0]])
    found = accuracy_by_lag(lags, correct, torch.ones(4))
    assert found == [(1.0, [0.0, 1.0]), (3.0, [0.5, 1.0]), (7.0, [1.0, 0.0])]


def test_many_lags_are_binned_and_named_after_their_largest() -> None:
    generator = torch.Generator().manual_seed(0)
    lags = torch.randint(1, 101, (2000,), generator=generator)
    correct = torch.randint(0, 6, (2, 2000), generator=generator).double()
    asked = torch.full((2000,), 5.0)
    found = accuracy_by_lag(lags, correct, asked)
    assert len(found) == BINS
    assert found[-1][0] == int(lags.max())
    low = 0.0
    for edge, accuracies in found:
        inside = [k for k in range(2000) if low < lags[k] <= edge]
        for replica, accuracy in enumerate(accuracies):
            right = sum(float(correct[replica, k]) for k in inside)
            assert accuracy == pytest.approx(right / (5 * len(inside)))
        low = edge
