"""The CUDA kernels, compiled for the CPU, against float64 cells of torch.nn: outputs, gradients and norms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tests.engines.comparison import each_loss, errors, long_errors
from tests.engines.cuda_emulator import each_cuda_case, emulated, needs_compiler
from tests.engines.reference import Case, Tensors
from torch import Tensor

import goldfish
from goldfish.engines.cuda import function

pytestmark = needs_compiler


@pytest.fixture(autouse=True, scope="module")
def _emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Threads in a drawn order, and every tensor between NaNs."""
    with emulated(tmp_path_factory.mktemp("kernels"), seed=1, guard=True):
        yield


@pytest.mark.slow
@each_loss
@each_cuda_case
def test_float64(case: Case, layers: int, loss: str) -> None:
    worst = errors(case, layers, loss, torch.float64)
    print(case, {key: f"{value:.1e}" for key, value in worst.items()})
    assert max(worst.values()) <= 1e-12, worst


@each_loss
@each_cuda_case
def test_float32(case: Case, layers: int, loss: str) -> None:
    """As test_against_torch asks of the CPU's engine."""
    worst = errors(case, layers, loss, torch.float32)
    print(case, {key: f"{value:.1e}" for key, value in worst.items()})
    norms = {key: worst.pop(key) for key in list(worst) if key.startswith("norm")}
    assert max(norms.values()) <= (2e-6 if loss == "every" else 5e-5), norms
    assert max(worst.values()) <= 2e-6, worst


@pytest.mark.slow
@each_cuda_case
def test_a_thousand_steps(case: Case) -> None:
    """1e-4 relative at every step, down to 1e-200, in float32."""
    worst = long_errors(case)
    print(case, {name: f"{value:.1e}" for name, value in worst.items()})
    assert max(worst.values()) <= 1e-4, worst


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1, 1), (3, 1, 7, 2, 2), (5, 9, 1, 1, 3), (33, 3, 6, 2, 1), (50, 2, 4, 1, 130)], ids=str
)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_any_shape(cell: str, shape: tuple[int, ...]) -> None:
    """shape: H, B, T, L, D; sizes that no tile, slice or chunk divides."""
    H, B, T, L, D = shape
    torch.manual_seed(6)
    cases = Case(cell, None, "eager"), Case(cell, None, "cuda")
    expected, found = (case.build(D, H, num_layers=L, replicas=2, dtype=torch.float64) for case in cases)
    found.load_state_dict(expected.state_dict())
    inputs = torch.randn(2, B, T, D, dtype=torch.float64)
    on_outputs = torch.randn(2, B, T, H, dtype=torch.float64)
    results = []
    for recurrent in (expected, found):
        given = inputs.clone().requires_grad_()
        outputs, final = recurrent(given)
        with goldfish.gradient_flow(recurrent) as flow:
            ((outputs * on_outputs).sum() + torch.stack([s.sum() for s in final.values()]).sum()).backward()
        leaves = [given.grad, *(parameter.grad for parameter in recurrent.parameters())]
        results.append([outputs.detach(), *final.values(), *leaves, *flow.log2_norm.values()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def _norms(case: Case, weights: dict[str, Tensor], inputs: Tensor, cotangent: Tensor) -> tuple[Tensors, Tensor]:
    """log2 norms (R, L, B, T) of the loss Σ outputs · cotangent, and dL/dx, in the dtype of the inputs."""
    R, _, _, D = inputs.shape
    layers = sum(name.startswith("weight_ih") for name in weights)
    recurrent = case.build(D, cotangent.shape[-1], num_layers=layers, replicas=R, dtype=inputs.dtype)
    recurrent.load_state_dict({name: value.to(inputs.dtype) for name, value in weights.items()})
    inputs = inputs.clone().requires_grad_()
    outputs, _ = recurrent(inputs)
    with goldfish.gradient_flow(recurrent) as flow:
        (outputs * cotangent).sum().backward()
    assert inputs.grad is not None
    return flow.log2_norm, inputs.grad


def _problem(case: Case, gain: float, T: int = 400, layers: int = 2) -> tuple[Tensors, Tensor]:
    torch.manual_seed(8)
    weights = case.build(2, 24, num_layers=layers).state_dict()
    for name in weights:
        weights[name] = weights[name] * gain if name.startswith("weight_hh") else weights[name]
    return weights, torch.randn(1, 3, T, 2)


@pytest.mark.slow
@each_cuda_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_losses_that_reach_far_apart_steps(case: Case, dtype: torch.dtype) -> None:
    """What arrives at step 20 is 1e60 times what came down from step 399; one sample gets nothing at all."""
    weights, inputs = _problem(case, 0.4)
    cotangent = torch.zeros(1, 3, 400, 24)
    cotangent[:, 0, 399] = cotangent[:, 1, 399] = torch.randn(24)
    cotangent[:, 1, 20] = torch.randn(24)
    expected, _ = _norms(Case(*case.problem, "eager"), weights, inputs.double(), cotangent.double())
    found, _ = _norms(case, weights, inputs.to(dtype), cotangent.to(dtype))
    for name, norm in expected.items():
        assert (norm[:, :, 2] == -torch.inf).all()
        assert (found[name][:, :, 2] == -torch.inf).all()
        error = (found[name] - norm)[:, :, :2]
        assert float(error.abs().max()) <= (2e-4 if dtype == torch.float32 else 1e-11), name
    vanished = float(expected["h"][0, :, 0, 21].max())
    assert vanished < -200


@pytest.mark.slow
def test_exploding_gradients() -> None:
    """Norms far beyond float32's 2^128; where they are, its gradients are infinite."""
    case = Case("rnn", "identity", "cuda")
    weights, inputs = _problem(case, 3.0, T=260)
    cotangent = torch.zeros(1, 3, 260, 24)
    cotangent[:, :, -1] = torch.randn(24)
    expected, _ = _norms(Case(*case.problem, "eager"), weights, inputs.double() * 0, cotangent.double())
    found, gradient = _norms(case, weights, inputs * 0, cotangent)
    assert float(expected["h"].max()) > 160
    torch.testing.assert_close(found["h"], expected["h"], rtol=0, atol=2e-4)
    assert not gradient.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-42, 1e37])
@each_cuda_case
def test_faint_and_loud_losses(case: Case, size: float) -> None:
    """Of the final states: at the ends of float32's range, where its next step would lose all digits."""
    torch.manual_seed(10)
    networks = [Case(*case.problem, engine).build(2, 24, num_layers=2) for engine in ("eager", "cuda")]
    inputs, norms = torch.randn(1, 3, 40, 2), []
    on_final = [torch.randn(1, 2, 3, 24) * size for _ in networks[0].cell.states]
    on_final[0][:, 1] *= len(on_final) == 1  # of an LSTM's upper layer only c
    for network, dtype in zip(networks, (torch.float64, torch.float32), strict=True):
        network.load_state_dict(networks[0].state_dict())
        _, final = network.to(dtype)(inputs.to(dtype))
        with goldfish.gradient_flow(network) as flow:
            torch.autograd.backward(list(final.values()), [given.to(dtype) for given in on_final])
        norms.append(flow.log2_norm)
    for name, norm in norms[0].items():
        torch.testing.assert_close(norms[1][name], norm, rtol=0, atol=2e-4)


def test_weights_are_aligned() -> None:
    """The kernels read four numbers at a time."""
    for offset in range(5):
        given = torch.randn(20)[offset : offset + 9].view(3, 3)
        found = function._aligned(given.mT)
        assert found.data_ptr() % 16 == 0
        assert found.is_contiguous()
        assert torch.equal(found, given.mT)
        assert function._aligned(given).data_ptr() % 16 == 0


@pytest.mark.slow
def test_saturated_units_keep_their_slope() -> None:
    """1 - tanh² of pre-activations near ±12 is 1e-10, where float32's tanh is ±1."""
    case = Case("rnn", "tanh", "cuda")
    weights, _ = _problem(case, 1.0, layers=1)
    inputs = torch.randn(1, 3, 30, 2).sign() * 12
    weights["weight_ih_l0"] = torch.tensor([1.0, 0.001]).expand_as(weights["weight_ih_l0"]).clone()
    cotangent = torch.zeros(1, 3, 30, 24)
    cotangent[:, :, -1] = torch.randn(24)
    expected, gradient = _norms(Case(*case.problem, "eager"), weights, inputs.double(), cotangent.double())
    found, measured = _norms(case, weights, inputs, cotangent)
    assert float(expected["h"][0, 0].min()) < -500
    torch.testing.assert_close(found["h"], expected["h"], rtol=0, atol=2e-4)
    torch.testing.assert_close(measured[:, :, -1].double(), gradient[:, :, -1], rtol=1e-4, atol=0)


@pytest.mark.slow
def test_a_broken_sample_stays_alone() -> None:
    """NaN in one sample of one replica: every other number keeps its bits, and its own norms are NaN."""
    case = Case("lstm", None, "cuda")
    torch.manual_seed(9)
    weights = case.build(2, 24, num_layers=2, replicas=2).state_dict()
    inputs, cotangent = torch.randn(2, 3, 12, 2), torch.randn(2, 3, 12, 24)
    whole, _ = _norms(case, weights, inputs, cotangent)
    inputs[1, 2, 5] = torch.nan
    broken, _ = _norms(case, weights, inputs, cotangent)
    for name, norm in whole.items():
        assert torch.equal(broken[name][0], norm[0])
        assert torch.equal(broken[name][1, :, :2], norm[1, :, :2])
        assert broken[name][1, 0, 2].isnan().any()
