"""Both engines on CUDA against the CPU's float64 reference."""

from __future__ import annotations

import pytest
import torch
from tests.engines.comparison import each_loss, errors, long_errors
from tests.engines.reference import Case, each_case

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-6)], ids=str)
@each_loss
@each_case
def test_against_torch(case: Case, layers: int, loss: str, dtype: torch.dtype, tolerance: float) -> None:
    """Outputs, every gradient and every norm over 200 steps; TF32 would be off by 1e-3."""
    worst = errors(case, layers, loss, dtype, device="cuda")
    print(case, {key: f"{value:.1e}" for key, value in worst.items()})
    assert max(worst.values()) <= tolerance, worst


@each_case
def test_a_thousand_steps(case: Case) -> None:
    """1e-4 relative at every step, in float32 at PyTorch's initialisation."""
    worst = long_errors(case, device="cuda")
    assert max(worst.values()) <= 1e-4, worst


@each_case
def test_the_network_moves(case: Case) -> None:
    """A network that ran on the CPU runs on the GPU after `.to`, and back again."""
    torch.manual_seed(0)
    recurrent = case.build(3, 8, replicas=2)
    inputs = torch.randn(2, 4, 10, 3)
    expected, _ = recurrent(inputs)
    outputs, state = recurrent.to("cuda")(inputs.cuda())
    assert outputs.is_cuda
    assert all(value.is_cuda for value in state.values())
    torch.testing.assert_close(outputs.cpu(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(recurrent.cpu()(inputs)[0], expected)
