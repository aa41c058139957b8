"""Pascanu's Ω: its derivative against autograd on the equation written out, and its effect on a training step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.training.exactness import essence
from torch import Tensor

import goldfish
from goldfish.config import registry
from goldfish.config.config import Config
from goldfish.errors import ConfigError
from goldfish.training.module import PackModule
from goldfish.training.omega import BOUND, omega_gradient
from goldfish.training.train import train_pack

ACTIVATIONS: dict[str, Any] = {
    "tanh": (torch.tanh, lambda a: 1 - torch.tanh(a) ** 2),
    "relu": (torch.relu, lambda a: (a > 0).double()),
    "sigmoid": (torch.sigmoid, lambda a: torch.sigmoid(a) * (1 - torch.sigmoid(a))),
    "identity": (lambda a: a, torch.ones_like),
}


def by_autograd(W: Tensor, inputs: Tensor, readout: Tensor, nonlinearity: str) -> tuple[Tensor, Tensor, Tensor]:
    """One replica in float64: dΩ/dW with g and h constant, the states and the direct gradients, (B, T, H) each."""
    phi, slope = ACTIVATIONS[nonlinearity]
    B, T, H = inputs.shape
    h, states, before = torch.zeros(B, H, dtype=torch.float64), [], []
    for t in range(T):
        a = inputs[:, t] + h @ W.T
        h = phi(a).requires_grad_() if t == 0 and nonlinearity == "identity" else phi(a)
        states.append(h)
        before.append(a)
    loss = (states[-1] @ readout).square().sum() / B
    totals = torch.autograd.grad(loss, states)
    fresh = W.detach().clone().requires_grad_()
    found = []
    for g, a in zip(totals, before, strict=True):
        kept = g.square().sum(-1) >= BOUND
        x = (g * slope(a.detach()))[kept] @ fresh
        found += list((x.square().sum(-1) / g[kept].square().sum(-1) - 1) ** 2)
    (gradient,) = torch.autograd.grad(torch.stack(found).mean(), fresh)
    direct = torch.zeros(B, T, H, dtype=torch.float64)
    direct[:, -1] = torch.autograd.grad((states[-1] @ readout).square().sum() / B, states[-1])[0]
    return gradient, torch.stack(states, 1).detach(), direct


@pytest.mark.parametrize("nonlinearity", ACTIVATIONS)
def test_derivative_is_that_of_the_equation(nonlinearity: str) -> None:
    draw = torch.Generator().manual_seed(3)
    W = (torch.randn(2, 5, 5, generator=draw, dtype=torch.float64) / 5**0.5).requires_grad_()
    inputs = torch.randn(2, 4, 7, 5, generator=draw, dtype=torch.float64)
    readout = torch.randn(2, 5, 3, generator=draw, dtype=torch.float64)
    parts = [by_autograd(W[r], inputs[r], readout[r], nonlinearity) for r in range(2)]
    expected, h, direct = (torch.stack(part) for part in zip(*parts, strict=True))
    torch.testing.assert_close(omega_gradient(W.detach(), h, direct, nonlinearity), expected, rtol=1e-10, atol=1e-14)


def test_vanished_steps_do_not_count() -> None:
    h, direct = torch.rand(1, 2, 3, 4).double(), torch.zeros(1, 2, 3, 4).double()
    assert torch.equal(omega_gradient(torch.eye(4).double()[None], h, direct, "tanh"), torch.zeros(1, 4, 4).double())


def config(omega: float, seed: int = 0, **more: Any) -> Config:
    cell = {"name": "rnn", "hidden_size": 6}
    trainer = {"accelerator": "cpu", "max_steps": 6, "batch_size": 4, "evaluation_size": 8, "omega": omega}
    return goldfish.resolve(
        {"cell": cell, "task": {"name": "recall", "length": 5}, "seed": seed, "trainer": trainer} | more
    )


class _EnoughError(Exception):
    """The gradient is there, and nothing else is looked at."""


def _enough(losses: Tensor) -> None:
    raise _EnoughError


def test_a_training_step_adds_it_to_the_gradient_of_the_recurrent_weights_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gradients = {}
    for omega in (0.0, 3.0):
        configs = [config(omega), config(omega, 1)]
        task = registry.load("task", "recall")(length=5)
        module = PackModule(configs, task, torch.float64, torch.device("cpu"))
        monkeypatch.setattr(module, "_clip", _enough)
        with pytest.raises(_EnoughError):
            module.step(next(iter(module.data.train_dataloader())))
        named = zip(module.model.named_parameters(), module.weights._gradients, strict=True)
        gradients[omega] = {name: value.clone() for (name, _), value in named}
    changed = [name for name, value in gradients[0.0].items() if not torch.equal(value, gradients[3.0][name])]
    assert changed == ["recurrent.weight_hh_l0"]


def test_alone_it_trains_as_in_a_pack() -> None:
    configs = [config(2.0, seed) for seed in range(3)]
    packed = train_pack(configs)
    assert [essence(train_pack([one])[0]) for one in configs] == [essence(outcome) for outcome in packed]


@pytest.mark.parametrize(
    "more",
    [{"cell": "lstm"}, {"cell": {"name": "rnn", "num_layers": 2}}, {"cell": "rnn", "model": {"bidirectional": True}}],
)
def test_refused_where_it_is_not_defined(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"trainer.omega=1.0: only cell=rnn of one layer"):
        config(1.0, **more)
