"""unit_forget and chrono: which gate, which sign, which total, checked on torch.nn.LSTM and torch.nn.GRU themselves."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from goldfish.config.config import resolve
from goldfish.errors import ConfigError
from goldfish.inits.chrono import chrono
from goldfish.inits.unit_forget import unit_forget
from goldfish.recurrent import Recurrent

OTHERS = {"lstm": [0, 2, 3], "gru": [0, 2]}  # torch's gate order: i f g o, r z n; the keeping gate is number 1 of both


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("b_f", [1.0, 0.0, -2.5, 7.3])
def test_unit_forget_sets_the_total_bias_of_the_keeping_gate(cell, b_f, make_layer, generator):
    layer = make_layer(cell, dtype=torch.float32)
    unit_forget(layer, generator(0), b_f=b_f)
    assert ((layer.bias_ih + layer.bias_hh)[1] == torch.tensor(b_f)).all()
    assert not layer.bias_hh[1].any()
    assert layer.bias_ih[OTHERS[cell]].isnan().all()
    assert layer.weight_ih.isnan().all()
    assert layer.weight_hh.isnan().all()


@pytest.mark.parametrize("t_max", [3, 20, 1000])
def test_chrono_lstm_is_log_uniform_with_opposite_input_gate(t_max, make_layer, generator):
    layer = make_layer("lstm", 2000, 1)
    chrono(layer, generator(0), t_max=t_max)
    i, f = (layer.bias_ih + layer.bias_hh)[:2]
    assert torch.equal(i, -f)
    assert_log_uniform(f, t_max)
    assert not layer.bias_hh[:2].any()
    assert layer.bias_ih[2:].isnan().all()
    assert layer.weight_hh.isnan().all()


@pytest.mark.parametrize("t_max", [3, 20, 1000])
def test_chrono_gru_is_log_uniform_with_a_plus_sign(t_max, make_layer, generator):
    layer = make_layer("gru", 2000, 1)
    chrono(layer, generator(0), t_max=t_max)
    assert_log_uniform((layer.bias_ih + layer.bias_hh)[1], t_max)
    assert layer.bias_ih[[0, 2]].isnan().all()
    assert layer.weight_hh.isnan().all()


def assert_log_uniform(bias, t_max):
    lifetimes = bias.exp()
    assert lifetimes.min() >= 1 - 1e-12
    assert lifetimes.max() <= (t_max - 1) * (1 + 1e-12)
    assert stats.kstest(lifetimes.numpy(), stats.uniform(1, t_max - 2).cdf).pvalue > 1e-3


def test_chrono_takes_the_length_of_the_sequences(make_layer, generator):
    by_length, given = make_layer("lstm", sequence_length=80), make_layer("lstm", sequence_length=7)
    chrono(by_length, generator(0))
    chrono(given, generator(0), t_max=80)
    assert torch.equal(by_length.bias_ih[:2], given.bias_ih[:2])


@pytest.mark.parametrize(
    ("t_max", "sequence_length", "message"),
    [
        (None, None, "init.t_max=null: no sequence length is known here; expected int ≥ 3"),
        (2, 80, "init.t_max=2: expected int ≥ 3 or null"),
    ],
)
def test_chrono_without_a_usable_t_max_says_so(t_max, sequence_length, message, make_layer, generator):
    with pytest.raises(ConfigError) as caught:
        chrono(make_layer("gru", sequence_length=sequence_length), generator(0), t_max=t_max)
    assert str(caught.value) == message


@pytest.mark.parametrize("steps", [1, 2])
def test_chrono_of_sequences_without_a_past_is_zero(steps, make_layer, generator):
    layer = make_layer("lstm", sequence_length=steps)
    chrono(layer, generator(0))
    assert not (layer.bias_ih + layer.bias_hh)[:2].any()


def test_the_configuration_refuses_t_max_two():
    with pytest.raises(ConfigError, match=r"^init\.t_max=2: expected int ≥ 3 or null$"):
        resolve({"cell": "lstm", "init": {"name": "chrono", "t_max": 2}})


def module_with_biases_of(init, cell, **arguments):
    """torch.nn's own module with the biases of an initialisation and all weights 0: gates depend on biases alone."""
    recurrent = Recurrent(cell, 1, 16, dtype=torch.float64)
    recurrent.initialise(0, init, torch.Generator().manual_seed(0), 1000, **arguments)
    module = recurrent.to_torch(0)
    with torch.no_grad():
        for name in ("weight_ih_l0", "weight_hh_l0"):
            module.get_parameter(name).zero_()
    return module


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_a_gru_with_chrono_keeps_its_old_state(steps):
    """With n = 0, h_t = z^t h_0 and z = u/(1 + u): a unit of lifetime u forgets over about u steps."""
    module = module_with_biases_of(chrono, "gru")
    with torch.no_grad():
        module.bias_ih_l0[32:] = 0
        module.bias_hh_l0[32:] = 0
        _, h = module(torch.zeros(1, steps, 1).double(), torch.ones(1, 1, 16).double())
    lifetimes = module.bias_ih_l0.detach()[16:32].exp()
    assert torch.allclose(h[0, 0], (lifetimes / (1 + lifetimes)) ** steps, rtol=1e-12, atol=0)
    assert (h[0, 0][lifetimes > 500] > math.exp(-steps / 500)).all()
    assert (lifetimes > 500).any()


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_an_lstm_with_chrono_keeps_its_cell_state(steps):
    """f = u/(1 + u) and i = 1/(1 + u): c decays over about u steps and lets in only a u-th of g."""
    module = module_with_biases_of(chrono, "lstm")
    with torch.no_grad():
        start = (torch.zeros(1, 1, 16).double(), torch.ones(1, 1, 16).double())
        _, (_, c) = module(torch.zeros(1, steps, 1).double(), start)
    bias = (module.bias_ih_l0 + module.bias_hh_l0).detach()
    lifetimes, g = bias[16:32].exp(), bias[32:48].tanh()
    kept = (lifetimes / (1 + lifetimes)) ** steps
    assert torch.allclose(c[0, 0], kept + g * (1 - kept), rtol=1e-12, atol=1e-14)
    assert (kept[lifetimes > 500] > math.exp(-steps / 500)).all()
    assert (lifetimes > 500).any()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_large_forget_bias_integrates_and_a_negative_one_forgets(cell):
    ones, zeros = torch.ones(1, 1, 16).double(), torch.zeros(1, 1, 16).double()
    left = []
    for b_f in (20.0, -20.0):
        module = module_with_biases_of(unit_forget, cell, b_f=b_f)
        with torch.no_grad():
            content = slice(32, 48)  # g of the LSTM, n of the GRU: nothing new comes in
            module.bias_ih_l0[content] = 0
            module.bias_hh_l0[content] = 0
            final = module(torch.zeros(1, 100, 1).double(), (zeros, ones) if cell == "lstm" else ones)[1]
        left.append(final[1] if cell == "lstm" else final)
    assert (left[0] - 1).abs().max() < 1e-6
    assert left[1].abs().max() < 1e-6
