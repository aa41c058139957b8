"""`goldfish.watch` on cells in a loop, against torch.nn's modules with the same weights and against autograd itself."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import goldfish

PAIRS = {"rnn": (nn.RNNCell, nn.RNN), "lstm": (nn.LSTMCell, nn.LSTM), "gru": (nn.GRUCell, nn.GRU)}


class Loop(nn.Module):
    """A cell over (T, B, D) or (T, D), from zeros: h of every step, and the final state."""

    def __init__(self, cell, detach_at=None):
        super().__init__()
        self.cell, self.detach_at = cell, detach_at

    def forward(self, x):
        state, outputs = None, []
        for t, x_t in enumerate(x):
            state = self.cell(x_t, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
            if t == self.detach_at:
                state = tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
        return torch.stack(outputs), state


def pair(kind, D=3, H=5, dtype=torch.float64):
    torch.manual_seed(0)
    cell, module = (make(D, H, dtype=dtype) for make in PAIRS[kind])
    module.load_state_dict({f"{name}_l0": value for name, value in cell.state_dict().items()})
    return Loop(cell), module


def loss_of(outputs, state):
    states = state if isinstance(state, tuple) else (state,)
    return (outputs * torch.arange(1, outputs.shape[-1] + 1)).sin().sum() + sum(
        (2 * part).cos().sum() for part in states
    )


@pytest.mark.parametrize("kind", sorted(PAIRS))
def test_a_loop_over_a_cell_measures_what_its_module_does(kind):
    loop, module = pair(kind)
    twin, inputs = copy.deepcopy(loop), torch.randn(7, 4, 3, dtype=torch.float64)
    loss_of(*twin(inputs)).backward()
    with goldfish.watch(loop) as stepped, goldfish.watch(module) as whole:
        for model in (loop, module):
            loss_of(*model(inputs)).backward()
    assert list(stepped) == ["cell"]
    assert stepped["cell"].log2_norm.keys() == whole[""].log2_norm.keys()
    for name, norms in whole[""].log2_norm.items():
        torch.testing.assert_close(stepped["cell"].log2_norm[name].exp2(), norms.exp2(), rtol=1e-11, atol=0)
    for name, parameter in loop.named_parameters():
        torch.testing.assert_close(parameter.grad, twin.get_parameter(name).grad, rtol=1e-12, atol=1e-13)
    assert "forward" not in loop.cell.__dict__


@pytest.mark.parametrize("kind", sorted(PAIRS))
def test_norms_of_float32_do_not_underflow(kind):
    """400 steps, a loss at the last: float32 gradients are zero far back."""
    loop, module = pair(kind, dtype=torch.float32)
    inputs = torch.randn(400, 2, 3)
    with goldfish.watch(loop) as stepped, goldfish.watch(module.double()) as whole:
        loop(inputs)[0][-1].sum().backward()
        module(inputs.double())[0][-1].sum().backward()
    found, expected = stepped["cell"].log2_norm["state"], whole[""].log2_norm["state"]
    assert expected.min() < -149
    assert (found - expected).abs().max() < 1e-4


class Minimal(nn.Module):
    """A cell of one's own, with two states in a list: f = σ(W [x, h] + m), h = f h + (1 - f) tanh(V x), m = m/2 + h."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.gate, self.candidate, self.dropout = nn.Linear(8, 5), nn.Linear(3, 5), nn.Dropout(dropout)

    def forward(self, x, state):
        h, m = (x.new_zeros(len(x), 5),) * 2 if state is None else state
        f = torch.sigmoid(self.gate(torch.cat([x, h], dim=-1)) + m)
        h = self.dropout(f * h + (1 - f) * torch.tanh(self.candidate(x)))
        return h, m / 2 + h


def test_a_cell_of_ones_own():
    """h is read by the loss, the next h, and m: its total gradient is what retain_grad says of the whole of it."""
    torch.manual_seed(0)
    loop, inputs = Loop(Minimal().double()), torch.randn(6, 4, 3, dtype=torch.float64)
    state, kept, outputs = None, [], []
    for x_t in inputs:
        h, m = loop.cell(x_t, state)
        h.retain_grad()
        m.retain_grad()
        kept.append((h, m))
        outputs.append(h)
        state = (h, m)
    loss_of(torch.stack(outputs), state).backward()
    with goldfish.watch(loop, steps=["cell"]) as flow:
        loss_of(*loop(inputs)).backward()
    measured = flow["cell"].log2_norm
    for t, (h, m) in enumerate(kept):
        at_fixed_m = h.grad - m.grad  # m_t reads h_t: of s_t = (h_t, m_t), dL/dh_t at fixed m_t
        joint = (at_fixed_m.square() + m.grad.square()).sum(-1).sqrt()
        torch.testing.assert_close(measured["state"][0, :, t].exp2(), joint, rtol=1e-11, atol=0)
        torch.testing.assert_close(measured["s1"][0, :, t].exp2(), m.grad.norm(dim=-1), rtol=1e-11, atol=0)


def test_where_the_state_is_detached_another_sequence_begins():
    loop, _ = pair("gru")
    loop.detach_at, inputs = 3, torch.randn(7, 2, 3, dtype=torch.float64)
    with goldfish.watch(loop) as flow:
        loop(inputs)[0].sum().backward()
    assert sorted(call.log2_norm["h"].shape[-1] for call in flow.calls("cell")) == [3, 4]


def test_steps_after_the_loss_have_no_gradient():
    loop, _ = pair("lstm")
    with goldfish.watch(loop) as flow:
        loop(torch.randn(7, 2, 3, dtype=torch.float64))[0][4].sum().backward()
    norms = flow["cell"].log2_norm["h"][0]
    assert norms[:, :5].isfinite().all()
    assert (norms[:, 5:] == -torch.inf).all()


def test_a_step_that_depends_on_chance_is_refused():
    torch.manual_seed(0)
    loop = Loop(Minimal(dropout=0.5))
    with pytest.raises(RuntimeError, match="take dropout out of it"), goldfish.watch(loop, steps=["cell"]):
        loop(torch.randn(5, 2, 3))[0].sum().backward()
    assert "forward" not in loop.cell.__dict__


def test_an_unknown_step_is_named():
    with pytest.raises(ValueError, match=r"steps=cel: the model has no such module; .*cell"):
        goldfish.watch(Loop(Minimal()), steps=["cel"])
