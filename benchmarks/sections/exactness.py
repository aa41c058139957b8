"""How far every engine is from a float64 reference: a loop over nn.*Cell in float64, every state's gradient kept.

The loss is the last output times a fixed cotangent, so that gradients vanish. The reference starts at 2^700 times the
loss: float64 then reaches down to 2^-1774.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from benchmarks import contestants
from benchmarks.bench import Bench, Job
from benchmarks.peers import by_hand
from benchmarks.problem import CELLS, Shape, draw
from benchmarks.rows import Row, Target, not_run, row
from goldfish.errors import ConfigError
from goldfish.probes.gradient_flow import gradient_flow

NAME = "exactness"
TITLE = "Worst relative error against a float64 reference, default initialisation, loss at the last step"
NEEDS = ()
LIFT = 700
RIGHT = 1e-4  # a step's norm is right when every sample's relative error is below
_TARGETS = {(torch.float32, 200): 2e-6, (torch.float32, 1000): 1e-5, (torch.float64, 200): 1e-12}
_SHORT = {torch.float32: "fp32", torch.float64: "fp64"}


@dataclass(frozen=True)
class Found:
    """log2 of the norm of dL/dh_t (B, T), outputs (B, T, H), and the gradient of every weight."""

    log2_norm: Tensor
    outputs: Tensor
    gradients: dict[str, Tensor]


def jobs(bench: Bench) -> list[Job]:
    """A job for each cell, length, precision and engine."""
    chosen = [(dtype, 50 if bench.quick else length) for dtype, length in _TARGETS]
    return [
        _job(bench, Shape(cell, 32, 8, length), dtype)
        for cell in CELLS
        for dtype, length in dict.fromkeys(chosen)
    ]  # fmt: skip


def _job(bench: Bench, shape: Shape, dtype: torch.dtype) -> Job:
    return Job(f"{shape} {_SHORT[dtype]}", lambda: _measure(bench, shape, dtype))


def _measure(bench: Bench, shape: Shape, dtype: torch.dtype) -> list[Row]:
    reference, found = _unrolled(shape, torch.float64, "cpu", LIFT), []
    for engine in contestants.engines(bench.device):
        try:
            measured = _own(shape, engine, bench.device, dtype)
        except ConfigError as error:
            found.append(not_run(NAME, f"{shape} {_SHORT[dtype]}", f"goldfish {engine}", str(error)))
        else:
            found.extend(_errors(shape, dtype, f"goldfish {engine}", measured, reference))
    if dtype == torch.float32:
        usual = _unrolled(shape, dtype, bench.device, 0)
        found.extend(_errors(shape, dtype, "cell loop + retain_grad", usual, reference)[-1:])
    return found


@lru_cache(maxsize=2)
def _unrolled(shape: Shape, dtype: torch.dtype, device: str, lift: int) -> Found:
    """The usual way, in any precision: a loop over nn.*Cell."""
    recurrent = contestants.build(shape, "eager", "cpu")
    cell = by_hand.MODULES[shape.cell](shape.inputs, shape.hidden).to(device, dtype)
    cell.load_state_dict({name.removesuffix("_l0"): value[0] for name, value in recurrent.state_dict().items()})
    inputs, cotangent = draw(shape, device, dtype)
    hidden = by_hand.states(cell, inputs[0].transpose(0, 1))
    for h in hidden:
        h.retain_grad()
    ((hidden[-1] * cotangent[0, :, -1]).sum() * 2.0**lift).backward()
    adjoints = torch.stack([_gradient(h) for h in hidden], dim=1).cpu()
    top = adjoints.abs().amax(-1, keepdim=True)
    norm = (adjoints / top).nan_to_num().norm(dim=-1).double().log2() + top.squeeze(-1).double().log2() - lift
    gradients = {name: (_gradient(value).double() * 2.0**-lift).cpu() for name, value in cell.named_parameters()}
    return Found(norm, torch.stack(hidden, dim=1).detach().cpu(), gradients)


def _own(shape: Shape, engine: str, device: str, dtype: torch.dtype) -> Found:
    recurrent = contestants.build(shape, engine, device, dtype)
    inputs, cotangent = draw(shape, device, dtype)
    outputs, _ = recurrent(inputs)
    with gradient_flow(recurrent) as flow:
        (outputs[:, :, -1] * cotangent[:, :, -1]).sum().backward()
    gradients = {name.removesuffix("_l0"): _gradient(value)[0].cpu() for name, value in recurrent.named_parameters()}
    return Found(flow.log2_norm["h"][0, 0].cpu(), outputs[0].detach().cpu(), gradients)


def _gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def _errors(shape: Shape, dtype: torch.dtype, peer: str, found: Found, reference: Found) -> list[Row]:
    """The worst of norms and outputs over steps, of weights' gradients over weights; and the steps with right norms."""
    case = f"{shape.cell} T={shape.length} {_SHORT[dtype]}"
    bound = _TARGETS.get((dtype, shape.length))
    target = None if bound is None else Target("≤", bound)
    by_sample = relative_log2(found.log2_norm, reference.log2_norm)  # (B, T)
    worst = {
        "dL/dh_t, worst step": float(over_batch(by_sample, reference.log2_norm).amax()),
        "outputs, worst step": relative(found.outputs.transpose(0, 1), reference.outputs.transpose(0, 1)),
        "weights' gradients, worst": max(
            relative(found.gradients[name][None], expected[None]) for name, expected in reference.gradients.items()
        ),
    }
    rows = [row(NAME, f"{case}: {what}", peer, value, unit="", target=target) for what, value in worst.items()]
    rows.append(row(NAME, f"{case}: dL/dh_t, worst step and sample", peer, float(by_sample.amax()), unit=""))
    right = int((by_sample.amax(0) <= RIGHT).sum())
    all_of_them = Target("≥", shape.length) if dtype == torch.float32 and peer.startswith("goldfish") else None
    what = f"{case}: steps of {shape.length} with a right norm (to {RIGHT:g})"
    return [*rows, row(NAME, what, peer, right, unit="steps", target=all_of_them)]


def relative(found: Tensor, expected: Tensor) -> float:
    """The worst ‖found − expected‖ / ‖expected‖ over the first axis."""
    error = (found.double() - expected.double()).flatten(1).norm(dim=1)
    return float((error / expected.double().flatten(1).norm(dim=1)).max())


def relative_log2(found: Tensor, expected: Tensor) -> Tensor:
    """|2^found / 2^expected − 1|, elementwise; 1 where a norm that is not zero was lost."""
    return torch.expm1((found.double() - expected.double()) * math.log(2)).abs()


def over_batch(errors: Tensor, log2_norm: Tensor) -> Tensor:
    """Relative errors (B, T) of the samples' norms → that of the vector of all samples' norms, (T,)."""
    weights = torch.exp2(log2_norm - log2_norm.amax(0))
    return (errors * weights).norm(dim=0) / weights.norm(dim=0)


def summary(bench: Bench, rows: Sequence[Row]) -> list[Row]:
    """Nothing beyond the cases."""
    return []
