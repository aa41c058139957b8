"""State Jacobians, their products, exponents and Fisher memory against torch.func, SVDs and closed forms."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from goldfish.config import registry
from goldfish.probes import fisher_memory, jacobian
from goldfish.probes import lyapunov as exponents
from goldfish.probes.fisher_memory import fisher_memory_curve, total_fisher_memory
from goldfish.probes.jacobian import log_singular_values, long_range_norm, step_jacobians, trajectories
from goldfish.probes.lyapunov import kaplan_yorke, lyapunov
from goldfish.recurrent import Recurrent
from goldfish.tasks.recall import Recall

CELLS = registry.names("cell")
TORCH = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}


def network(cell, *, input_size=3, hidden_size=5, replicas=2, **arguments):
    torch.manual_seed(1)
    return Recurrent(cell, input_size, hidden_size, replicas=replicas, dtype=torch.float64, **arguments)


def inputs_of(replicas=2, B=3, T=7, D=3, seed=2):
    return torch.randn(replicas, B, T, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", sorted(set(CELLS) & set(TORCH)))
def test_step_jacobians_are_those_of_torch_nn(cell, num_layers):
    """Every entry, every step, every layer, by torch.func.jacrev through torch.nn's own cell."""
    recurrent, H = network(cell, num_layers=num_layers), 5
    for index, layer in enumerate(trajectories(recurrent, inputs_of())):
        module = TORCH[cell](layer.projected.shape[-1], H).double()
        with torch.no_grad():  # W_ih x_t + b_ih comes as input
            module.weight_ih.copy_(torch.eye(layer.projected.shape[-1]))
            module.bias_ih.zero_()
            module.weight_hh.copy_(recurrent.layer_weights(index).weight_hh[1])
            module.bias_hh.copy_(recurrent.layer_weights(index).bias_hh[1])

        def step(state, projected, module=module):
            parts = tuple(part.unsqueeze(0) for part in state.split(H))
            after = module(projected.unsqueeze(0), parts if cell == "lstm" else parts[0])
            return torch.cat(after, dim=-1).flatten() if cell == "lstm" else after.flatten()

        found = step_jacobians(layer, 2, 6)
        assert found.shape == (2, 4, 3, layer.size, layer.size)
        for t in range(2, 6):
            before = torch.cat([state[1, t, 2] for state in layer.states])
            expected = torch.func.jacrev(step)(before, layer.projected[1, t, 2]).detach()
            torch.testing.assert_close(found[1, t - 2, 2], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS)
def test_rows_by_hand_are_those_by_autograd(cell, monkeypatch):
    layer = trajectories(network(cell), inputs_of())[0]
    by_hand = step_jacobians(layer)
    monkeypatch.setattr(jacobian, "HandDerivedCell", ())
    torch.testing.assert_close(by_hand, step_jacobians(layer), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS)
def test_long_range_norms_estimate_the_products_norm(cell):
    recurrent, inputs = network(cell), inputs_of()
    jacobians = step_jacobians(trajectories(recurrent, inputs)[0])
    found = long_range_norm(recurrent, inputs, draws=500)
    product = torch.eye(jacobians.shape[-1], dtype=torch.float64)
    for t in range(6, -1, -1):
        error = (torch.exp2(found.log2_norm[:, :, t]) / torch.linalg.matrix_norm(product) - 1).abs()
        assert (error < 5 * found.relative_error[:, :, t]).all()
        product = product @ jacobians[:, t]
    assert found.relative_error.max() < 0.1


def test_long_range_norms_do_not_underflow():
    """h_t = h_{t-1}/1000: the norm at lag k is √H · 1000^-k, in float32, down to 1e-600."""
    recurrent = Recurrent("rnn", 1, 4, nonlinearity="identity")
    with torch.no_grad():
        recurrent.get_parameter("weight_hh_l0").copy_(torch.eye(4) / 1000)
    found = long_range_norm(recurrent, torch.zeros(1, 1, 200, 1), draws=64)
    expected = math.log2(2) - torch.arange(199, -1, -1) * math.log2(1000)
    assert (found.log2_norm[0, 0] - expected).abs().max() < 0.5
    torch.testing.assert_close(
        found.log2_norm[0, 0].diff(), torch.full((199,), math.log2(1000), dtype=torch.float64), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("K", [1, 3, 40])
def test_singular_values_of_a_product(K):
    factors = torch.randn(2, K, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    exact = torch.eye(6, dtype=torch.float64)
    for factor in factors.unbind(1):
        exact = factor @ exact
    expected = torch.linalg.svdvals(exact).log()
    visible = expected > expected[:, :1] - math.log(1e8)
    found = log_singular_values(factors)
    torch.testing.assert_close(found[visible], expected[visible], rtol=1e-7, atol=1e-7)
    log_determinant = torch.linalg.slogdet(factors).logabsdet.sum(1)
    torch.testing.assert_close(found.sum(1), log_determinant, rtol=1e-3, atol=1e-3)


def test_singular_values_far_below_the_range_of_floating_point_numbers():
    factor = torch.diag(torch.tensor([1.0, 1e-3, 1e-9], dtype=torch.float64))
    turned = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    found = log_singular_values((turned @ factor @ turned.T).expand(100, 3, 3))
    expected = 100 * factor.diagonal().log()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)


def linear(matrix):
    recurrent = Recurrent("rnn", 1, len(matrix), nonlinearity="identity", dtype=torch.float64)
    with torch.no_grad():
        recurrent.get_parameter("weight_hh_l0").copy_(matrix)
    return recurrent


def test_exponents_of_a_linear_map_are_log_moduli_of_eigenvalues():
    matrix = torch.randn(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64) / 6**0.5
    expected = torch.linalg.eigvals(matrix).abs().log().sort(descending=True).values
    found = lyapunov(linear(matrix), torch.zeros(1, 1, 4000, 1), transient=1000).exponents[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)


def test_exponent_of_a_scalar_network_is_the_mean_log_slope():
    recurrent, inputs = network("rnn", input_size=1, hidden_size=1, replicas=1), inputs_of(1, 1, 500, 1)
    weight = {name: float(value.detach()) for name, value in recurrent.named_parameters()}
    h, slopes = 0.0, []
    for x in inputs.flatten().tolist():
        bias = weight["bias_ih_l0"] + weight["bias_hh_l0"]
        h = math.tanh(weight["weight_ih_l0"] * x + bias + weight["weight_hh_l0"] * h)
        slopes.append(math.log(abs(weight["weight_hh_l0"]) * (1 - h * h)))
    found = lyapunov(recurrent, inputs, transient=50).exponents.item()
    assert found == pytest.approx(sum(slopes[50:]) / 450, rel=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_the_largest_exponent_is_that_of_finite_differences(cell):
    """A perturbation of 1e-7, renormalised at every step, grows at the largest exponent's rate."""
    recurrent, inputs, T = network(cell, hidden_size=16, replicas=1), inputs_of(1, 1, 400), 400
    layer = trajectories(recurrent, inputs)[0]
    shift, total = [torch.zeros_like(state[:, 0]) for state in layer.states], 0.0
    shift[0][0, 0, 0] = 1.0  # the basis's first vector
    for t in range(T):
        norm = math.sqrt(sum(float((part**2).sum()) for part in shift))
        before = tuple(state[:, t] for state in layer.states)
        moved = tuple(state + 1e-7 / norm * part for state, part in zip(before, shift, strict=True))
        after = [
            recurrent.cell.step(layer.projected[:, t], s, layer.weights.weight_hh, layer.weights.bias_hh)
            for s in (before, moved)
        ]
        shift = [(b - a) / 1e-7 for a, b in zip(*after, strict=True)]
        if t >= 40:
            total += math.log(math.sqrt(sum(float((part**2).sum()) for part in shift)))
    found = lyapunov(recurrent, inputs, transient=40, count=1).exponents.item()
    assert found == pytest.approx(total / 360, abs=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_exponents_add_up_to_the_mean_log_determinant(cell):
    recurrent, inputs = network(cell, num_layers=2), inputs_of(T=60)
    found = lyapunov(recurrent, inputs, transient=0)
    volumes = sum(
        torch.linalg.slogdet(step_jacobians(layer)).logabsdet.mean((1, 2)) for layer in trajectories(recurrent, inputs)
    )
    torch.testing.assert_close(found.exponents.sum(-1), volumes, rtol=1e-9, atol=1e-9)
    assert found.exponents.shape == found.standard_error.shape == (2, 2 * trajectories(recurrent, inputs)[0].size)
    assert (found.exponents.diff() <= 0).all()


@pytest.mark.parametrize(
    ("exponents", "dimension"),
    [
        ([-0.1, -2.0], 0.0),
        ([0.5, 0.1], 2.0),
        ([0.4, -0.1, -0.6], 2.5),
        ([0.906, 0.0, -14.572], 2.0622),
        ([0.0, -1.0], 1.0),
    ],
)
def test_kaplan_yorke_dimension(exponents, dimension):
    """The fourth are the Lorenz system's."""
    assert kaplan_yorke(torch.tensor(exponents, dtype=torch.float64)).item() == pytest.approx(dimension, abs=1e-4)


def test_impossible_arguments_are_refused():
    recurrent = network("rnn")
    with pytest.raises(ValueError, match="transient=7: expected int between 0 and 6"):
        lyapunov(recurrent, inputs_of(), transient=7)
    with pytest.raises(ValueError, match="count=6: expected int between 1 and 5"):
        lyapunov(recurrent, inputs_of(), count=6)


@pytest.mark.parametrize(("alpha", "total"), [(1.0, 5.19), (1.05, 12.09)])
def test_fisher_memory_of_a_chain_as_in_print(alpha, total):
    """J(k) = α^2k / Σ α^2j, j = 0 … k; the totals are Orhan & Pitkow's."""
    chain, v = np.diag(np.full(99, alpha), -1), np.eye(100)[0]
    powers = alpha ** (2.0 * np.arange(100))
    np.testing.assert_allclose(fisher_memory_curve(chain, v, 100), powers / powers.cumsum(), rtol=1e-6)
    assert total_fisher_memory(chain, v) == pytest.approx(total, abs=5e-3)


@pytest.mark.parametrize("kind", ["orthogonal", "symmetric", "circulant"])
def test_fisher_memory_of_every_normal_matrix_is_one(kind):
    source = np.random.default_rng(0)
    matrix = source.normal(size=(20, 20))
    if kind == "orthogonal":
        matrix = 0.95 * np.linalg.qr(matrix).Q
    elif kind == "symmetric":
        matrix = matrix + matrix.T
        matrix *= 0.9 / np.abs(np.linalg.eigvalsh(matrix)).max()
    else:
        matrix = np.stack([np.roll(matrix[0], i) for i in range(20)])
        matrix *= 0.8 / np.abs(np.linalg.eigvals(matrix)).max()
    v = source.normal(size=20)
    assert total_fisher_memory(matrix, v / np.linalg.norm(v)) == pytest.approx(1, abs=1e-9)


def test_fisher_memory_needs_a_stable_network():
    with pytest.raises(ValueError, match="the spectral radius is 1: expected below 1"):
        total_fisher_memory(np.eye(3), np.eye(3)[0])


class Model(torch.nn.Module):
    def __init__(self, recurrent):
        super().__init__()
        self.measured = recurrent

    def forward(self, inputs, mask):
        return self.measured(inputs)[0]


def pack(recurrent, T=12):
    """Two replicas that are asked about recall."""
    task = Recall(length=T)
    batch = task.evaluation("probe", T, 6).map(lambda value: value.double() if value.is_floating_point() else value)
    return SimpleNamespace(
        task=task,
        replicas=2,
        model=Model(recurrent),
        recurrents=[recurrent],
        batch=lambda size: batch.map(lambda value: value[:size]),
        spread=lambda batch: batch.map(lambda value: value.expand(2, *value.shape)),
    )


@pytest.mark.parametrize("cell", CELLS)
def test_what_is_recorded_is_what_the_functions_say(cell):
    recurrent = network(cell, input_size=Recall().input_size, num_layers=2)
    asked = pack(recurrent)
    inputs = asked.spread(asked.batch(4)).inputs
    spectrum, norms = lyapunov(recurrent, inputs), long_range_norm(recurrent, inputs, draws=16).log2_norm
    for replica, (one, two) in enumerate(zip(exponents.measure(asked), jacobian.measure(asked), strict=True)):
        assert one.metrics["lyapunov/largest"] == float(spectrum.exponents[replica, 0])
        assert [value for _, value in one.curves["lyapunov/exponents"]] == spectrum.exponents[replica].tolist()
        by_lag = [value for _, value in two.curves["jacobian/log10_norm_by_lag"]]
        expected = (norms[replica] - norms[replica, :, -1:]).mean(0).flip(0) * math.log10(2)
        assert by_lag == pytest.approx(expected.tolist(), abs=1e-9)
        assert two.metrics["jacobian/decay_rate"] == pytest.approx(math.log(10) * by_lag[-1] / (len(by_lag) - 1))
        steps = step_jacobians(trajectories(recurrent, inputs)[-1])[replica]
        gain = torch.linalg.svdvals(steps)[..., 0].log().mean().exp()
        assert two.metrics["jacobian/step_gain"] == pytest.approx(float(gain), rel=1e-9)


def test_fisher_memory_of_a_network_is_that_of_its_weights_where_it_is_linear():
    recurrent = network("rnn", input_size=Recall().input_size, nonlinearity="identity")
    for replica, found in enumerate(fisher_memory.measure(pack(recurrent), lags=5)):
        weights = recurrent.layer_weights(0).weight_hh[replica].detach().numpy()
        columns = recurrent.layer_weights(0).weight_ih[replica].detach().numpy().T
        directions = [column / np.linalg.norm(column) for column in columns]
        total = np.mean([total_fisher_memory(weights, v) for v in directions])
        assert found.metrics == {"fisher_memory/total": pytest.approx(total, rel=1e-9)}
        curve = np.mean([fisher_memory_curve(weights, v, 5) for v in directions], axis=0)
        assert found.curves["fisher_memory/by_lag"] == [(k, pytest.approx(J)) for k, J in enumerate(curve.tolist())]


@pytest.mark.parametrize("cell", CELLS)
def test_fisher_memory_reads_a_gated_cell_at_zero_state(cell):
    """An unstable network has no finite memory: nothing is recorded of it."""
    recurrent = network(cell, input_size=Recall().input_size)
    assert all(found.metrics["fisher_memory/total"] > 0 for found in fisher_memory.measure(pack(recurrent)))
    with torch.no_grad():
        recurrent.get_parameter("weight_hh_l0").mul_(100)
    assert [found.metrics for found in fisher_memory.measure(pack(recurrent))] == [{}, {}]
