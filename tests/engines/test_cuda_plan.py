"""How layers are laid over a GPU: the stated rules, and limits that a launch must keep."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from tests.engines.cuda_emulator import H100

from goldfish.cells.base import HandDerivedCell
from goldfish.config import registry
from goldfish.engines.cuda import plan
from goldfish.engines.cuda.plan import Multiprocessor, Pass

TURING = Multiprocessor((7, 5), 40, 64 * 1024)


def cell(name: str, H: int) -> HandDerivedCell:
    found = registry.load("cell", name)(hidden_size=H, num_layers=1)
    assert isinstance(found, HandDerivedCell)
    return found


def _check(own: Pass, N: int, K: int, size: int, gpu: Multiprocessor) -> None:
    groups, depth = -(-N // 4), own.in_registers + own.in_shared + own.from_memory
    assert own.threads % 32 == 0
    assert groups * own.slices <= own.threads <= plan.THREADS
    assert own.blocks * own.threads <= plan.THREADS
    assert 4 * own.slices * depth >= K
    assert own.in_registers * 16 * size // 4 <= plan.REGISTERS
    assert own.shared_memory <= gpu.shared_memory
    assert own.slices & (own.slices - 1) == 0


@pytest.mark.parametrize("gpu", [H100, TURING], ids=["h100", "turing"])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_every_plan_can_be_launched(name: str, gpu: Multiprocessor) -> None:
    for H, size, rows in itertools.product(
        [1, 2, 3, 7, 31, 32, 33, 64, 100, 128, 180, 256, 362, 512], (4, 8), plan.TILES
    ):
        own = cell(name, H)
        if plan.too_large(own, size):
            continue
        found = plan.lay_out(own, size, rows, gpu)
        if found is None:
            assert (rows, gpu) != (1, H100)
            continue
        G = len(own.gates)
        _check(found.forward, G * found.own, H, size, gpu)
        _check(found.backward, found.own, G * H, size, gpu)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_slices_depend_on_nothing_else(name: str) -> None:
    """They set the order of sums: the same for every tile, pack and GPU, as long as no cluster is needed."""
    for H in (5, 32, 100, 128, 191):
        plans = [plan.lay_out(cell(name, H), 4, rows, gpu) for rows in plan.TILES for gpu in (H100, TURING)]
        assert len({(found.forward.slices, found.backward.slices) for found in plans if found}) == 1


@pytest.mark.parametrize(
    ("name", "H", "expected"),
    [("rnn", 32, (2, 0, 0)), ("rnn", 128, (4, 0, 0)), ("lstm", 64, (4, 0, 0)), ("rnn", 256, (4, 4, 0)),
     ("lstm", 128, (4, 4, 0)), ("lstm", 256, (4, 6, 22))],
)  # fmt: skip
def test_where_weights_are_kept(name: str, H: int, expected: tuple[int, int, int]) -> None:
    """Registers first, then shared memory, then, without clusters, L2; in quadruples of k."""
    found = plan.lay_out(cell(name, H), 4, 1, replace(H100, cluster=1))
    assert found is not None
    assert (found.forward.in_registers, found.forward.in_shared, found.forward.from_memory) == expected


@pytest.mark.parametrize(
    ("H", "R", "B", "rows"),
    [(128, 1, 128, 1), (128, 2, 132, 1), (128, 2, 133, 2), (128, 16, 128, 8), (128, 1000, 128, 8), (256, 16, 128, 4),
     (32, 16, 132, 1), (32, 17, 132, 2)],
)  # fmt: skip
def test_the_smallest_tile_that_runs_at_once(H: int, R: int, B: int, rows: int) -> None:
    """132 multiprocessors hold 2 blocks each at H=128, 16 at H=32; tiles end at 8, at 4 beyond registers."""
    assert plan.choose(cell("rnn", H), 4, R, B, H100).rows == rows


def test_a_tile_that_is_asked_for() -> None:
    assert [plan.choose(cell("gru", 32), 4, 1, 1, H100, rows).rows for rows in plan.TILES] == list(plan.TILES)
    assert plan.choose(cell("lstm", 128), 4, 1, 1, H100, 8).rows == 4


def test_what_is_too_large() -> None:
    assert plan.too_large(cell("lstm", 256), 4) == ""
    assert "1.0 MB" in plan.too_large(cell("lstm", 257), 4)
    assert plan.too_large(cell("lstm", 256), 8)
    with pytest.raises(ValueError, match="hidden_size=512 does not fit"):
        plan.choose(cell("rnn", 512), 4, 1, 1, Multiprocessor((7, 5), 40, 4096))
