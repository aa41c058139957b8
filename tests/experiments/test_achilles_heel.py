"""What sequence models cost: the table of measurements, not its numbers."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

from goldfish.papers import experiment


@pytest.fixture(scope="module")
def cost() -> ModuleType:
    return experiment.read("achilles_heel").module("measure")


@pytest.mark.slow
def test_every_network_is_measured_in_every_way(cost: ModuleType, tmp_path: Path) -> None:
    asked = {"lengths": [3], "batches": [1, 2], "packs": [1, 2], "device": "cpu", "rounds": 1, "seconds": 0.0}
    table = cost.measure(asked, tmp_path)
    alone, packed = table[table["replicas"] == 1], table[table["replicas"] == 2]
    assert len(alone) == 5 * 2 * 2
    assert set(alone["what"]) == {cost.TRAINING, cost.GENERATION}
    assert set(packed["network"]) == {"rnn", "lstm", "gru"}
    assert set(packed["what"]) == {cost.TRAINING}
    assert (table["seconds"] > 0).all()
    parameters = table.groupby("network")["parameters"].first()
    assert parameters.max() / parameters.min() < 1.3, "about equally many"


def test_the_peak_is_what_a_step_needs(cost: ModuleType) -> None:
    found = cost.peak(lambda: torch.ones(50_000_000), "cpu")  # 200 MB, freed at once
    if found != found:
        pytest.skip("this system does not tell the peak of memory")
    assert 195 < found < 260
