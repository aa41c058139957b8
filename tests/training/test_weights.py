"""One tensor of weights: what the network and the optimiser see of it, against plain autograd and torch's clipping."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from goldfish.training.weights import PackedWeights


class Products(nn.Module):
    """Two weights for each of three replicas, and one that no output depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(3, 4, 2, dtype=torch.float64))
        self.scale = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))
        self.idle = nn.Parameter(torch.randn(3, 5, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """(3, 2) → (3, 4)."""
        return torch.tanh(torch.einsum("rij,rj->ri", self.matrix, x)) * self.scale


@pytest.fixture
def model() -> Products:
    torch.manual_seed(0)
    return Products()


X = torch.linspace(-1, 2, 6, dtype=torch.float64).view(3, 2)


def test_the_network_keeps_its_weights(model: Products) -> None:
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    packed = PackedWeights(model)
    assert packed.values.shape == (3, 17)
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name])


def test_the_gradient_is_autograds(model: Products) -> None:
    parameters = list(model.parameters())
    expected = torch.autograd.grad(model(X).square().sum(), parameters[:2])
    packed = PackedWeights(model)
    packed.backward(model(X).square().sum())
    flat = torch.cat([*(value.flatten(1) for value in expected), torch.zeros(3, 5, dtype=torch.float64)], dim=1)
    assert torch.equal(packed.gradient, flat)
    packed.backward(model(X), 2 * model(X).detach())  # the same loss, its gradient handed to the outputs
    torch.testing.assert_close(packed.gradient, flat, rtol=1e-14, atol=0)
    assert all(row.grad is not None and torch.equal(row.grad, flat[r]) for r, row in enumerate(packed.rows))


def test_an_optimiser_of_the_rows_trains_the_network(model: Products) -> None:
    packed = PackedWeights(model)
    optimizer = torch.optim.SGD(packed.rows, lr=0.1)
    before, scale = packed.values.detach().clone(), model.scale.detach().clone()
    packed.backward(model(X).sum())
    packed.freeze(1)
    optimizer.step()
    expected = before - 0.1 * packed.gradient
    expected[1] = before[1]
    torch.testing.assert_close(packed.values, expected, rtol=1e-14, atol=0)
    moved = (model.scale != scale).any(1)
    assert moved.tolist() == [True, False, True]


@pytest.mark.parametrize("largest", [0.3, 100.0])
def test_clipping_is_torchs_for_each_replica(model: Products, largest: float) -> None:
    packed = PackedWeights(model)
    packed.backward(model(X).sum())
    packed.gradient[2] *= 20
    alone = [torch.zeros(17, dtype=torch.float64) for _ in range(3)]
    for leaf, gradient in zip(alone, packed.gradient.clone(), strict=True):
        leaf.grad = gradient
    norms = torch.stack([nn.utils.clip_grad_norm_([leaf], largest) for leaf in alone])
    torch.testing.assert_close(packed.norms(), norms, rtol=1e-14, atol=0)
    packed.clip_norm(largest, packed.norms())
    for leaf, gradient in zip(alone, packed.gradient, strict=True):
        torch.testing.assert_close(gradient, leaf.grad, rtol=1e-13, atol=0)


def test_clipping_by_value(model: Products) -> None:
    packed = PackedWeights(model)
    packed.backward(model(X).sum())
    expected = packed.gradient.clamp(-0.2, 0.2)
    packed.clip_value(0.2)
    assert torch.equal(packed.gradient, expected)
    assert float(expected.abs().max()) == 0.2
