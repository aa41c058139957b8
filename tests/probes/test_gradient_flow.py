"""Gradient flow against closed forms and theory, and what it promises about the run it measures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.engines.reference import Case, Tensors, Unrolled, each_case, gradient, relative_log2
from torch import Tensor

import goldfish
from goldfish.recurrent import Recurrent

ENGINES = ("eager", "stepwise", "cpu")
each_engine = pytest.mark.parametrize("engine", ENGINES)


def _log2_norms(recurrent: Recurrent, inputs: Tensor, on_last: Tensor, state: Any = None) -> Tensors:
    """Of the loss on_last · h_T."""
    outputs, _ = recurrent(inputs, state)
    with goldfish.gradient_flow(recurrent) as flow:
        (outputs[:, :, -1] * on_last).sum().backward()
    return flow.log2_norm


def _set(recurrent: Recurrent, **values: Tensor | float) -> None:
    """Every parameter to zero but those given, first layer."""
    with torch.no_grad():
        for parameter in recurrent.parameters():
            parameter.zero_()
        for name, value in values.items():
            recurrent.get_parameter(f"{name}_l0").add_(value)


# Closed forms


@each_engine
def test_identity_rnn(engine: str) -> None:
    """dL/dh_{T-k} = (Wᵀ)^k g_T, powers taken by torch.linalg."""
    torch.manual_seed(0)
    R, B, T, D, H = 2, 3, 40, 2, 6
    recurrent = Recurrent("rnn", D, H, replicas=R, nonlinearity="identity", engine=engine, dtype=torch.float64)
    on_last = torch.randn(R, B, H).double()
    found = _log2_norms(recurrent, torch.randn(R, B, T, D).double(), on_last)
    W = recurrent.get_parameter("weight_hh_l0").detach()
    for k in range(T):
        expected = torch.linalg.norm(on_last @ torch.linalg.matrix_power(W, k), dim=-1)
        torch.testing.assert_close(2 ** found["h"][:, 0, :, T - 1 - k], expected, rtol=1e-12, atol=0)
    assert torch.equal(found["h"], found["state"])


@pytest.mark.parametrize("gain", [3.0, 1.0, 0.1])
@each_engine
def test_orthogonal_weights_scale_every_step_alike(engine: str, gain: float) -> None:
    """‖dL/dh_{T-k}‖ = gain^k ‖g_T‖, also where that is 3^999 or 10^-999, which no float64 can hold."""
    torch.manual_seed(1)
    B, T, H = 2, 1000, 8
    recurrent = Recurrent("rnn", 1, H, nonlinearity="identity", engine=engine, dtype=torch.float64)
    Q, _ = torch.linalg.qr(torch.randn(H, H).double())
    _set(recurrent, weight_hh=gain * Q)
    on_last = torch.randn(1, B, H).double()
    found = _log2_norms(recurrent, torch.zeros(1, B, T, 1).double(), on_last)
    lag = torch.arange(T - 1, -1, -1).double()
    expected = on_last.norm(dim=-1).log2().unsqueeze(-1) + lag * math.log2(gain)
    torch.testing.assert_close(found["h"][:, 0], expected, rtol=0, atol=1e-10)


@each_engine
def test_active_relu_is_linear_and_a_dead_one_stops_everything(engine: str) -> None:
    """Permutation weights, positive states: norms stay at 1. Where one input kills all units: -inf before it."""
    T, H, dead = 30, 5, 12
    recurrent = Recurrent("rnn", 1, H, nonlinearity="relu", engine=engine)
    _set(recurrent, weight_hh=torch.eye(H).roll(1, 0), weight_ih=1.0)
    inputs = torch.full((1, 2, T, 1), 0.5)
    inputs[0, 1, dead] = -100.0  # sample 1: every unit is dead at this step
    on_last = torch.nn.functional.one_hot(torch.tensor([[2, 4]]), H)
    found = _log2_norms(recurrent, inputs, on_last.float())["h"][0, 0]
    assert torch.equal(found[0], torch.zeros(T).double())
    assert torch.equal(found[1, dead:], torch.zeros(T - dead).double())  # dL/dh_dead itself is not zero
    assert torch.isneginf(found[1, :dead]).all()


# Mean-field theory: Chen, Pennington, Schoenholz, "Dynamical isometry and a mean field theory of RNNs", ICML 2018


@pytest.mark.parametrize(
    ("sigma_w", "variance", "slope"), [(0.5, 0.0, -0.6931), (1.0, 0.1, -0.1864), (1.5, 0.1, 0.0262)], ids=str
)
def test_mean_field_slope(sigma_w: float, variance: float, slope: float) -> None:
    """tanh RNN, W_ij ~ N(0, variance σ_w²/N), independent Gaussian inputs: ln‖dL/dh_t‖ changes by ½ ln χ per step.

    N = 256, 16 networks, the first 20 steps dropped as transient; the mean slope to .01.
    """
    N, R, B, T, transient = 256, 16, 2, 60, 20
    torch.manual_seed(0)
    recurrent = Recurrent("rnn", N, N, replicas=R)
    _set(recurrent, weight_ih=torch.eye(N), weight_hh=torch.randn(R, N, N) * sigma_w / math.sqrt(N))
    inputs = torch.randn(R, B, T, N) * math.sqrt(variance)
    norms = _log2_norms(recurrent, inputs, torch.randn(R, B, N))["h"] * math.log(2)
    kept = norms[:, 0, :, transient:].mean((0, 1))
    lag = torch.arange(len(kept) - 1, -1, -1).double()
    centred = lag - lag.mean()
    measured = float((centred * kept).sum() / (centred * centred).sum())
    print(f"σ_w {sigma_w} R {variance}: measured {measured:.4f}, theory {slope}")
    assert measured == pytest.approx(slope, abs=0.01)


# What float32 keeps


def _saturate(recurrent: Recurrent, bias: float) -> None:
    """Push gates to their ends: tanh units of the RNN, f and o of the LSTM up and i down, z of the GRU."""
    H = recurrent.cell.hidden_size
    pushed = {"h": bias, "f": bias, "o": bias, "i": -bias, "z": bias, "n": bias}
    with torch.no_grad():
        for index, gate in enumerate(recurrent.cell.gates):
            recurrent.get_parameter("bias_ih_l0")[:, index * H : (index + 1) * H] += pushed.get(gate, 0.0)


@each_case
def test_saturated_units_keep_their_gradient(case: Case) -> None:
    """At a pre-activation of 9, 1 - h² is 6e-8 and 1 - z 1e-4: float32 activations have no digits of it left."""
    torch.manual_seed(2)
    B, T, D, H = 2, 30, 3, 8
    recurrent = case.build(D, H)
    _saturate(recurrent, 9.0)
    inputs, on_last = torch.randn(1, B, T, D), torch.randn(1, B, H)
    found = _log2_norms(recurrent, inputs, on_last)
    unrolled = Unrolled(recurrent, 0, inputs[0], {name: torch.zeros(1, B, H) for name in recurrent.cell.states})
    (unrolled.outputs[:, -1] * on_last[0].double()).sum().mul(2.0**500).backward()
    for name, expected in unrolled.log2_norms(500).items():
        assert relative_log2(found[name][0], expected) <= 1e-4, name


@each_case
def test_a_sample_without_a_loss_has_no_gradient(case: Case) -> None:
    """Masked samples are -inf throughout; a loss before the end leaves the later steps at -inf, only those."""
    torch.manual_seed(3)
    recurrent = case.build(3, 5, num_layers=2)
    outputs, _ = recurrent(torch.randn(1, 3, 12, 3) + 0.5)
    with goldfish.gradient_flow(recurrent) as flow:
        (outputs[0, 1, 7].square().sum() + outputs[0, 2, 11].square().sum()).backward()
    last = torch.tensor([-1, 7, 11]).unsqueeze(-1)
    nothing = torch.arange(12) > last
    assert recurrent.cell.states[0] == "h"
    for name, norm in flow.log2_norm.items():
        assert norm.shape == (1, 2, 3, 12)
        assert norm.dtype == torch.float64
        for layer in range(2):
            assert torch.equal(torch.isneginf(norm[0, layer]), nothing), name


# What it promises about the run


@each_case
def test_gradients_are_the_same_bits_with_and_without(case: Case) -> None:
    torch.manual_seed(4)
    recurrent = case.build(3, 9, num_layers=2, replicas=2)
    data = torch.randn(2, 3, 20, 3)
    found = []
    for measured in (False, True, False):
        inputs = data.clone().requires_grad_()
        recurrent.zero_grad()
        outputs, final = recurrent(inputs)
        loss = outputs.square().sum() + torch.stack([value.sum() for value in final.values()]).sum()
        if measured:
            with goldfish.gradient_flow(recurrent) as flow:
                loss.backward()
            assert set(flow.log2_norm) == {*recurrent.cell.states, "state"}
        else:
            loss.backward()
        found.append([gradient(inputs), *(gradient(parameter) for parameter in recurrent.parameters())])
    for first, second, third in zip(*found, strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, third)


@each_engine
def test_shapes_and_a_sum_over_samples(engine: str) -> None:
    """(R, L, B, T), and each sample's norms are those of its own loss: twice the loss of one, its norms up by one."""
    torch.manual_seed(5)
    recurrent = Recurrent("lstm", 3, 7, num_layers=2, replicas=2, engine=engine, dtype=torch.float64)
    inputs, on_last = torch.randn(2, 4, 9, 3).double(), torch.randn(2, 4, 7).double()
    found = _log2_norms(recurrent, inputs, on_last)
    doubled = on_last.clone()
    doubled[1, 2] *= 2
    for name, norm in _log2_norms(recurrent, inputs, doubled).items():
        expected = found[name].clone()
        expected[1, :, 2] += 1
        assert norm.shape == (2, 2, 4, 9)
        torch.testing.assert_close(norm, expected, rtol=0, atol=1e-12)


def _loss(recurrent: Recurrent) -> Tensor:
    outputs, _ = recurrent(torch.ones(1, 2, 4, 3))
    return outputs.sum()


@each_engine
def test_without_a_backward_pass(engine: str) -> None:
    recurrent = Recurrent("gru", 3, 4, engine=engine)
    _loss(recurrent).backward()  # outside: does not count
    with goldfish.gradient_flow(recurrent) as flow, pytest.raises(RuntimeError, match="no backward pass"):
        _ = flow.log2_norm
    with pytest.raises(RuntimeError, match="no backward pass"):
        _ = flow.log2_norm


@each_engine
def test_two_backward_passes(engine: str) -> None:
    """Refused; the network can be measured again afterwards."""
    recurrent = Recurrent("gru", 3, 4, engine=engine)
    with goldfish.gradient_flow(recurrent):
        _loss(recurrent).backward()
        second = _loss(recurrent)
        with pytest.raises(RuntimeError, match="two backward passes"):
            second.backward()
    with goldfish.gradient_flow(recurrent) as flow:
        _loss(recurrent).backward()
    assert torch.isfinite(flow.log2_norm["h"]).all()


@each_engine
def test_nested(engine: str) -> None:
    """Refused on the same network, allowed on two."""
    one, other = Recurrent("rnn", 3, 4, engine=engine), Recurrent("rnn", 3, 4, engine=engine)
    with goldfish.gradient_flow(one) as outer:
        with pytest.raises(RuntimeError, match="already open"), goldfish.gradient_flow(one):
            pass
        with goldfish.gradient_flow(other) as inner:
            (_loss(one) + _loss(other)).backward()
    assert outer.log2_norm["h"].shape == inner.log2_norm["h"].shape
    assert not torch.equal(outer.log2_norm["h"], inner.log2_norm["h"])


@each_engine
def test_an_error_inside_closes_it(engine: str) -> None:
    """And what was measured stays with its context: a later one does not overwrite it."""
    recurrent = Recurrent("rnn", 3, 4, engine=engine)
    with pytest.raises(ZeroDivisionError), goldfish.gradient_flow(recurrent):
        raise ZeroDivisionError
    with goldfish.gradient_flow(recurrent) as first:
        _loss(recurrent).backward()
    kept = first.log2_norm["h"].clone()
    with goldfish.gradient_flow(recurrent) as second:
        (_loss(recurrent) * 4).backward()
    assert torch.equal(first.log2_norm["h"], kept)
    torch.testing.assert_close(second.log2_norm["h"], kept + 2)
