from __future__ import annotations

import itertools
import math

import pytest

from goldfish.tasks.parity import Parity


@pytest.mark.parametrize("length", [1, 2, 25])
def test_target_is_the_parity_of_the_raw_input(seeded, length):
    batch = Parity(length=length).sample(300, length, seeded)
    for inputs, target in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert target == sum(row.index(1.0) for row in inputs) % 2
    assert batch.lag is None


def test_chance_and_floor_by_enumeration():
    odd = [sum(bits) % 2 for bits in itertools.product((0, 1), repeat=10)]
    share = sum(odd) / len(odd)
    assert Parity().chance == max(share, 1 - share)
    assert Parity().floor(10) == pytest.approx(-math.log(share))


def test_every_string_comes(seeded):
    batch = Parity(length=4).sample(2000, 4, seeded)
    assert len({tuple(row) for row in batch.inputs.argmax(-1).tolist()}) == 16
