"""Kernels whose weights lie in several blocks, on the CPU: right, and the same bits in any tile."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.engines import cuda_emulator
from tests.engines.cuda_emulator import H100, Emulator, emulated, needs_compiler
from tests.engines.reference import Case
from tests.engines.test_cuda_bits import _assert_same, _outcome

from goldfish.config import registry
from goldfish.engines.cuda import plan

pytestmark = [needs_compiler, pytest.mark.slow]  # compiles a kernel for each size
each_cell = pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


def _clusters(emulator: Emulator) -> set[int]:
    return {dict(kernel.macros)["CLUSTER"] for kernel in emulator.launched if kernel.name == "backward"}


@pytest.mark.parametrize(("H", "cluster"), [(24, 2), (33, 4), (40, 8)])
@each_cell
def test_small_ones(cell: str, H: int, cluster: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against eager, in tiles of one and four rows and three orders of threads; some blocks have fewer units."""
    monkeypatch.setattr(plan, "_cluster", lambda *given: cluster)
    case, shape, found = Case(cell, None, "cuda"), (H, 5, 9, 3), []
    for rows, seed in ((1, 1), (4, 2), (4, 3)):
        with emulated(folder, seed=seed, guard=True) as emulator:
            found.append(_outcome(case, shape, rows))
        assert _clusters(emulator) == {cluster}
    for other in found[1:]:
        _assert_same(other, found[0])
    for name, value in _outcome(Case(cell, None, "eager"), shape).items():
        assert float((found[0][name] - value).norm() / value.norm()) <= 1e-6, name


def test_one_of_a_size_that_needs_it(folder: Path) -> None:
    """An LSTM of 192 units, whose 590 KB of W_hh take the registers and the shared memory of four multiprocessors."""
    case, shape = Case("lstm", None, "cuda"), (192, 3, 3, 2)
    with emulated(folder, seed=1, guard=True) as emulator:
        found = _outcome(case, shape, 2)
    assert _clusters(emulator) == {4}
    for name, value in _outcome(Case("lstm", None, "eager"), shape).items():
        assert float((found[name] - value).norm() / value.norm()) <= 1e-6, name


@pytest.mark.parametrize("missing", ["forward", "backward"])
def test_a_missing_barrier_is_noticed(missing: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that holds a block's threads only lets a block run ahead of the others."""
    part = cuda_emulator.source.part

    def weakened(name: str) -> str:
        text = part(name)
        if name != missing:
            return text
        assert text.count("wait_for_tile();") >= 2
        return text.replace("wait_for_tile();", "__syncthreads();")

    case, shape = Case("lstm", None, "cuda"), (24, 5, 9, 3)
    monkeypatch.setattr(plan, "_cluster", lambda *given: 2)
    with emulated(folder, seed=1):
        expected = _outcome(case, shape, 4)
    monkeypatch.setattr(cuda_emulator.source, "part", weakened)
    cuda_emulator.source.text.cache_clear()
    try:
        with emulated(folder, seed=1, flags=(f"-DWITHOUT_{missing}",)):
            found = _outcome(case, shape, 4)
    finally:
        cuda_emulator.source.text.cache_clear()
    assert not all(torch.equal(found[name], value) for name, value in expected.items())


@each_cell
def test_who_takes_one(cell: str) -> None:
    """From 192 units on, where one multiprocessor cannot keep all weights: the fewest that can, in any tile."""
    for H in range(1, 512, 7):
        own = registry.load("cell", cell)(hidden_size=H, num_layers=1)
        for size in (4, 8):
            if plan.too_large(own, size):
                continue
            plans = [found for rows in plan.TILES if (found := plan.lay_out(own, size, rows, H100)) is not None]
            assert len({(found.cluster, found.forward.slices, found.backward.slices) for found in plans}) == 1
            first = plans[0]
            assert first.cluster == 1 or H >= 192
            assert first.cluster * first.own >= H
            if H >= 192:
                assert first.forward.from_memory == first.backward.from_memory == 0
            for smaller in plan.CLUSTERS[: plan.CLUSTERS.index(first.cluster)]:
                less = plan._lay_out(own, size, 4, smaller, H100)
                assert less is None or less.forward.from_memory + less.backward.from_memory > 0
