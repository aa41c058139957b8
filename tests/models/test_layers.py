"""Dropout draws from each run's own random numbers; the readout equals torch.nn.Linear, in any pack to the bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from goldfish.models.parts.layers import Dropout, Readout
from goldfish.threads import one_thread

R, H = 16, 33


def _run(outputs: int, batch: int, picks: list[int]) -> dict[str, Tensor]:
    """What the replicas in `picks` of sixteen compute: outputs and every gradient."""
    torch.manual_seed(0)
    weights, biases, h = torch.randn(R, outputs, H), torch.randn(R, outputs), torch.randn(R, batch, H)
    readout = Readout(H, outputs, len(picks))
    readout.load_state_dict({"weight": weights[picks], "bias": biases[picks]})
    states = h[picks].requires_grad_()
    found = readout(states)
    found.square().sum().backward()
    leaves = {"h": states, **dict(readout.named_parameters())}
    return {"outputs": found.detach()} | {name: leaf.grad for name, leaf in leaves.items() if leaf.grad is not None}


@pytest.mark.parametrize("outputs", [1, 2, 10])
@pytest.mark.parametrize("batch", [5, 64])
def test_the_same_bits_in_every_pack(outputs: int, batch: int) -> None:
    with one_thread():
        whole = _run(outputs, batch, list(range(R)))
        for picks in ([0], [15], [3, 9], list(range(R))[::-1]):
            found = _run(outputs, batch, picks)
            assert len(found) == 4
            for name, value in found.items():
                assert torch.equal(value, whole[name][picks]), (name, picks)


@pytest.mark.parametrize("outputs", [1, 3])
def test_it_is_a_linear_layer(outputs: int) -> None:
    readout, linear = Readout(H, outputs, 2).double(), nn.Linear(H, outputs).double()
    for replica in range(2):
        readout.initialise(replica, torch.Generator().manual_seed(replica))
    with torch.no_grad():
        linear.weight.copy_(readout.weight[1])
        linear.bias.copy_(readout.bias[1])
    h = torch.randn(2, 7, H).double()
    assert readout(h).shape == (2, 7, outputs)
    torch.testing.assert_close(readout(h)[1], linear(h[1]))
    assert readout.weight.abs().max() <= H**-0.5
    assert not torch.equal(readout.weight[0], readout.weight[1])


def drawn(p: float, x: torch.Tensor, *seeds: int) -> torch.Tensor:
    dropout = Dropout(p)
    dropout.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return dropout(x)


def test_off_without_random_numbers() -> None:
    x = torch.randn(2, 3, 4)
    assert torch.equal(Dropout(0.5)(x), x)


def test_keeps_the_mean_and_drops_the_share() -> None:
    found = drawn(0.25, torch.ones(1, 100_000), 0)
    assert set(found.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    dropped = (found == 0).double().mean().item()
    assert abs(dropped - 0.25) < 5 * (0.25 * 0.75 / 100_000) ** 0.5


def test_each_replica_has_its_own_and_the_same_alone() -> None:
    x = torch.randn(2, 50, 7)
    both = drawn(0.5, x, 3, 4)
    assert torch.equal(both[1:], drawn(0.5, x[1:], 4))
    assert not torch.equal(both[0] == 0, both[1] == 0)


def test_torch_draws_nothing() -> None:
    before = torch.random.get_rng_state()
    drawn(0.5, torch.ones(1, 10), 0)
    assert torch.equal(torch.random.get_rng_state(), before)
