"""The CUDA engine on a GPU: verdicts, bits in any pack, and the bits of the same source on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.engines.cuda_emulator import CASES, Emulator, each_cuda_case, emulated, needs_compiler
from tests.engines.reference import Case, Tensors
from tests.engines.test_bit_identity import Pool, R

from goldfish.cells.base import HandDerivedCell
from goldfish.cells.gru import GRU
from goldfish.engines import cuda, select
from goldfish.engines.cuda import function, launch, plan, verdict
from goldfish.engines.layers import Recorder
from goldfish.recurrent import Recurrent
from goldfish.training.device.graph import GraphedStep

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(bool(cuda._missing()), reason=cuda._missing()),
]


class OnGpu(Case):
    """A case whose networks are built on the GPU."""

    def build(self, input_size: int, hidden_size: int, **others: Any) -> Recurrent:
        return super().build(input_size, hidden_size, **others).cuda()


def _pool(case: Case, shape: tuple[int, int, int, int]) -> Pool:
    pool = Pool(OnGpu(case.cell, case.nonlinearity, case.engine), shape)
    pool.inputs, pool.on_outputs = pool.inputs.cuda(), pool.on_outputs.cuda()
    pool.state = {name: value.cuda() for name, value in pool.state.items()}
    return pool


def _same(found: Tensors, whole: Tensors, picks: list[int]) -> None:
    for name, value in found.items():
        assert torch.equal(value, whole[name][picks]), name


@pytest.mark.parametrize(
    "shape", [(32, 32, 2, 3), (33, 7, 1, 1), (64, 128, 1, 10), (128, 32, 1, 10), (200, 5, 1, 4)], ids=str
)
@each_cuda_case
def test_packs(case: Case, shape: tuple[int, int, int, int]) -> None:
    """shape: H, B, L, D. Alone, in 2, in 16, in another order; a second time; and with TF32 allowed to all others."""
    pool, everyone = _pool(case, shape), list(range(R))
    whole = pool.run(everyone)
    _same(pool.run(everyone), whole, everyone)
    for picks in ([0], [6], [5, 1], everyone[::-1]):
        for learn in (True, False):
            _same(pool.run(picks, learn), whole, picks)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        _same(pool.run([3]), whole, [3])
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@needs_compiler
@pytest.mark.parametrize("shape", [(33, 5, 2, 3), (128, 3, 1, 4), (200, 2, 1, 4)], ids=str)
@each_cuda_case
def test_the_bits_of_the_cpu(case: Case, shape: tuple[int, int, int, int], tmp_path: Path) -> None:
    """Every operation is IEEE's and contraction is off, so g++ and NVRTC must agree to the last bit."""
    picks = [2, 9, 4]
    on_gpu = _pool(case, shape).run(picks)
    with emulated(tmp_path):
        on_cpu = Pool(case, shape).run(picks)
    for name, value in on_gpu.items():
        assert torch.equal(value.cpu(), on_cpu[name]), name


@each_cuda_case
def test_tiles(case: Case) -> None:
    """Tiles of 1, 2, 4 and 8 rows, the last never full: the same bits."""
    torch.manual_seed(0)
    recurrent = case.build(3, 48, replicas=2).cuda()
    assert isinstance(recurrent.cell, HandDerivedCell)
    weights = [recurrent.layer_weights(0)]
    initial = [tuple(torch.randn(2, 11, 48).cuda() for _ in recurrent.cell.states)]
    inputs = torch.randn(2, 30, 11, 3).cuda()
    found = []
    for rows in plan.TILES:
        recurrent.zero_grad()
        outputs, _ = function.run(recurrent.cell, inputs, weights, initial, Recorder(), {}, rows=rows)
        outputs.square().sum().backward()
        gradients = [parameter.grad.clone() for parameter in recurrent.parameters() if parameter.grad is not None]
        found.append([outputs.detach(), *gradients])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, found[0], strict=True))


DTYPES = [torch.float32, torch.float64]
HIDDEN = [8, 32, 33, 64, 128]


@pytest.fixture(scope="module")
def _compared() -> None:
    """All that is asked for below, compared in one process: each takes seconds to start."""
    cells = [case.build(1, H).cell for case in CASES for H in HIDDEN]
    kernels = [verdict.asked(cell, dtype) for dtype in DTYPES for cell in cells if isinstance(cell, HandDerivedCell)]
    verdict.of_all(kernels, torch.device("cuda", torch.cuda.current_device()))


@pytest.mark.usefixtures("_compared")
@each_cuda_case
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("H", HIDDEN)
def test_verdicts_are_good(case: Case, H: int, dtype: torch.dtype) -> None:
    assert cuda.unavailable(case.build(1, H).cell, dtype) == ""


def test_verdicts_for_the_bench() -> None:
    lines = [str(found) for found in cuda.verdicts()]
    print("\n".join(lines))
    assert len(lines) >= 12
    assert all("exact" in line for line in lines)


def test_auto_takes_it() -> None:
    """And `cuda` refuses tensors that are elsewhere."""
    cell = GRU(hidden_size=32, num_layers=1)
    assert select.choose("auto", cell, torch.device("cuda"), torch.float32) is cuda
    with pytest.raises(ValueError, match="the tensors are on cpu"):
        select.choose("cuda", cell, torch.device("cpu"), torch.float32)


def test_another_stream() -> None:
    """Kernels run on the stream that is current, beside torch's own."""
    torch.manual_seed(0)
    recurrent = Recurrent("lstm", 3, 32, engine="cuda", device="cuda")
    inputs = torch.randn(1, 16, 50, 3, device="cuda")
    expected = recurrent(inputs)[0].sum()
    expected.backward()
    gradient = recurrent.get_parameter("weight_hh_l0").grad
    assert gradient is not None
    first = gradient.clone()
    recurrent.zero_grad()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        found = recurrent(inputs)[0].sum()
        found.backward()
    torch.cuda.current_stream().wait_stream(stream)
    again = recurrent.get_parameter("weight_hh_l0").grad
    assert again is not None
    assert torch.equal(found, expected)
    assert torch.equal(again, first)


def test_the_emulator_plans_as_for_an_h100() -> None:
    """So that what was tested without a GPU is what runs on one."""
    found = launch.multiprocessor(torch.device("cuda"))
    if found.capability != (9, 0):
        pytest.skip("this GPU is no H100 or H200")
    assert found == Emulator(Path()).gpu


def test_a_graphed_step() -> None:
    """Forward, backward and Adam as one CUDA graph: the bits of the plain steps."""

    def train(graphed: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        recurrent = Recurrent("gru", 3, 32, replicas=2, engine="cuda", device="cuda")
        optimizer = torch.optim.Adam(recurrent.parameters(), lr=0.01, capturable=True)

        def step(inputs: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss = (recurrent(inputs)[0][:, :, -1] - 0.5).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        def state() -> list[torch.Tensor]:
            moments = [value for own in optimizer.state.values() for value in own.values()]
            return [*recurrent.parameters(), *moments]

        run = GraphedStep(step, state)
        batches = torch.randn(12, 2, 8, 20, 3, generator=torch.Generator().manual_seed(1)).cuda()
        losses = [(run if graphed else step)(batch).detach() for batch in batches]
        assert graphed == (run._replay is not None)
        return [*losses, *(value.detach() for value in state())]

    for a, b in zip(train(True), train(False), strict=True):
        assert torch.equal(a, b)
