"""What sequence models cost: the table of measurements, not its numbers."""

from __future__ import annotations

import pytest

from goldfish.bench import cost


def test_every_network_is_measured_in_every_way() -> None:
    table = cost.measure(lengths=[3, 5], batches=[1, 2], packs=[1, 2], rounds=1, seconds=0.0)
    alone, packed = table[table["replicas"] == 1], table[table["replicas"] == 2]
    assert len(alone) == 5 * 2 * 2 * 2
    assert set(alone["what"]) == {cost.TRAINING, cost.GENERATION}
    assert set(packed["network"]) == {"rnn", "lstm", "gru"}
    assert set(packed["what"]) == {cost.TRAINING}
    assert (table["seconds"] > 0).all()
    parameters = table.groupby("network")["parameters"].first()
    assert parameters.max() / parameters.min() < 1.3, "about equally many"


def test_the_peak_is_what_a_step_needs() -> None:
    import torch

    def step() -> None:
        torch.ones(50_000_000)  # 200 MB, freed at once

    found = cost.peak(step, "cpu")
    if found != found:
        pytest.skip("this system does not tell the peak of memory")
    assert 195 < found < 260
