"""Dropout: whose random numbers, how many, and off unless it is asked for."""

from __future__ import annotations

import torch

from goldfish.models.parts.dropout import Dropout


def drawn(p: float, x: torch.Tensor, *seeds: int) -> torch.Tensor:
    dropout = Dropout(p)
    dropout.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return dropout(x)


def test_off_without_random_numbers() -> None:
    x = torch.randn(2, 3, 4)
    assert torch.equal(Dropout(0.5)(x), x)


def test_keeps_the_mean_and_drops_the_share() -> None:
    found = drawn(0.25, torch.ones(1, 100_000), 0)
    assert set(found.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    dropped = (found == 0).double().mean().item()
    assert abs(dropped - 0.25) < 5 * (0.25 * 0.75 / 100_000) ** 0.5


def test_each_replica_has_its_own_and_the_same_alone() -> None:
    x = torch.randn(2, 50, 7)
    both = drawn(0.5, x, 3, 4)
    assert torch.equal(both[1:], drawn(0.5, x[1:], 4))
    assert not torch.equal(both[0] == 0, both[1] == 0)


def test_torch_draws_nothing() -> None:
    before = torch.random.get_rng_state()
    drawn(0.5, torch.ones(1, 10), 0)
    assert torch.equal(torch.random.get_rng_state(), before)
