from __future__ import annotations

import math

import pytest

from goldfish.tasks.recall import Recall


@pytest.mark.parametrize("distractors", ["separate", "same"])
@pytest.mark.parametrize("length", [1, 2, 17])
def test_target_is_the_first_symbol_of_the_raw_input(seeded, distractors, length):
    task = Recall(length=length, symbols=5, distractors=distractors, distractor_symbols=3)
    batch = task.sample(300, length, seeded)
    assert batch.lag is not None
    later = set()
    for inputs, target, lag in zip(batch.inputs.tolist(), batch.targets.tolist(), batch.lag.tolist(), strict=True):
        symbols = [row.index(1.0) for row in inputs]
        assert symbols[0] == target
        assert len(symbols) == length + 1
        assert lag == len(symbols) - 1 - 0
        later.update(symbols[1:])
    assert later == (set(range(5)) if distractors == "same" else {5, 6, 7})


def test_sizes_chance_and_floor():
    task = Recall(symbols=8, distractor_symbols=2)
    assert (task.input_size, task.output_size) == (10, 8)
    assert task.chance == 1 / 8
    assert task.floor(3) == task.floor(300) == pytest.approx(math.log(8))
    assert Recall(symbols=8, distractors="same").input_size == 8


def test_one_length_samples_another(seeded):
    assert Recall(length=10).sample(4, 33, seeded).inputs.shape == (4, 34, 10)
