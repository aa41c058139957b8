"""The CUDA engine's products and norms, compiled for the CPU: right, and the same bits in any tile and pack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.engines.cuda_emulator import emulated, needs_compiler
from torch import Tensor

from goldfish.engines import select
from goldfish.engines.cuda import gemm, launch, readout
from goldfish.models.parts.layers import Readout

pytestmark = needs_compiler
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


@pytest.fixture(autouse=True, scope="module")
def _emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with emulated(tmp_path_factory.mktemp("kernels"), seed=1, guard=True):
        yield


def _close(found: Tensor, expected: Tensor) -> None:
    error = float((found.double() - expected).norm() / expected.norm())
    assert error <= (1e-6 if found.dtype == torch.float32 else 1e-14)


@pytest.mark.slow
@each_dtype
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 0, 0), (150, 8, 32, 4, 7), (300, 5, 33, 2, 3), (70, 12, 130, 0, 0)], ids=str
)
def test_weight_gradients(shape: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """shape: K, D, N, E, B. [h, x, 1] against float64; tiles, and how the source lies in memory, change no bit."""
    K, D, N, E, B = shape
    torch.manual_seed(0)
    source, adjoints = torch.randn(2, K, D, dtype=dtype), torch.randn(2, K, N, dtype=dtype)
    tail = torch.randn(2, K, E, dtype=dtype) if E else None
    initial = torch.randn(2, B, D, dtype=dtype) if B else None
    rows = source if initial is None else torch.cat([initial, source[:, : K - B]], dim=1)
    left = [rows, *([] if tail is None else [tail]), torch.ones(2, K, 1)]
    found = gemm.to_weights(source, adjoints, tail, initial)
    _close(found, torch.cat([part.double() for part in left], dim=2).mT @ adjoints.double())
    for tile in gemm.TILES:
        monkeypatch.setattr(gemm, "tile", lambda *given, tile=tile: tile)
        assert torch.equal(gemm.to_weights(source, adjoints, tail, initial), found)
    wider = torch.randn(2, K, D + 1, dtype=dtype)
    wider[..., 1:] = source
    assert torch.equal(gemm.to_weights(wider[..., 1:], adjoints, tail, initial), found)
    assert torch.equal(gemm.to_weights(source[1:], adjoints[1:], tail if tail is None else tail[1:],
                                       initial if initial is None else initial[1:]), found[1:])  # fmt: skip


@pytest.mark.slow
@each_dtype
@pytest.mark.parametrize("shape", [(70, 3, 40), (5, 36, 130), (130, 1, 1), (9, 20, 64)], ids=str)
def test_projections(shape: tuple[int, int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """shape: M, D, N; with weights as they are and transposed."""
    M, D, N = shape
    torch.manual_seed(0)
    inputs, bias = torch.randn(3, M, D, dtype=dtype), torch.randn(3, N, dtype=dtype)
    weight = torch.randn(3, N, D, dtype=dtype)
    transposed = weight.mT.contiguous().mT
    found = gemm.project(inputs, weight, bias, inputs.new_empty(3, M, N))
    _close(found, inputs.double() @ weight.mT.double() + bias.double().unsqueeze(1))
    for tile in gemm.TILES:
        monkeypatch.setattr(gemm, "tile", lambda *given, tile=tile: tile)
        assert torch.equal(gemm.project(inputs, transposed, bias, inputs.new_empty(3, M, N)), found)
    again = gemm.project(inputs[1:2], weight[1:2], bias[1:2], inputs.new_empty(1, M, N))
    assert torch.equal(again, found[1:2])


def test_the_tile_fits_the_product() -> None:
    """[h, x, 1] of 32 units fills half of (64, 32); large products take large tiles where these are enough."""
    assert gemm.tile(35, 32, 4096) == (64, 32)
    assert gemm.tile(35, 96, 64) == (64, 32)
    assert gemm.tile(131, 512, 1) == (64, 64)
    assert gemm.tile(256, 1024, 64) == (128, 128)
    assert gemm.tile(256, 1024, 1) == (64, 64)


@each_dtype
def test_linear(dtype: torch.dtype) -> None:
    """A readout and its gradients against autograd's in float64; a replica alone has the same bits."""
    torch.manual_seed(0)
    given = [torch.randn(3, 4, 5, 17), torch.randn(3, 11, 17), torch.randn(3, 11)]
    cotangent = torch.randn(3, 4, 5, 11)

    def outcome(own: bool, kind: torch.dtype, picks: slice = slice(None)) -> list[Tensor]:
        inputs, weight, bias = leaves = [tensor[picks].to(kind).requires_grad_() for tensor in given]
        if own:
            outputs = readout.linear(inputs, weight, bias)
        else:
            outputs = torch.einsum("rabd,rod->rabo", inputs, weight) + bias[:, None, None]
        found: Any = torch.autograd.grad(outputs, leaves, cotangent[picks].to(kind))
        return [outputs.detach(), *found]

    found = outcome(True, dtype)
    for a, b in zip(found, outcome(False, torch.float64), strict=True):
        _close(a, b)
    for a, b in zip(outcome(True, dtype, slice(1, 2)), found, strict=True):
        assert torch.equal(a, b[1:2])


def test_a_readout_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU whose kernels are right; elsewhere torch's product, with the same numbers."""
    torch.manual_seed(0)
    module, h, outcomes = Readout(17, 3, 2), torch.randn(2, 6, 17), []
    for replica in range(2):
        module.initialise(replica, torch.Generator().manual_seed(replica))
    calls: list[torch.dtype] = []

    def there_is(dtype: torch.dtype) -> bool:
        calls.append(dtype)
        return True

    for on_a_gpu in (False, True):
        with monkeypatch.context() as patch:
            patch.setattr(torch.Tensor, "is_cuda", on_a_gpu)
            patch.setattr(select, "has_own_products", there_is)
            found = module(h)
        outcomes.append([found, *torch.autograd.grad(found.sin().sum(), list(module.parameters()))])
    for a, b in zip(*outcomes, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert calls == [torch.float32]


def test_linear_of_nothing() -> None:
    """A batch without sequences has gradients of zero."""
    weight, bias = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    outputs = readout.linear(torch.randn(2, 0, 4), weight, bias)
    assert outputs.shape == (2, 0, 3)
    outputs.sum().backward()
    assert weight.grad is not None
    assert not weight.grad.any()


@each_dtype
@pytest.mark.parametrize("size", [0, 1, 31, 1000])
def test_norms(size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    rows = torch.randn(3, size + 2, dtype=dtype)[:, 1 : size + 1]
    found = gemm.norms(rows)
    torch.testing.assert_close(found, torch.linalg.vector_norm(rows.double(), dim=1).to(dtype), rtol=2e-7, atol=0)
    assert torch.equal(gemm.norms(rows[1:2].clone()), found[1:2])


@pytest.mark.slow
def test_many_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a grid's first side takes more than 65535 blocks: all that counts replicas or chunks stands there."""
    grids = []
    monkeypatch.setattr(launch, "launch", lambda kernel, grid, arguments: grids.append(grid))
    R, K = 1100, 8192
    gemm.to_weights(torch.empty(1, K, 1).expand(R, K, 1), torch.empty(1, K, 1).expand(R, K, 1))
    gemm.norms(torch.empty(70000, 1))
    assert grids == [(R * 64, 1, 1), (R, 1, 1), (70000, 1, 1)]
