"""The mean field of gated cells against closed forms at zero state, simulation, and measured gradients."""

from __future__ import annotations

import math

import pytest
import torch

from goldfish.errors import ConfigError
from goldfish.probes.jacobian import long_range_norm
from goldfish.recurrent import Recurrent
from goldfish.theory.critical_gain import decay_per_step
from goldfish.theory.gated_mean_field import gated_mean_field

CELLS = ["lstm", "gru"]


@pytest.mark.parametrize("bias", [0.0, 2.0])
@pytest.mark.parametrize("gain", [0.25, 1 / math.sqrt(3), 1.0])
@pytest.mark.parametrize("cell", CELLS)
def test_without_inputs_it_is_the_closed_form_at_zero_state(cell, gain, bias):
    keep = 1 / (1 + math.exp(-bias))
    renew = gain / 4 if cell == "lstm" else (1 - keep) * gain / 2
    found = gated_mean_field(cell, gain, bias=bias)
    assert found.square == 0
    assert found.decay == pytest.approx(decay_per_step(cell, gain, bias), rel=1e-9)
    assert found.decay_untied == pytest.approx(math.hypot(keep, renew), rel=1e-9)


def wide_network(cell, gain, bias, input_variance, H=384, D=64, T=60):
    torch.manual_seed(0)
    recurrent = Recurrent(cell, D, H)
    with torch.no_grad():
        recurrent.get_parameter("weight_hh_l0").normal_(std=gain / math.sqrt(H))
        recurrent.get_parameter("weight_ih_l0").normal_(std=1 / math.sqrt(D))
        recurrent.get_parameter("bias_ih_l0").zero_()
        recurrent.get_parameter("bias_hh_l0").zero_()
        recurrent.get_parameter("bias_ih_l0")[:, H : 2 * H] = bias
    return recurrent, math.sqrt(input_variance) * torch.randn(1, 2, T, D)


SETTINGS = [
    ("gru", 0.577, 0.0),
    ("gru", 1.0, 2.0),
    ("gru", 2.0, 0.0),
    ("lstm", 0.577, 0.0),
    ("lstm", 1.0, 0.0),
    ("lstm", 1.5, 0.0),
]


@pytest.mark.parametrize(("cell", "gain", "bias"), SETTINGS)
def test_decay_is_that_of_measured_gradients(cell, gain, bias):
    """To 2.5 % at H = 384, with inputs of variance one; with untied weights it is off more than twice as far."""
    recurrent, inputs = wide_network(cell, gain, bias, 1.0)
    norms = long_range_norm(recurrent, inputs, draws=8).log2_norm[0].mean(0)
    measured = 2 ** float((norms[-11] - norms[-41]) / -30)
    found = gated_mean_field(cell, gain, bias=bias, input_variance=1.0)
    assert found.decay == pytest.approx(measured, rel=0.025)
    assert abs(found.decay_untied - measured) > 2 * abs(found.decay - measured)


@pytest.mark.parametrize("cell", CELLS)
def test_mean_square_of_the_state_is_that_of_a_wide_network(cell):
    recurrent, inputs = wide_network(cell, 0.577, 1.0, 1.0)
    with torch.no_grad():
        outputs, _ = recurrent(inputs)
    expected = gated_mean_field(cell, 0.577, bias=1.0, input_variance=1.0).square
    assert float((outputs[:, :, 20:] ** 2).mean()) == pytest.approx(expected, rel=0.04)


def test_a_cell_without_gates_is_refused():
    with pytest.raises(ConfigError, match="cell=rnn: "):
        gated_mean_field("rnn", 1.0)
