from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goldfish.tasks.base import Batch, only_last
from goldfish.tasks.temporal_order import TemporalOrder

PLACEMENTS = ["pascanu2013", "hochreiter1997"]


@given(st.sampled_from(PLACEMENTS), st.sampled_from([2, 3]), st.integers(10, 300), st.integers(0, 10**6))
def test_class_names_the_symbols_of_the_raw_input_in_order(placement, symbols, length, seed):
    task = TemporalOrder(length=length, symbols=symbols, placement=placement)
    batch = task.sample(20, length, torch.Generator().manual_seed(seed))
    assert batch.lag is not None
    for inputs, target, lag in zip(batch.inputs.tolist(), batch.targets.tolist(), batch.lag.tolist(), strict=True):
        tokens = [row.index(1.0) for row in inputs]
        where = [step for step, token in enumerate(tokens) if token < 2]
        assert len(where) == symbols
        assert target == sum(tokens[step] * 2**index for index, step in enumerate(where))
        assert lag == length - 1 - where[0]
        ends = [0, length - 1] if placement == "hochreiter1997" else []
        assert [step for step, token in enumerate(tokens) if token >= 6] == ends
        if ends:
            assert (tokens[0], tokens[-1]) == (6, 7)


@pytest.mark.parametrize(
    ("placement", "symbols", "expected"),
    [
        ("pascanu2013", 2, [(10, 19), (50, 59)]),
        ("pascanu2013", 3, [(10, 19), (30, 39), (60, 69)]),
        ("hochreiter1997", 2, [(10, 20), (50, 60)]),
        ("hochreiter1997", 3, [(10, 20), (33, 43), (66, 76)]),
    ],
)
def test_positions_at_a_hundred_steps_are_the_published_ones(seeded, placement, symbols, expected):
    batch = TemporalOrder(length=100, symbols=symbols, placement=placement).sample(2000, 100, seeded)
    relevant = batch.inputs[..., :2].sum(-1).nonzero()[:, 1].view(2000, symbols)
    assert list(zip(relevant.amin(0).tolist(), relevant.amax(0).tolist(), strict=True)) == expected


@pytest.mark.parametrize(("symbols", "floor"), [(2, math.log(4)), (3, math.log(8))])
def test_every_order_is_a_class_of_its_own(seeded, symbols, floor):
    task = TemporalOrder(length=20, symbols=symbols)
    batch = task.sample(4000, 20, seeded)
    orders: dict[tuple[int, ...], set[int]] = {}
    for inputs, target in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        tokens = [row.index(1.0) for row in inputs]
        orders.setdefault(tuple(token for token in tokens if token < 2), set()).add(target)
    assert orders.keys() == set(itertools.product((0, 1), repeat=symbols))
    assert sorted(next(iter(classes)) for classes in orders.values()) == list(range(2**symbols))
    assert all(len(classes) == 1 for classes in orders.values())
    assert task.floor(20) == pytest.approx(floor)
    assert task.chance == 1 / 2**symbols


def test_channels():
    assert TemporalOrder().input_size == 6
    assert TemporalOrder(placement="hochreiter1997").input_size == 8


@pytest.mark.parametrize(("symbols", "expected"), [(2, 1 / 2), (3, 3 / 6)])
def test_the_pair_is_scored_without_what_counts_tell(symbols: int, expected: float):
    task = TemporalOrder(length=20, symbols=symbols)
    targets = torch.arange(2**symbols)
    batch = Batch(torch.zeros(len(targets), 20, 6), targets, only_last(len(targets), 20))
    predictions = targets.clone()
    predictions[[0, -1]] = 1  # of AA and BB alone, which do not count
    assert task.scores(predictions, batch) == {"pair_accuracy": 1.0}
    half = torch.where(targets % 2 == 1, targets, 0)
    assert task.scores(half, batch) == {"pair_accuracy": expected}
