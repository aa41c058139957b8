"""The independent reference: float64 cells of torch.nn in a loop, every state's gradient kept by autograd."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from goldfish.cells.base import Cell, HandDerivedCell
from goldfish.config import registry
from goldfish.engines import cpu
from goldfish.recurrent import Recurrent

TORCH = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}
Tensors = dict[str, Tensor]
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@dataclass(frozen=True)
class Case:
    """A registered cell, its nonlinearity where it has one, and an engine that runs it."""

    cell: str
    nonlinearity: str | None
    engine: str

    @property
    def arguments(self) -> dict[str, Any]:
        return {} if self.nonlinearity is None else {"nonlinearity": self.nonlinearity}

    def build(self, input_size: int, hidden_size: int, **others: Any) -> Recurrent:
        return Recurrent(self.cell, input_size, hidden_size, engine=self.engine, **self.arguments, **others)

    @property
    def problem(self) -> tuple[str, str | None]:
        """What is computed, whichever engine does it."""
        return self.cell, self.nonlinearity

    def __str__(self) -> str:
        return "-".join(part for part in (self.cell, self.nonlinearity, self.engine) if part)


def _cases() -> Iterator[Case]:
    for name in registry.names("cell"):
        known = registry.signature("cell", name).parameters
        choices: tuple[str | None, ...] = (None,)
        if "nonlinearity" in known:
            choices = known["nonlinearity"].choices or (None,)
        kind = registry.load("cell", name)
        engines = ["eager"]
        if issubclass(kind, HandDerivedCell):
            engines.append("stepwise")
            if not cpu.unavailable(kind(hidden_size=1, num_layers=1), torch.float32):
                engines.append("cpu")
        for choice in choices:
            for engine in engines:
                yield Case(name, choice, engine)


CASES = list(_cases())
each_case = pytest.mark.parametrize("case", CASES, ids=str)


WRITTEN_OUT = {"identity": lambda a: a, "sigmoid": torch.sigmoid}  # units that torch.nn.RNN does not have


class _Generic(nn.Module):
    """One step of a cell that torch.nn does not have: the units above written out, else the cell's own step."""

    def __init__(self, cell: Cell, input_size: int) -> None:
        super().__init__()
        self.step, self.activate = cell.step, WRITTEN_OUT.get(cell.nonlinearity)
        G, H = len(cell.gates), cell.hidden_size
        self.weight_ih = nn.Parameter(torch.empty(G * H, input_size, dtype=torch.float64))
        self.weight_hh = nn.Parameter(torch.empty(G * H, H, dtype=torch.float64))
        self.bias_ih = nn.Parameter(torch.empty(G * H, dtype=torch.float64))
        self.bias_hh = nn.Parameter(torch.empty(G * H, dtype=torch.float64))

    def forward(self, x: Tensor, state: Any) -> Any:
        wx = x @ self.weight_ih.T + self.bias_ih
        if self.activate is not None:
            return self.activate(wx + state @ self.weight_hh.T + self.bias_hh)
        before = tuple(s.unsqueeze(0) for s in (state if isinstance(state, tuple) else (state,)))
        after = self.step(wx.unsqueeze(0), before, self.weight_hh.unsqueeze(0), self.bias_hh.unsqueeze(0))
        return tuple(s.squeeze(0) for s in after) if len(after) > 1 else after[0].squeeze(0)


def _one_layer(recurrent: Recurrent, replica: int, layer: int) -> nn.Module:
    """A float64 cell of torch.nn with the weights of one layer of one replica."""
    cell, weights = recurrent.cell, recurrent.layer_weights(layer)
    input_size = weights.weight_ih.shape[-1]
    module: nn.Module
    if recurrent.name in TORCH and cell.nonlinearity not in WRITTEN_OUT:
        extra = {"nonlinearity": cell.nonlinearity} if recurrent.name == "rnn" else {}
        module = TORCH[recurrent.name](input_size, cell.hidden_size, dtype=torch.float64, **extra)
    else:
        module = _Generic(cell, input_size)
    with torch.no_grad():
        for name in WEIGHTS:
            getattr(module, name).copy_(getattr(weights, name)[replica])
    return module


class Unrolled:
    """One replica's network, unrolled in float64: `outputs` (B, T, H), `final` name → (L, B, H), all in one graph."""

    def __init__(self, recurrent: Recurrent, replica: int, inputs: Tensor, state: Tensors) -> None:
        """Unroll over `inputs` (B, T, D) from `state`, name → (L, B, H); both are copied and gather gradients."""
        self.inputs = inputs.detach().to(torch.float64, copy=True).requires_grad_()
        self.initial = {
            name: value.detach().to(torch.float64, copy=True).requires_grad_() for name, value in state.items()
        }
        self.names = recurrent.cell.states
        self.modules = [_one_layer(recurrent, replica, layer) for layer in range(recurrent.cell.num_layers)]
        self.totals: list[list[tuple[Tensor, ...]]] = []  # by layer and step: the states themselves
        self.beyond: list[list[tuple[Tensor, ...]]] = []  # and the aliases that only t+1 and the loss see
        below = list(self.inputs.unbind(1))
        finals = []
        for layer, module in enumerate(self.modules):
            carried = tuple(self.initial[name][layer] for name in self.names)
            states, aliases = [], []
            for x in below:
                found = module(x, carried if len(carried) > 1 else carried[0])
                now = found if isinstance(found, tuple) else (found,)
                carried = (now[0], *(other.view_as(other) for other in now[1:]))
                for tensor in (*now, *carried):
                    tensor.retain_grad()
                states.append(now)
                aliases.append(carried)
            self.totals.append(states)
            self.beyond.append(aliases)
            below = [now[0] for now in states]
            finals.append(carried)
        self.outputs = torch.stack(below, dim=1)
        self.final = {name: torch.stack([f[k] for f in finals]) for k, name in enumerate(self.names)}

    def log2_norms(self, lift: int = 0) -> Tensors:
        """After a backward pass of 2^lift · loss: name → (L, B, T), log2 of the norms that `gradient_flow` promises."""
        found = {name: self._gather(self.totals, k) for k, name in enumerate(self.names)} | {"state": self._joint()}
        top = {name: v.abs().amax(-1, keepdim=True) for name, v in found.items()}
        return {
            name: (v / top[name]).nan_to_num().norm(dim=-1).log2() + top[name].squeeze(-1).log2() - lift
            for name, v in found.items()
        }

    def _joint(self) -> Tensor:
        """dL/dh_t in total beside the other states' adjoints at fixed h_t."""
        others = [self._gather(self.beyond, k) for k in range(1, len(self.names))]
        return torch.cat([self._gather(self.totals, 0), *others], dim=-1)

    def _gather(self, nodes: list[list[tuple[Tensor, ...]]], which: int) -> Tensor:
        """The gradients of one state, (L, B, T, H)."""
        gradients = [[step[which].grad for step in layer] for layer in nodes]
        zero = torch.zeros_like(nodes[0][0][0])
        return torch.stack([torch.stack([zero if g is None else g for g in layer], dim=1) for layer in gradients])

    def weight_gradients(self) -> Tensors:
        """name as in torch.nn → gradient."""
        return {
            f"{name}_l{layer}": getattr(module, name).grad
            for layer, module in enumerate(self.modules)
            for name in WEIGHTS
        }


def gradient(tensor: Tensor) -> Tensor:
    """The gradient that a backward pass left on a leaf."""
    assert tensor.grad is not None
    return tensor.grad


def relative(actual: Tensor, expected: Tensor, dims: int = 1, floor: float = 0.0) -> float:
    """The worst ‖actual − expected‖ / ‖expected‖ over vectors along the last `dims` axes.

    Where ‖expected‖ ≤ floor (what float32 cannot hold), the difference is no larger than the floor; where it is 0, so
    is `actual`.
    """
    actual, expected = actual.detach().cpu().double(), expected.detach()
    assert actual.shape == expected.shape
    axes = tuple(range(-dims, 0))
    error = (actual - expected).square().sum(axes).sqrt()
    size = expected.square().sum(axes).sqrt()
    kept = size > floor
    assert (error[~kept] <= floor).all(), "not as small as the reference"
    return float((error[kept] / size[kept]).max()) if kept.any() else 0.0


def relative_log2(actual: Tensor, expected: Tensor) -> float:
    """The worst |2^actual / 2^expected − 1|; -inf stands where and only where -inf is expected."""
    assert actual.shape == expected.shape
    assert actual.dtype == torch.float64
    actual, expected = actual.cpu(), expected.detach()
    assert torch.equal(torch.isneginf(actual), torch.isneginf(expected)), "-inf at the wrong places"
    finite = ~torch.isneginf(expected)
    assert torch.isfinite(actual[finite]).all()
    return float(torch.expm1((actual[finite] - expected[finite]) * math.log(2)).abs().max())
