"""The usual ways to read every state's gradient: a loop over cells, retain_grad or autograd.grad; torch.func.vmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vjp, vmap

from benchmarks.interleave import Contestant, repeated
from benchmarks.problem import Shape, draw

MODULES: dict[str, Callable[..., nn.RNNCellBase]] = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
STACKED = 16  # models under vmap


def states(cell: nn.RNNCellBase, x: Tensor) -> list[Tensor]:
    """h_t of every step, x (T, B, D)."""
    state, found = None, []
    for x_t in x:
        state = cell(x_t, state)
        found.append(state[0] if isinstance(state, tuple) else state)
    return found


def _problem(shape: Shape, device: str) -> tuple[nn.RNNCellBase, Tensor, Tensor]:
    inputs, cotangent = draw(shape, device)
    torch.manual_seed(3)
    cell = MODULES[shape.cell](shape.inputs, shape.hidden).to(device)
    return cell, inputs[0].transpose(0, 1), cotangent[0].transpose(0, 1)


def retain_grad(shape: Shape, device: str) -> Contestant:
    """A loop over nn.*Cell with retain_grad on every h_t; the norms are read after the backward pass."""
    cell, x, cotangent = _problem(shape, device)

    def train() -> None:
        cell.zero_grad(set_to_none=True)
        hidden = states(cell, x)
        for h in hidden:
            h.retain_grad()
        torch.stack(hidden).backward(cotangent)
        torch.stack([h.grad for h in hidden if h.grad is not None]).norm(dim=-1)

    return repeated(train)


def autograd_grad(shape: Shape, device: str) -> Contestant:
    """The same loop; autograd.grad of the outputs with respect to all states and all weights."""
    cell, x, cotangent = _problem(shape, device)
    weights = list(cell.parameters())

    def train() -> None:
        hidden = states(cell, x)
        found = torch.autograd.grad(torch.stack(hidden), [*hidden, *weights], cotangent)
        torch.stack(found[: len(hidden)]).norm(dim=-1)

    return repeated(train)


class _Plain(nn.Module):
    """A cell over time in plain operations, which torch.func can batch."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.cell, self.name = MODULES[shape.cell](shape.inputs, shape.hidden), shape.cell

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, D) → (T, B, H)."""
        cell = self.cell
        wx = x @ cell.weight_ih.T + cell.bias_ih
        h = x.new_zeros(x.shape[1], cell.hidden_size)
        c, outputs = h, []
        for wx_t in wx:
            wh = h @ cell.weight_hh.T + cell.bias_hh
            if self.name == "rnn":
                h = torch.tanh(wx_t + wh)
            elif self.name == "lstm":
                i, f, g, o = (wx_t + wh).chunk(4, dim=-1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
            else:
                (xr, xz, xn), (hr, hz, hn) = wx_t.chunk(3, dim=-1), wh.chunk(3, dim=-1)
                z = torch.sigmoid(xz + hz)
                n = torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
                h = n + z * (h - n)
            outputs.append(h)
        return torch.stack(outputs)


def stacked(shape: Shape, device: str) -> Contestant:
    """torch.func.vmap over 16 models of a plain loop, uninstrumented."""
    models = [_Plain(shape).to(device) for _ in range(STACKED)]
    weights, buffers = stack_module_state(models)
    inputs, cotangent = draw(shape, device)
    x = inputs[0].transpose(0, 1).expand(STACKED, -1, -1, -1).contiguous()

    on_outputs = cotangent[0].transpose(0, 1).contiguous()

    def backward(weights: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Any:
        pullback = vjp(lambda own: functional_call(models[0], (own, buffers), (x,)), weights)[1]
        return pullback(on_outputs)

    gradients = vmap(backward)

    def train() -> None:
        gradients(weights, buffers, x)

    return repeated(train, STACKED)
