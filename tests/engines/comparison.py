"""One problem for every cell, its float64 reference, and how far an engine is from it; for tests on CPU and GPU."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from tests.engines.reference import Case, Tensors, Unrolled, gradient, relative, relative_log2
from torch import Tensor

import goldfish
from goldfish.recurrent import Recurrent

R, B, T, D, H = 2, 2, 200, 24, 24  # test_against_torch
LONG = (2, 1000, 3, 32)  # test_long_range: B, T, D, H
FAST = {"sigmoid": 300}  # a slope of at most 1/4 a step: at 1000 the float64 reference itself would be zero
LIFT = 700  # its reference starts at 2^700: float64 then reaches down to 2^-1774, about 1e-534
each_loss = pytest.mark.parametrize(("layers", "loss"), [(1, "every"), (2, "every"), (2, "last"), (2, "final")])
FLOOR = 1e-12  # float32 input gradients smaller than this gather rounding errors over too many steps; norms do not


class Problem:
    """Weights, inputs, initial state, and the cotangents that the loss puts on outputs and final state: all float32."""

    def __init__(self, case: Case, layers: int) -> None:
        torch.manual_seed(5)
        self.recurrent = case.build(D, H, num_layers=layers, replicas=R)
        names = self.recurrent.cell.states
        self.inputs = torch.randn(R, B, T, D)
        self.state = {name: torch.randn(R, layers, B, H) / 2 for name in names}
        self.on_outputs = torch.randn(R, B, T, H)
        self.on_final = {name: torch.randn(R, layers, B, H) for name in names}

    def loss(self, kind: str, outputs: Tensor, final: Tensors, replica: int | slice) -> Tensor:
        """Linear in the last output, in every output, or in the final states."""
        if kind == "final":
            return torch.stack([(final[name] * self.on_final[name][replica].to(outputs)).sum() for name in final]).sum()
        weighted = outputs * self.on_outputs[replica].to(outputs)
        return weighted.sum() if kind == "every" else weighted[..., -1, :].sum()


@cache
def _references(problem: tuple[str, str | None], layers: int, loss: str) -> tuple[Problem, list[Unrolled]]:
    """The problem, and each replica's network unrolled in float64 after its backward pass."""
    posed = Problem(Case(*problem, "eager"), layers)
    unrolled = [
        Unrolled(posed.recurrent, r, posed.inputs[r], {name: value[r] for name, value in posed.state.items()})
        for r in range(R)
    ]
    for r, reference in enumerate(unrolled):
        posed.loss(loss, reference.outputs, reference.final, r).backward()
    return posed, unrolled


def _by_step(tensor: Tensor) -> Tensor:
    """(B, T, …) → (T, B·…): one vector for each step."""
    return tensor.transpose(0, 1).flatten(1)


def errors(case: Case, layers: int, loss: str, dtype: torch.dtype, device: str = "cpu") -> dict[str, float]:
    """The worst relative error of every quantity: float64 by sample and step, float32 by step."""
    posed, references = _references(case.problem, layers, loss)
    recurrent = case.build(D, H, num_layers=layers, replicas=R, dtype=dtype, device=device)
    recurrent.load_state_dict(posed.recurrent.state_dict())
    inputs = posed.inputs.to(device, dtype, copy=True).requires_grad_()
    state = {name: value.to(device, dtype, copy=True).requires_grad_() for name, value in posed.state.items()}
    outputs, final = recurrent(inputs, state)
    with goldfish.gradient_flow(recurrent) as flow:
        posed.loss(loss, outputs, final, slice(None)).backward()
    parameters = dict(recurrent.named_parameters())
    single = dtype == torch.float32
    floor = FLOOR if single else 0.0
    found: list[tuple[str, float]] = []
    for r, reference in enumerate(references):
        view = _by_step if single else Tensor.double
        found.append(("outputs", relative(view(outputs[r]), view(reference.outputs))))
        found.append(("inputs", relative(view(gradient(inputs)[r]), view(gradient(reference.inputs)), floor=floor)))
        for name in state:
            dims = 2 if single else 1
            found.append((f"final {name}", relative(final[name][r], reference.final[name], dims)))
            expected = gradient(reference.initial[name])
            found.append((f"initial {name}", relative(gradient(state[name])[r], expected, dims, floor)))
        for name, expected in reference.weight_gradients().items():
            found.append((name, relative(gradient(parameters[name])[r], expected, expected.dim(), floor)))
        for name, norm in reference.log2_norms().items():
            measured = flow.log2_norm[name][r]
            if single:
                norms = [(2 ** measured[layer], 2 ** norm[layer]) for layer in range(layers)]
                found.extend((f"norm {name}", relative(_by_step(a), _by_step(b))) for a, b in norms)
            else:
                found.append((f"norm {name}", relative_log2(measured, norm)))
    worst: dict[str, float] = {}
    for key, value in found:
        worst[key] = max(value, worst.get(key, 0.0))
    return worst


def _long(case: Case, device: str = "cpu") -> tuple[Recurrent, Tensor, Tensor]:
    """A network as PyTorch initialises it, inputs, and the cotangent on its last output: the same on every device."""
    B, T, D, H = LONG
    T = FAST.get(str(case.nonlinearity), T)
    torch.manual_seed(1)
    drawn = Case(*case.problem, "eager").build(D, H, num_layers=2).state_dict()
    inputs, on_last = torch.randn(1, B, T, D), torch.randn(1, B, H)
    recurrent = case.build(D, H, num_layers=2, device=device)
    recurrent.load_state_dict(drawn)
    return recurrent, inputs.to(device), on_last.to(device)


@cache
def long_reference(problem: tuple[str, str | None]) -> Tensors:
    """log2 norms of the last output's loss over 1000 steps, in float64 from float32 weights: name → (L, B, T)."""
    recurrent, inputs, on_last = _long(Case(*problem, "eager"))
    B, _, _, H = LONG
    unrolled = Unrolled(recurrent, 0, inputs[0], {name: torch.zeros(2, B, H) for name in recurrent.cell.states})
    (unrolled.outputs[:, -1] * on_last[0].double()).sum().mul(2.0**LIFT).backward()
    return unrolled.log2_norms(LIFT)


def long_errors(case: Case, device: str = "cpu") -> dict[str, float]:
    """The worst relative error of each norm over steps, samples and layers."""
    recurrent, inputs, on_last = _long(case, device)
    outputs, _ = recurrent(inputs)
    with goldfish.gradient_flow(recurrent) as flow:
        (outputs[:, :, -1] * on_last).sum().backward()
    expected = long_reference(case.problem)
    return {name: relative_log2(flow.log2_norm[name][0].cpu(), norm) for name, norm in expected.items()}
