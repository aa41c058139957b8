"""uniform_gate and power_law: the distribution of the gate, and how much of a cell state survives k steps."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from goldfish.inits.power_law import power_law
from goldfish.inits.uniform_gate import uniform_gate

LAWS = [(uniform_gate, {}), (power_law, {}), (power_law, {"alpha": 1.5})]


@pytest.mark.parametrize(("init", "arguments"), LAWS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_only_the_keeping_gate_and_its_counterpart_are_set(cell, init, arguments, make_layer, generator):
    layer = make_layer(cell, 40)
    init(layer, generator(0), **arguments)
    bias = layer.bias_ih + layer.bias_hh
    assert bias[1].isfinite().all()
    if cell == "lstm":
        assert torch.equal(bias[0], -bias[1])
    else:
        assert layer.bias_ih[0].isnan().all()
    assert layer.bias_ih[2:].isnan().all()
    assert layer.weight_ih.isnan().all()
    assert layer.weight_hh.isnan().all()


@pytest.fixture
def wide_gate(make_layer, generator):
    def draw(init, **arguments):
        layer = make_layer("gru", 2000, 1)
        init(layer, generator(0), **arguments)
        return torch.sigmoid((layer.bias_ih + layer.bias_hh)[1]).numpy()

    return draw


def test_uniform_gate_is_uniform(wide_gate):
    gate = wide_gate(uniform_gate)
    assert stats.kstest(gate, stats.uniform(1 / 2000, 1 - 2 / 2000).cdf).pvalue > 1e-3
    assert gate.min() >= 1 / 2000 - 1e-12


@pytest.mark.parametrize("alpha", [0.56, 1.5])
def test_power_law_has_inverse_gamma_time_constants(alpha, wide_gate):
    constants = -1 / torch.log(torch.from_numpy(wide_gate(power_law, alpha=alpha))).numpy()
    assert stats.kstest(constants, stats.invgamma(alpha).cdf).pvalue > 1e-3


@pytest.mark.parametrize("k", [1, 10, 100])
@pytest.mark.parametrize(("init", "arguments", "exponent"), [(uniform_gate, {}, 1), (power_law, {"alpha": 1.5}, 1.5)])
def test_survival_is_a_power_law(k, init, arguments, exponent, wide_gate):
    """E[gate^k] = (1 + k)^-exponent, within five standard errors."""
    survival = wide_gate(init, **arguments) ** k
    assert survival.mean() == pytest.approx((1 + k) ** -exponent, abs=5 * survival.std() / 2000**0.5)
