"""The properties by which each initialisation of W_hh is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from goldfish.inits.chain import chain
from goldfish.inits.feedback_chain import feedback_chain
from goldfish.inits.gaussian import gaussian
from goldfish.inits.identity import identity
from goldfish.inits.kaiming import kaiming
from goldfish.inits.orthogonal import orthogonal
from goldfish.inits.positive_definite import positive_definite
from goldfish.inits.pytorch import pytorch
from goldfish.inits.rotation import rotation
from goldfish.inits.shift import shift
from goldfish.inits.sparse import sparse
from goldfish.inits.xavier import xavier

every_cell = pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
sizes = pytest.mark.parametrize("hidden_size", [1, 2, 24, 33])


def untouched(layer, *names):
    return all(getattr(layer, name).isnan().all() for name in names)


def by_modulus(matrix):
    return np.sort(np.abs(np.linalg.eigvals(matrix.double().numpy())))


def test_pytorch_is_uniform_as_in_torch_nn(make_layer, generator):
    layer = make_layer("lstm", 64, 40)
    pytorch(layer, generator(0))
    for weight in (layer.weight_ih, layer.weight_hh, layer.bias_ih, layer.bias_hh):
        assert stats.kstest(weight.flatten().numpy(), stats.uniform(-1 / 8, 2 / 8).cdf).pvalue > 1e-3
    reference = torch.nn.LSTM(40, 64).state_dict()["weight_hh_l0"]
    assert abs(layer.weight_hh.std() / reference.std() - 1) < 0.03


@every_cell
def test_xavier_is_uniform_with_fans_of_one_gate(cell, make_layer, generator):
    layer = make_layer(cell, 96, 40)
    xavier(layer, generator(0), gain=1.5)
    for weight, fans in ((layer.weight_ih, 96 + 40), (layer.weight_hh, 96 + 96)):
        bound = 1.5 * math.sqrt(6 / fans)
        assert stats.kstest(weight.flatten().numpy(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
    reference = torch.nn.init.xavier_uniform_(torch.empty(96, 40), gain=1.5, generator=generator(1))
    assert abs(layer.weight_ih.std() / reference.std() - 1) < 0.05
    assert not layer.bias_ih.any()
    assert not layer.bias_hh.any()


@every_cell
def test_kaiming_is_normal_with_variance_two_over_fan_in(cell, make_layer, generator):
    layer = make_layer(cell, 96, 40)
    kaiming(layer, generator(0))
    for weight, fan_in in ((layer.weight_ih, 40), (layer.weight_hh, 96)):
        assert stats.kstest(weight.flatten().numpy(), stats.norm(0, math.sqrt(2 / fan_in)).cdf).pvalue > 1e-3
    reference = torch.nn.init.kaiming_normal_(torch.empty(96, 40), nonlinearity="relu", generator=generator(1))
    assert abs(layer.weight_ih.std() / reference.std() - 1) < 0.05
    assert not layer.bias_ih.any()
    assert not layer.bias_hh.any()


@every_cell
@sizes
def test_orthogonal_keeps_norms_up_to_gain(cell, hidden_size, make_layer, generator):
    layer = make_layer(cell, hidden_size, dtype=torch.float32)
    orthogonal(layer, generator(0), gain=1.25)
    for weight in layer.weight_hh.double():
        assert (weight.mT @ weight - 1.25**2 * torch.eye(hidden_size)).abs().max() < 1e-6
    assert untouched(layer, "weight_ih", "bias_ih", "bias_hh")


def test_orthogonal_is_uniform_over_the_group(make_layer, generator):
    """Haar: either determinant, E[Q] = 0, E[tr Q] = 0, E[(tr Q)²] = 1; without the sign fix tr Q is biased."""
    source, matrices = generator(0), []
    for _ in range(1000):
        layer = make_layer("lstm", 5)
        orthogonal(layer, source)
        matrices.append(layer.weight_hh)
    drawn = torch.cat(matrices)
    traces = drawn.diagonal(dim1=1, dim2=2).sum(-1)
    assert abs((torch.linalg.det(drawn) > 0).double().mean() - 0.5) < 4 * 0.5 / math.sqrt(4000)
    assert drawn.mean(0).abs().max() < 4.5 * math.sqrt(1 / 5 / 4000)
    assert abs(traces.mean()) < 4 / math.sqrt(4000)
    assert abs((traces**2).mean() - 1) < 4 * math.sqrt(2 / 4000)


@every_cell
def test_identity_is_the_irnn(cell, make_layer, generator):
    layer = make_layer(cell, 64, 50)
    identity(layer, generator(0), scale=0.5)
    assert all(torch.equal(weight, 0.5 * torch.eye(64, dtype=torch.float64)) for weight in layer.weight_hh)
    assert stats.kstest(layer.weight_ih.flatten().numpy(), stats.norm(0, 0.001).cdf).pvalue > 1e-3
    assert not layer.bias_ih.any()
    assert not layer.bias_hh.any()


def test_identity_leaves_the_input_weights_when_told_to(make_layer, generator):
    layer, source = make_layer(), generator(0)
    identity(layer, source, input_std=None)
    assert untouched(layer, "weight_ih")
    assert torch.equal(source.get_state(), generator(0).get_state())


@every_cell
def test_gaussian_has_the_stated_variances(cell, make_layer, generator):
    layer = make_layer(cell, 256, 60)
    gaussian(layer, generator(0), sigma_w=1.7, sigma_u=0.4, sigma_b=0.3)
    expected = ((layer.weight_hh, 1.7 / 16), (layer.weight_ih, 0.4 / math.sqrt(60)), (layer.bias_ih, 0.3))
    for weight, std in expected:
        assert stats.kstest(weight.flatten().numpy(), stats.norm(0, std).cdf).pvalue > 1e-3
    assert abs(layer.weight_hh.var() * 256 / 1.7**2 - 1) < 4 * math.sqrt(2 / layer.weight_hh.numel())
    assert not layer.bias_hh.any()


def test_gaussian_replaces_only_the_recurrent_weights_by_default(make_layer, generator):
    layer = make_layer("gru")
    gaussian(layer, generator(0))
    assert untouched(layer, "weight_ih", "bias_ih", "bias_hh")


@every_cell
@pytest.mark.parametrize(("nonzeros", "hidden_size"), [(15, 50), (15, 33), (1, 24), (40, 33)])
def test_sparse_has_its_nonzeros_and_its_spectral_radius(cell, nonzeros, hidden_size, make_layer, generator):
    layer = make_layer(cell, hidden_size)
    sparse(layer, generator(0), nonzeros=nonzeros, spectral_radius=1.1)
    for weight in layer.weight_hh:
        assert ((weight != 0).sum(1) == min(nonzeros, hidden_size)).all()
        assert by_modulus(weight)[-1] == pytest.approx(1.1, rel=1e-9)
    assert untouched(layer, "weight_ih", "bias_ih", "bias_hh")


def test_sparse_chooses_every_connection_equally_often(make_layer, generator):
    layer, source, counts = make_layer("rnn", 10), generator(0), torch.zeros(10, 10)
    for _ in range(1000):
        sparse(layer, source, nonzeros=3)
        counts += layer.weight_hh[0] != 0
    assert (counts / 1000 - 0.3).abs().max() < 4.5 * math.sqrt(0.3 * 0.7 / 1000)


def test_sparse_with_input_std_is_smart_tanh(make_layer, generator):
    layer = make_layer("rnn", 50, 60)
    sparse(layer, generator(0), input_std=0.01)
    assert stats.kstest(layer.weight_ih.flatten().numpy(), stats.norm(0, 0.01).cdf).pvalue > 1e-3
    assert by_modulus(layer.weight_hh[0])[-1] == pytest.approx(0.95, rel=1e-9)
    assert not layer.bias_ih.any()
    assert not layer.bias_hh.any()


@every_cell
@sizes
def test_shift_moves_every_unit_on_by_one(cell, hidden_size, make_layer, generator):
    layer = make_layer(cell, hidden_size)
    shift(layer, generator(0))
    h = torch.arange(hidden_size, dtype=torch.float64)
    for weight in layer.weight_hh:
        assert (weight @ h).tolist() == [(k - 1) % hidden_size for k in range(hidden_size)]
        found = np.linalg.eigvals(weight.numpy())
        roots = np.exp(2j * np.pi * np.arange(hidden_size) / hidden_size)
        assert all(np.abs(found - root).min() < 1e-12 for root in roots)
    assert untouched(layer, "weight_ih", "bias_ih", "bias_hh")


def test_shift_scales(make_layer, generator):
    layer = make_layer("rnn", 7)
    shift(layer, generator(0), scale=0.9)
    power = torch.linalg.matrix_power(layer.weight_hh[0], 7)
    assert torch.allclose(power, 0.9**7 * torch.eye(7, dtype=torch.float64), rtol=0, atol=1e-15)


@every_cell
@sizes
def test_positive_definite_has_largest_eigenvalue_one(cell, hidden_size, make_layer, generator):
    layer = make_layer(cell, hidden_size)
    positive_definite(layer, generator(0))
    for weight in layer.weight_hh:
        assert torch.equal(weight, weight.mT)
        eigenvalues = np.linalg.eigvalsh(weight.numpy())
        assert eigenvalues[-1] == pytest.approx(1, rel=1e-12)
        assert eigenvalues[0] > 0
    assert untouched(layer, "weight_ih")
    assert not layer.bias_ih.any()
    assert not layer.bias_hh.any()


def test_positive_definite_spectrum_is_that_of_marchenko_and_pastur(make_layer, generator):
    """A = RᵀR/H has eigenvalues on [0, 4] with mean 1, so W_hh has them on [1, 5]/5 with mean 2/5."""
    layer = make_layer("rnn", 400)
    positive_definite(layer, generator(0))
    eigenvalues = np.linalg.eigvalsh(layer.weight_hh[0].numpy())
    assert eigenvalues[0] == pytest.approx(0.2, abs=0.01)
    assert eigenvalues.mean() == pytest.approx(0.4, abs=0.01)


@every_cell
@sizes
def test_rotation_turns_pairs_of_units(cell, hidden_size, make_layer, generator):
    layer = make_layer(cell, hidden_size)
    rotation(layer, generator(0))
    for weight in layer.weight_hh:
        assert (weight.mT @ weight - torch.eye(hidden_size)).abs().max() < 1e-15
        assert torch.linalg.det(weight).item() == pytest.approx(1, rel=1e-12)
        blocks = [weight[k : k + 2, k : k + 2] for k in range(0, hidden_size, 2)]
        assert torch.equal(torch.block_diag(*blocks), weight)
        assert all(torch.linalg.det(block).item() == pytest.approx(1, rel=1e-12) for block in blocks)
        assert hidden_size % 2 == 0 or weight[-1, -1] == 1
    assert untouched(layer, "weight_ih", "bias_ih", "bias_hh")


@pytest.mark.parametrize("max_angle", [math.pi, 0.5])
def test_rotation_angles_are_uniform(max_angle, make_layer, generator):
    layer = make_layer("lstm", 400)
    rotation(layer, generator(0), max_angle=max_angle)
    first = torch.arange(0, 400, 2)
    angles = torch.atan2(layer.weight_hh[:, first + 1, first], layer.weight_hh[:, first, first]).flatten()
    assert stats.kstest(angles.numpy(), stats.uniform(-max_angle, 2 * max_angle).cdf).pvalue > 1e-3


def test_rotation_by_nothing_is_the_identity(make_layer, generator):
    layer = make_layer("rnn", 9)
    rotation(layer, generator(0), max_angle=0.0)
    assert torch.equal(layer.weight_hh[0], torch.eye(9, dtype=torch.float64))


@every_cell
@sizes
def test_chain_passes_its_content_on_and_forgets_it_at_the_end(cell, hidden_size, make_layer, generator):
    """Powers of the chain: after k steps, scale^k, k units further on; after H, nothing."""
    layer = make_layer(cell, hidden_size, 5)
    chain(layer, generator(0), scale=1.02)
    for matrix in layer.weight_hh.numpy():
        for k in range(hidden_size + 1):
            expected = 1.02**k * np.eye(hidden_size, k=-k)
            np.testing.assert_allclose(np.linalg.matrix_power(matrix, k), expected, rtol=1e-12)
    np.testing.assert_array_equal(
        layer.weight_ih.numpy(), np.broadcast_to(0.9 * np.eye(hidden_size, 5), layer.weight_ih.shape)
    )
    assert untouched(layer, "bias_ih", "bias_hh")


def test_feedback_chain_has_the_eigenvalues_of_a_tridiagonal_matrix(make_layer, generator):
    """2 √(scale · feedback) cos(π j / (H + 1)), j = 1 … H, the closed form of a tridiagonal Toeplitz matrix."""
    layer = make_layer("rnn", 24)
    feedback_chain(layer, generator(0), scale=0.99, feedback=0.04)
    expected = 2 * math.sqrt(0.99 * 0.04) * np.cos(np.pi * np.arange(1, 25) / 25)
    diagonal = np.diag(0.2 ** np.arange(24))  # a similar matrix that is nearly symmetric: its eigenvalues are stable
    similar = diagonal @ layer.weight_hh[0].numpy() @ np.linalg.inv(diagonal)
    np.testing.assert_allclose(np.sort(np.linalg.eigvals(similar).real), np.sort(expected), atol=1e-12)
    assert untouched(layer, "bias_ih", "bias_hh")


def test_chains_leave_pytorchs_input_weights_where_asked_to(make_layer, generator):
    layer = make_layer("gru")
    feedback_chain(layer, generator(0), input_scale=None)
    assert untouched(layer, "weight_ih")
