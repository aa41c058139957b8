"""Adding and multiplication: targets from the raw inputs, marks within the ranges that the papers state."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from goldfish.config import registry
from goldfish.tasks.adding import SHORTEST, Adding, marks
from goldfish.tasks.multiplication import Multiplication

MARKERS = registry.signature("task", "adding").parameters["markers"].choices
assert MARKERS is not None


def allowed(markers: str, steps: int) -> tuple[range, range]:
    """The two ranges as the papers write them, for T ≥ 20."""
    return {
        "bai2018": (range(steps), range(steps)),
        "arjovsky2016": (range(steps // 2), range(steps // 2, steps)),
        "pascanu2013": (range(int(steps * 0.1)), range(int(steps * 0.1), int(steps * 0.1) + int(steps * 0.4))),
        "schmidt2021": (range(10), range(int(steps / 2))),
        "hochreiter1997": (range(1, 10), range(1, steps // 2 - 1)),
    }[markers]


@given(st.sampled_from(MARKERS), st.integers(SHORTEST, 300), st.integers(0, 10**6))
def test_two_distinct_marks_within_the_sequence(markers, steps, seed):
    found = marks(40, steps, markers, torch.Generator().manual_seed(seed))
    assert found.shape == (40, 2)
    for one, other in found.tolist():
        assert one != other
        assert min(one, other) >= 0
        assert max(one, other) < steps
        if steps >= 20:
            first, second = allowed(markers, steps)
            assert (one in first and other in second) or (one in second and other in first)
        if markers == "hochreiter1997":
            assert 0 not in (one, other)
            assert steps - 1 not in (one, other)


@pytest.mark.parametrize("markers", MARKERS)
def test_every_allowed_pair_is_equally_likely(markers):
    steps, n = 22, 200_000
    first, second = allowed(markers, steps)
    ordered = [(one, other) for one in first for other in second if one != other]
    expected = Counter(frozenset(pair) for pair in ordered)
    found = Counter(frozenset(pair) for pair in marks(n, steps, markers, torch.Generator().manual_seed(3)).tolist())
    assert found.keys() == expected.keys()
    for pair, weight in expected.items():
        share = weight / len(ordered)
        assert found[pair] / n == pytest.approx(share, abs=6 * math.sqrt(share / n))


@pytest.mark.parametrize("markers", MARKERS)
@pytest.mark.parametrize("target", ["sum", "mean", "hochreiter"])
@pytest.mark.parametrize("length", [4, 50, 101])
def test_target_adds_the_marked_values_of_the_raw_input(seeded, markers, target, length):
    batch = Adding(length=length, markers=markers, target=target).sample(200, length, seeded)
    assert batch.lag is not None
    for inputs, answer, lag in zip(batch.inputs.tolist(), batch.targets.tolist(), batch.lag.tolist(), strict=True):
        where = [step for step, (_, mark) in enumerate(inputs) if mark == 1.0]
        assert len(where) == 2
        a, b = (inputs[step][0] for step in where)
        expected = {"sum": a + b, "mean": (a + b) / 2, "hochreiter": 0.5 + (a + b) / 4}[target]
        assert answer == pytest.approx(expected, abs=1e-6)
        assert lag == length - 1 - where[0]
        others = [mark for step, (_, mark) in enumerate(inputs) if step not in where]
        ends = 2 if markers == "hochreiter1997" else 0
        assert Counter(others) == Counter({0.0: length - 2 - ends, -1.0: ends})
        if ends:
            assert inputs[0][1] == inputs[-1][1] == -1.0


@pytest.mark.parametrize(("target", "low"), [("sum", 0.0), ("mean", 0.0), ("hochreiter", -1.0)])
def test_values_fill_the_range_that_goes_with_the_target(seeded, target, low):
    values = Adding(target=target).sample(2000, 50, seeded).inputs[..., 0]
    assert low <= values.min() < low + 0.001
    assert 0.999 < values.max() < 1
    assert values.mean().item() == pytest.approx((low + 1) / 2, abs=0.01)


@pytest.mark.parametrize(("target", "floor"), [("sum", 1 / 6), ("mean", 1 / 24), ("hochreiter", 1 / 24)])
def test_floor_is_the_published_one(target, floor):
    task = Adding(target=target)
    assert task.floor(10) == task.floor(600) == pytest.approx(floor)


def test_multiplication_multiplies_the_marked_values_of_the_raw_input(seeded):
    batch = Multiplication(length=30).sample(200, 30, seeded)
    for inputs, answer in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert answer == pytest.approx(math.prod(value for value, mark in inputs if mark == 1.0), abs=1e-6)
    assert Multiplication().floor(30) == pytest.approx(1 / 9 - 1 / 16)


def test_a_value_is_correct_within_four_hundredths():
    task = Adding()
    batch = task.evaluation("test", 10, 4)
    outputs = (batch.targets + torch.tensor([0.0, 0.039, -0.039, 0.041])).unsqueeze(-1)
    assert task.correct(outputs, batch)[0].tolist() == [1, 1, 1, 0]


def test_solved_below_an_error_of_a_hundredth():
    assert Adding().solved({"loss": 0.0099, "accuracy": 0.0})
    assert not Adding().solved({"loss": 0.0101, "accuracy": 1.0})
