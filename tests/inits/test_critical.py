"""The critical line of mean-field theory, against published numbers, another quadrature and a simulated network."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from goldfish.inits.critical import critical, critical_sigma

PUBLISHED = {0.01: 1.193, 0.05: 1.327, 0.1: 1.409, 0.2: 1.512, 0.5: 1.686}


@pytest.mark.parametrize("variance", PUBLISHED)
def test_tanh_lies_on_the_published_line(variance):
    assert critical_sigma("tanh", variance) == pytest.approx(PUBLISHED[variance], abs=5.1e-4)


@pytest.mark.parametrize("variance", [1e-4, 0.01, 0.1, 1.0, 10.0])
def test_tanh_has_chi_one_at_its_fixed_point(variance):
    """Iterate the map q → σ² E[tanh²(√q z)] + R by adaptive quadrature, then χ = σ² E[(1 - tanh²)²]."""
    sigma, q = critical_sigma("tanh", variance), variance

    def mean(function, q):
        density = lambda z: function(math.tanh(math.sqrt(q) * z)) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)  # noqa: E731
        return 2 * integrate.quad(density, 0, 12, epsabs=1e-13, epsrel=1e-12, limit=200)[0]

    for _ in range(2000):
        following = sigma**2 * mean(lambda h: h * h, q) + variance
        if abs(following - q) < 1e-13:
            break
        q = following
    assert sigma**2 * mean(lambda h: (1 - h * h) ** 2, q) == pytest.approx(1, abs=1e-8)


def test_limits_and_other_nonlinearities():
    assert critical_sigma("relu", 0.1) == math.sqrt(2)
    assert critical_sigma("identity", 0.1) == 1
    assert critical_sigma("tanh", 0.0) == 1
    assert critical_sigma("tanh", 1e-9) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(("nonlinearity", "sigma"), [("tanh", 1.409), ("relu", math.sqrt(2)), ("identity", 1.0)])
def test_weights_have_the_critical_variance(nonlinearity, sigma, make_layer, generator):
    layer = make_layer("rnn", 400, nonlinearity=nonlinearity)
    critical(layer, generator(0), input_variance=0.1)
    assert math.sqrt(400) * layer.weight_hh.std().item() == pytest.approx(sigma, rel=4 / math.sqrt(2 * 400**2) + 5e-4)
    assert layer.weight_ih.isnan().all()
    assert layer.bias_ih.isnan().all()
    assert layer.bias_hh.isnan().all()


def test_the_default_variance_is_that_of_one_hot_inputs(make_layer, generator):
    """PyTorch's W_ih and two biases, each of variance 1/(3H), add up to 1/H."""
    one, other = make_layer("rnn", 40), make_layer("rnn", 40)
    critical(one, generator(0))
    critical(other, generator(0), input_variance=1 / 40)
    assert torch.equal(one.weight_hh, other.weight_hh)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = torch.nn.RNNCell(1, 1000).state_dict()
    total = drawn["weight_ih"][:, 0] + drawn["bias_ih"] + drawn["bias_hh"]
    assert total.var().item() == pytest.approx(1 / 1000, rel=4 * math.sqrt(2 / 1000))


@pytest.mark.parametrize(("factor", "sign"), [(1.0, 0), (0.8, -1), (1.2, 1)])
def test_gradients_neither_vanish_nor_explode(factor, sign, make_layer, generator):
    """Adjoint of a linearised tanh RNN with N = 512 under inputs of variance R: its slope per step is ½ ln χ."""
    layer, rng, N, R = make_layer("rnn", 512), np.random.default_rng(0), 512, 0.1
    critical(layer, generator(0), input_variance=R)
    weight = factor * layer.weight_hh[0].numpy()
    states = [np.zeros(N)]
    for _ in range(160):
        states.append(np.tanh(weight @ states[-1] + math.sqrt(R) * rng.standard_normal(N)))
    adjoint, norms = rng.standard_normal(N), []
    for h in reversed(states[40:]):
        adjoint = weight.T @ ((1 - h * h) * adjoint)
        norms.append(math.log(np.linalg.norm(adjoint)))
    slope = np.polyfit(np.arange(len(norms)), norms, 1)[0]
    assert abs(slope) < 0.01 if sign == 0 else sign * slope > 0.02
