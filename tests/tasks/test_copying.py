from __future__ import annotations

import pytest
import torch

from goldfish.tasks.copying import Copying

BLANK, MARKER = 8, 9


def expected_input(seen: list[int], delay: int, markers: str) -> list[int]:
    """The papers' sequences, written out."""
    items = len(seen)
    return {
        "arjovsky2016": [*seen, *[BLANK] * (delay - 1), MARKER, *[BLANK] * items],
        "pascanu2013": [*seen, *[BLANK] * delay, MARKER, *[BLANK] * (items - 1)],
        "bai2018": [*seen, *[BLANK] * (delay - 1), *[MARKER] * (items + 1)],
        "gu2022": [*seen, *[BLANK] * delay, *[MARKER] * items],
    }[markers]


@pytest.mark.parametrize("markers", ["arjovsky2016", "pascanu2013", "bai2018", "gu2022"])
@pytest.mark.parametrize(("delay", "items"), [(1, 1), (1, 10), (7, 3), (50, 10)])
def test_sequences_are_those_of_the_papers(seeded, markers, delay, items):
    batch = Copying(length=delay, items=items, markers=markers).sample(50, delay, seeded)
    assert batch.recall is not None
    assert batch.lag is not None
    for row in range(50):
        symbols = [step.index(1.0) for step in batch.inputs[row].tolist()]
        seen = symbols[:items]
        assert max(seen) < BLANK
        assert symbols == expected_input(seen, delay, markers)
        assert batch.targets[row].tolist() == [BLANK] * (delay + items) + seen
        assert batch.recall[row].tolist() == [False] * (delay + items) + [True] * items
        assert batch.lag[row] == delay + items
    assert batch.mask.all()


@pytest.mark.parametrize(
    ("delay", "published"), [(100, 0.1733), (200, 0.0945), (300, 0.0650), (500, 0.0400), (1000, 0.0204), (2000, 0.0103)]
)
def test_floor_is_the_published_one(delay, published):
    assert Copying(length=delay).floor(delay) == pytest.approx(published, abs=5.1e-5)


def test_a_network_without_memory_is_at_the_floor_and_at_chance(seeded):
    task = Copying(length=30)
    batch = task.sample(4000, 30, seeded)
    outputs = torch.zeros(4000, 50, 9)
    outputs[:, :40, BLANK] = 100.0
    outputs[:, 40:, BLANK] = -100.0
    outputs[:, 40:, 0] = 1e-3  # always says symbol 0
    correct, asked = task.correct(outputs, batch)
    assert task.losses(outputs, batch).mean().item() == pytest.approx(task.floor(30), rel=1e-3)
    assert (asked == 10).all()
    assert (correct.sum() / asked.sum()).item() == pytest.approx(task.chance, abs=0.01)


def test_last_loss_is_that_of_the_last_recalled_symbol(seeded):
    task = Copying(length=5, items=2)
    batch = task.sample(3, 5, seeded)
    outputs = torch.randn(3, 9, 9, generator=seeded)
    expected = torch.nn.functional.cross_entropy(outputs[:, -1], batch.targets[:, -1], reduction="none")
    assert torch.allclose(task.last_losses(outputs, batch), expected)
