"""Held steps against the same sequences without them: states, gradients and their norms, in every exact engine."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from torch import Tensor

from goldfish.cells.base import Cell, State
from goldfish.probes.gradient_flow import gradient_flow
from goldfish.recurrent import Recurrent

R, B, T, D, H = 2, 3, 9, 3, 4
LENGTHS = torch.tensor([9, 1, 5])
ENGINES = ["eager", "stepwise", "cpu"]
HELD = (torch.arange(T) >= LENGTHS.unsqueeze(1)).expand(R, B, T)


class Pair(Cell):
    """A cell with two states that says nothing of hold."""

    states: ClassVar[tuple[str, ...]] = ("h", "m")

    def step(self, wx: Tensor, state: State, weight_hh: Tensor, bias_hh: Tensor) -> State:
        h, m = state
        h = torch.tanh(wx + torch.baddbmm(bias_hh.unsqueeze(1), h, weight_hh.mT))
        return h, h + m


def network(cell: str, engine: str, dtype: torch.dtype = torch.float64) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(cell, D, H, replicas=R, engine=engine, dtype=dtype)


def memory(recurrent: Recurrent, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """h of each sequence's last word, and c after the padding: (R, B, H) each."""
    outputs, state = recurrent(inputs, hold=HELD)
    return outputs[:, torch.arange(B), LENGTHS - 1], state["c"][:, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_held_state_keeps_its_bits(engine: str, dtype: torch.dtype) -> None:
    lstm, generator = network("lstm", engine, dtype), torch.Generator().manual_seed(1)
    inputs = 30 * torch.randn(R, B, T, D, dtype=dtype, generator=generator)
    state = {name: torch.randn(R, 1, B, H, dtype=dtype, generator=generator) for name in ("h", "c")}
    _, held = lstm(inputs, state, hold=torch.ones(R, B, T, dtype=torch.bool))
    assert torch.equal(held["c"], state["c"])
    _, moved = lstm(inputs, state, hold=torch.zeros(R, B, T, dtype=torch.bool))
    torch.testing.assert_close(moved["c"], lstm(inputs, state)[1]["c"])
    assert (moved["c"] != state["c"]).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_empty_memory_stays_empty(engine: str) -> None:
    """The engine cpu bounds its exponential: there a held input gate is e^-87, not 0."""
    _, state = network("lstm", engine, torch.float32)(
        torch.ones(R, B, T, D), hold=torch.ones(R, B, T, dtype=torch.bool)
    )
    assert state["c"].abs().max() < 1e-36


@pytest.mark.parametrize("padding", [0.0, 50.0])
@pytest.mark.parametrize("engine", ENGINES)
def test_states_and_gradients_are_those_of_torch_without_padding(engine: str, padding: float) -> None:
    lstm, generator = network("lstm", engine), torch.Generator().manual_seed(1)
    inputs = torch.randn(R, B, T, D, dtype=torch.float64, generator=generator)
    inputs = inputs.masked_fill(HELD.unsqueeze(-1), padding).requires_grad_()
    weights = torch.randn(2, R, B, H, dtype=torch.float64, generator=generator)
    h, c = memory(lstm, inputs)
    found = torch.autograd.grad((weights * torch.stack([h, c]).sin()).sum(), [inputs, *lstm.parameters()])
    assert found[0][HELD].abs().max() < 1e-300  # the engine cpu bounds its exponential
    for replica in range(R):
        by_hand = lstm.to_torch(replica)
        loss = torch.zeros((), dtype=torch.float64)
        for row, length in enumerate(LENGTHS.tolist()):
            last = by_hand(inputs[replica, row : row + 1, :length])[1]
            for own, state, weight in zip((h, c), last, weights, strict=True):
                torch.testing.assert_close(own[replica, row], state.view(-1), rtol=0, atol=1e-12)
                loss = loss + (weight[replica, row] * state.sin()).sum()
        expected = torch.autograd.grad(loss, [inputs, *by_hand.parameters()])
        for own, gradient in zip(found[1:], expected[1:], strict=True):
            torch.testing.assert_close(own[replica], gradient, rtol=0, atol=1e-12)
        torch.testing.assert_close(found[0][replica], expected[0][replica], rtol=0, atol=1e-12)


@pytest.mark.parametrize("engine", ENGINES)
def test_gradient_norms_are_those_without_padding(engine: str) -> None:
    lstm = network("lstm", engine)
    inputs = torch.randn(R, B, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with gradient_flow(lstm) as flow:
        sum(state.square().sum() for state in memory(lstm, inputs)).backward()  # type: ignore[union-attr]
    for row, length in enumerate(LENGTHS.tolist()):
        with gradient_flow(lstm) as alone:
            outputs, state = lstm(inputs[:, row : row + 1, :length])
            (outputs[:, :, -1].square().sum() + state["c"].square().sum()).backward()
        for name, norms in flow.log2_norm.items():
            torch.testing.assert_close(norms[:, :, row, :length], alone.log2_norm[name][:, :, 0], rtol=0, atol=1e-12)
        through = flow.log2_norm["c"][:, 0, row]
        torch.testing.assert_close(through[:, length:], through[:, -1:].expand(-1, T - length), rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_nothing_is_held_where_h_is_all_there_is(cell: str) -> None:
    recurrent, inputs = network(cell, "auto"), torch.randn(R, B, T, D, dtype=torch.float64)
    assert torch.equal(recurrent(inputs, hold=HELD)[0], recurrent(inputs)[0])


def test_what_cannot_be_held_is_refused() -> None:
    inputs = torch.zeros(1, B, T, D)
    with pytest.raises(ValueError, match=r"^steps cannot be held: expected one layer$"):
        Recurrent("lstm", D, H, num_layers=2)(inputs, hold=HELD[:1])
    pair = Recurrent(Pair(hidden_size=H, num_layers=1), D)
    with pytest.raises(ValueError, match=r"^steps cannot be held: cell=pair says nothing of hold$"):
        pair(inputs, hold=HELD[:1])
    assert pair(inputs)[0].shape == (1, B, T, H)
