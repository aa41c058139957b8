"""Mean-field theory against the published fixed points and adaptive quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from goldfish.probes.mean_field import mean_field, measure
from goldfish.recurrent import Recurrent
from goldfish.tasks.recall import Recall


@pytest.mark.parametrize(
    ("sigma_w", "R", "q", "chi", "slope"),
    [(0.5, 0.0, 0.0, 0.25, -0.6931), (1.0, 0.1, 0.2950, 0.6888, -0.1864), (1.5, 0.1, 0.9781, 1.0538, 0.0262)],
)
def test_published_values(sigma_w: float, R: float, q: float, chi: float, slope: float) -> None:
    found = mean_field(sigma_w, R)
    assert (found.q, found.chi, found.slope) == (
        pytest.approx(q, abs=6e-5),
        pytest.approx(chi, abs=6e-5),
        pytest.approx(slope, abs=6e-5),
    )


@pytest.mark.parametrize(("sigma_w", "R"), [(1.193, 0.01), (1.327, 0.05), (1.409, 0.1), (1.512, 0.2), (1.686, 0.5)])
def test_published_critical_line(sigma_w: float, R: float) -> None:
    assert mean_field(sigma_w, R).chi == pytest.approx(1, abs=1e-3)


@given(sigma_w=st.floats(0.1, 3), R=st.floats(0.01, 2))
@settings(max_examples=25, deadline=None)
def test_fixed_point_by_adaptive_quadrature(sigma_w: float, R: float) -> None:
    found = mean_field(sigma_w, R)

    def mean(function: Callable[[float], float]) -> float:
        weighted = quad(lambda z: function(z) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi), -12, 12, limit=200)
        return float(weighted[0])

    h = math.sqrt(found.q)
    assert sigma_w**2 * mean(lambda z: math.tanh(h * z) ** 2) + R == pytest.approx(found.q, rel=1e-9)
    assert sigma_w**2 * mean(lambda z: (1 - math.tanh(h * z) ** 2) ** 2) == pytest.approx(found.chi, rel=1e-9)
    assert (found.depth == math.inf) == (found.chi >= 1)


def network(**arguments: Any) -> Recurrent:
    """Two replicas of σ_w = 0.8 and 1.4, driven by random weights and biases."""
    torch.manual_seed(0)
    recurrent = Recurrent("rnn", 10, 256, replicas=2, **arguments).double()
    with torch.no_grad():
        recurrent.get_parameter("weight_hh_l0").normal_().mul_(torch.tensor([0.8, 1.4])[:, None, None] / 16)
    return recurrent


def pack(recurrent: Recurrent) -> Any:
    task = Recall(length=30)
    batch = task.evaluation("probe", 30, 64).map(lambda value: value.double() if value.is_floating_point() else value)
    return SimpleNamespace(
        task=task,
        model=lambda inputs, mask: recurrent(inputs),
        recurrents=[recurrent],
        batch=lambda: batch,
        spread=lambda batch: batch.map(lambda value: value.expand(2, *value.shape)),
    )


def test_the_probe_reads_the_theory_off_the_weights() -> None:
    """σ_w² and R are sampled: each is its own within a few per cent; R by a network whose states are its drive."""
    linear = network(nonlinearity="identity")
    with torch.no_grad():
        linear.get_parameter("weight_hh_l0").zero_()
        own = pack(linear)
        drive = own.model(own.spread(own.batch()).inputs, None)[0].square().flatten(1).mean(1)
    for measured, sigma_w, R in zip(measure(pack(network())), (0.8, 1.4), drive.tolist(), strict=True):
        expected = mean_field(sigma_w, R)
        assert measured.metrics == {
            "mean_field/q": pytest.approx(expected.q, rel=0.02),
            "mean_field/chi": pytest.approx(expected.chi, rel=0.02),
            "mean_field/decay_rate": pytest.approx(expected.slope, abs=0.01),
        }


@pytest.mark.parametrize("arguments", [{"nonlinearity": "relu"}, {"num_layers": 2}], ids=repr)
def test_where_the_theory_does_not_hold(arguments: dict[str, Any]) -> None:
    assert measure(pack(network(**arguments))) == []
