"""The CUDA kernels' bits, on the CPU: the same in any pack, tile, order of threads, and wherever weights are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engines import test_graph as graph
from tests.engines.cuda_emulator import H100, Emulator, each_cuda_case, emulated, needs_compiler
from tests.engines.reference import Case, Tensors
from tests.engines.test_bit_identity import Pool, R

from goldfish.engines import eager
from goldfish.engines.cuda import function, tiles
from goldfish.engines.cuda.plan import Multiprocessor
from goldfish.engines.layers import Recorder

pytestmark = needs_compiler
SMALL = Multiprocessor((9, 0), 4, 232448)  # so few multiprocessors that packs of 16 take larger tiles than one alone


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="module")
def small(folder: Path) -> Iterator[Emulator]:
    with emulated(folder, gpu=SMALL) as emulator:
        yield emulator


def _tiles(emulator: Emulator) -> set[int]:
    return {dict(kernel.macros)["ROWS"] for kernel in emulator.launched if kernel.name == "backward"}


@pytest.mark.parametrize("shape", [(24, 7, 2, 1), pytest.param((33, 32, 1, 3), marks=pytest.mark.slow)], ids=str)
@each_cuda_case
def test_packs(case: Case, shape: tuple[int, int, int, int], small: Emulator) -> None:
    """shape: H, B, L, D. Alone, in 2, in 16, in another order, with gradients and without."""
    small.launched.clear()
    pool = Pool(case, shape)
    whole = pool.run(range(R))
    for picks in ([3], [15, 0], list(range(R))[::-1]):
        for learn in (True, False):
            for name, value in pool.run(picks, learn).items():
                assert torch.equal(value, whole[name][picks]), (name, picks, learn)
    assert len(_tiles(small)) > 1


def _outcome(case: Case, shape: tuple[int, int, int, int], rows: int | None = None) -> Tensors:
    """Every number that a forward and a backward pass of one layer leave behind."""
    H, B, T, D = shape
    torch.manual_seed(3)
    recurrent = case.build(D, H, replicas=2)
    weights = [recurrent.layer_weights(0)]
    initial = [tuple(torch.randn(2, B, H) for _ in recurrent.cell.states)]
    inputs = torch.randn(2, T, B, D, requires_grad=True)
    recorder = Recorder(active=True)
    options = {} if case.engine == "eager" else {"rows": rows}
    run: Any = eager.run if case.engine == "eager" else function.run
    outputs, finals = run(recurrent.cell, inputs, weights, initial, recorder, {}, **options)
    (outputs.sin().sum() + torch.stack([state.sum() for state in finals[0]]).sum()).backward()
    leaves = {"inputs": inputs, **dict(recurrent.named_parameters())}
    gradients = {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}
    assert len(gradients) == 5
    return gradients | {"outputs": outputs.detach()} | recorder.log2_norm


def _assert_same(found: Tensors, expected: Tensors) -> None:
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


@pytest.mark.slow
@each_cuda_case
def test_tiles(case: Case, folder: Path) -> None:
    """Tiles of 1, 2, 4 and 8 rows, of which the last is never full."""
    with emulated(folder) as emulator:
        expected = _outcome(case, (24, 11, 13, 5), rows=1)
        for rows in (2, 4, 8):
            _assert_same(_outcome(case, (24, 11, 13, 5), rows), expected)
        assert _tiles(emulator) == {1, 2, 4, 8}


@pytest.mark.slow
def test_the_fastest_tile_is_taken(folder: Path) -> None:
    """Timed once for a problem, of the tiles that the sequences can fill; the numbers stay the same to the bit."""
    case, shape = Case("gru", None, "cuda"), (24, 3, 5, 2)
    with emulated(folder) as emulator:
        expected = _outcome(case, shape)
    for best in (2, 4):
        tiles.forget()
        with emulated(folder) as emulator:
            emulator.clock = lambda kernel, best=best: abs(dict(kernel.macros)["ROWS"] - best) + 1.0
            _assert_same(_outcome(case, shape), expected)
            assert _tiles(emulator) == {1, 2, 4}
            emulator.launched.clear()
            _assert_same(_outcome(case, shape), expected)
            assert _tiles(emulator) == {best}
    tiles.forget()


@pytest.mark.slow
@each_cuda_case
def test_orders_of_threads(case: Case, folder: Path) -> None:
    """A missing barrier lets some orders see what others do not."""
    with emulated(folder):
        expected = _outcome(case, (24, 5, 20, 3), rows=4)
    for seed in (1, 2, 3):
        with emulated(folder, seed=seed):
            _assert_same(_outcome(case, (24, 5, 20, 3), rows=4), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "H"), [("rnn", 200), ("lstm", 100), ("gru", 120)])
def test_where_weights_are_kept(cell: str, H: int, folder: Path) -> None:
    """In registers and shared memory, in all three places, and in registers and L2."""
    case, places, found = Case(cell, None, "cuda"), set(), []
    for shared_memory in (H100.shared_memory, 60 * 1024, 40 * 1024):
        with emulated(folder, gpu=Multiprocessor((9, 0), 132, shared_memory), seed=1, guard=True) as emulator:
            found.append(_outcome(case, (H, 3, 4, 3), rows=2))
            for kernel in emulator.launched:
                if kernel.name == "backward":
                    places.add((dict(kernel.macros)["BACKWARD_SHARED"], kernel.shared_memory <= shared_memory))
    assert len(places) == 3
    for other in found[1:]:
        _assert_same(other, found[0])
    expected = _outcome(Case(cell, None, "eager"), (H, 3, 4, 3))
    for name, value in expected.items():
        assert float((found[0][name] - value).norm() / value.norm()) <= 1e-6, name


GRAPHS = [
    graph.test_two_forward_passes_before_the_backward_ones,
    graph.test_the_same_graph_twice,
    graph.test_outputs_written_over_are_noticed,
    graph.test_weights_changed_before_the_backward_pass_are_noticed,
    graph.test_outputs_are_the_callers_own,
    graph.test_graphs_die_at_once,
    graph.test_memory_does_not_grow,
    graph.test_buffers_are_lent_again,
    graph.test_no_second_derivative,
    graph.test_gradcheck,
    graph.test_without_gradients,
]


@pytest.mark.slow
@pytest.mark.parametrize("test", GRAPHS, ids=lambda test: test.__name__.removeprefix("test_"))
@each_cuda_case
def test_graphs(case: Case, test: object, small: Emulator) -> None:
    """What autograd may do with every engine's graph, it may do with this one's."""
    assert callable(test)
    test(case)
