"""Closed forms against other ways to the same number: Jacobians of torch.nn's cells, scipy's distributions, print."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from goldfish.errors import ConfigError
from goldfish.theory import survival
from goldfish.theory.critical_gain import critical_gain, decay_per_step
from goldfish.theory.spectral_radius import spectral_radius

H = 300


def radius_at_zero(cell: str, gain: float, bias: float) -> float:
    """ρ of ∂(h, c)_t/∂(h, c)_{t-1} of a torch.nn cell at zero state and zero input."""
    torch.manual_seed(0)
    module = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[cell](1, H).double()
    with torch.no_grad():
        module.weight_hh.normal_(std=gain / math.sqrt(H))
        module.bias_ih.zero_()
        module.bias_hh.zero_()
        if cell != "rnn":
            module.bias_ih[H : 2 * H] = bias  # f of i f g o, z of r z n
    inputs = torch.zeros(1, 1, dtype=torch.float64)

    def step(state):
        states = tuple(state.view(-1, 1, H))
        after = module(inputs, states if cell == "lstm" else states[0])
        return torch.cat(after).flatten() if cell == "lstm" else after.flatten()

    zero = torch.zeros(H * (2 if cell == "lstm" else 1), dtype=torch.float64)
    return float(torch.linalg.eigvals(torch.func.jacrev(step)(zero).detach()).abs().max())


@pytest.mark.parametrize("bias", [0.0, 1.0, -2.0])
@pytest.mark.parametrize("gain", [0.25, 1 / math.sqrt(3), 1.0, 2.0])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_decay_per_step_is_the_jacobians_spectral_radius(cell, gain, bias):
    """To 5 %: at H = 300 the circular law's edge is blurred by about 1/√H."""
    assert radius_at_zero(cell, gain, bias) == pytest.approx(decay_per_step(cell, gain, bias), rel=0.05)


def test_pytorchs_gain_as_in_print():
    """U(±1/√H) has g = 1/√3."""
    found = [decay_per_step(cell, 1 / math.sqrt(3)) for cell in ("rnn", "lstm", "gru")]
    assert found == pytest.approx([0.577, 0.644, 0.644], abs=5e-4)


@pytest.mark.parametrize("bias", [-3.0, 0.0, 2.0])
@pytest.mark.parametrize(("cell", "at_zero_bias"), [("rnn", 1.0), ("lstm", 2.0), ("gru", 2.0)])
def test_nothing_decays_at_the_critical_gain(cell, at_zero_bias, bias):
    assert critical_gain(cell) == at_zero_bias
    assert decay_per_step(cell, critical_gain(cell, bias), bias) == pytest.approx(1, rel=1e-12)


def test_unknown_cells_and_negative_gains_are_refused():
    with pytest.raises(ConfigError, match=r"cell=gr: .*gru"):
        critical_gain("gr")
    with pytest.raises(ConfigError, match=r"gain=-1: expected float ≥ 0"):
        decay_per_step("rnn", -1)


LAGS = [0, 1, 3, 10, 100, 1000]


@pytest.mark.parametrize("k", LAGS)
@pytest.mark.parametrize("bias", [-1.0, 0.0, 3.0])
def test_a_constant_bias_forgets_exponentially(k, bias):
    expected = torch.sigmoid(torch.tensor(bias, dtype=torch.float64)) ** k
    assert float(survival.constant(k, bias)) == pytest.approx(float(expected), rel=1e-11)


@pytest.mark.parametrize("k", LAGS)
@pytest.mark.parametrize("width", [None, 2, 3, 32, 512])
def test_uniform_gates(k, width):
    law = stats.uniform(0, 1) if width is None else stats.uniform(1 / width, max(1 - 2 / width, 1e-9))
    assert float(survival.uniform(k, width)) == pytest.approx(law.expect(lambda u: u**k), rel=1e-6)


@pytest.mark.parametrize("k", LAGS)
@pytest.mark.parametrize("alpha", [0.56, 1.0, 1.5])
def test_inverse_gamma_time_constants(k, alpha):
    expected = stats.gamma(alpha).expect(lambda rate: np.exp(-k * rate), epsrel=1e-10, limit=500)
    assert float(survival.inverse_gamma(k, alpha)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("k", "printed"), [(1, 0.960), (10, 0.732), (100, 0.150)])
def test_chrono_as_in_print(k, printed):
    assert float(survival.chrono(k, 100)) == pytest.approx(printed, abs=1e-3)


def test_chrono_against_a_sum_over_a_fine_grid():
    u = 1 + (np.arange(200_000) + 0.5) / 200_000 * 48
    found = survival.chrono(LAGS, 50)
    np.testing.assert_allclose(found, [np.mean((u / (1 + u)) ** k) for k in LAGS], rtol=1e-6)
    assert found[0] == 1
    np.testing.assert_allclose(survival.chrono([0, 1, 2], 2), [1, 0.5, 0.25])


def test_laws_take_many_lags_at_once():
    lags = np.arange(6).reshape(2, 3)
    laws = [survival.constant(lags, 1.0), survival.uniform(lags, 32), survival.inverse_gamma(lags, 1.0)]
    assert [law.shape for law in (*laws, survival.chrono(lags, 9))] == [(2, 3)] * 4


@pytest.mark.parametrize(("size", "mean", "above"), [(32, 1.069, 0.81), (64, 1.057, 0.90)])
def test_spectral_radius_of_gaussian_weights(size, mean, above):
    """Against values computed elsewhere, within four standard errors and their rounding."""
    found = spectral_radius(size, draws=400, seed=1)
    assert found.mean == pytest.approx(mean, abs=4 * found.mean_error + 5e-4)
    assert found.above_one == pytest.approx(above, abs=4 * found.above_one_error + 5e-3)
