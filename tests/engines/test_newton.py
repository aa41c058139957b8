"""Newton's method over the sequence ends at the states of the step-by-step run, and how many iterations it takes."""

from __future__ import annotations

import pytest
import torch

from goldfish.config import registry
from goldfish.engines.newton import solve
from goldfish.probes.jacobian import trajectories
from goldfish.recurrent import Recurrent


def problem(cell, gain=1.0, H=12, T=25, **arguments):
    torch.manual_seed(0)
    recurrent = Recurrent(cell, 2, H, replicas=2, dtype=torch.float64, **arguments)
    with torch.no_grad():
        recurrent.get_parameter("weight_hh_l0").normal_(std=gain / H**0.5)
    layer = trajectories(recurrent, torch.randn(2, 3, T, 2, dtype=torch.float64))[0]
    return layer, (layer.cell, layer.projected, layer.weights, tuple(state[:, 0] for state in layer.states))


@pytest.mark.parametrize("gain", [0.5, 2.5])
@pytest.mark.parametrize("cell", registry.names("cell"))
def test_it_ends_at_the_states_of_the_recurrence(cell, gain):
    layer, given = problem(cell, gain)
    found = solve(*given)
    assert found.iterations.max() <= 25
    for mine, exact in zip(found.states, layer.states, strict=True):
        torch.testing.assert_close(mine, exact[:, 1:], rtol=0, atol=1e-9)


def test_a_linear_network_takes_one_iteration_and_one_to_see_that_nothing_moves():
    layer, given = problem("rnn", nonlinearity="identity")
    found = solve(*given)
    assert (found.iterations == 2).all()
    torch.testing.assert_close(found.states[0], layer.states[0][:, 1:], rtol=0, atol=1e-12)


def test_each_iteration_makes_one_more_step_right():
    """After k iterations the first k steps are the recurrence's, whatever the rest does."""
    layer, given = problem("rnn", gain=4.0, T=40)
    for k in (1, 5, 20):
        found = solve(*given, limit=k)
        torch.testing.assert_close(found.states[0][:, :k], layer.states[0][:, 1 : k + 1], rtol=0, atol=1e-9)
    assert (solve(*given, limit=3).iterations == 4).all()


def test_what_forgets_takes_fewer_iterations():
    counts = [float(solve(*problem("rnn", gain, T=60)[1]).iterations.double().mean()) for gain in (0.3, 1.0, 3.0)]
    assert counts == sorted(counts)
    assert counts[0] * 3 < counts[2]
