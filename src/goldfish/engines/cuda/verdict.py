"""Whether the kernels are right on this machine: they are compared with `eager` once, and the verdict is remembered.

A kernel that was right on another GPU, or under another driver or compiler, is not trusted here before it was checked.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from goldfish.cells.base import HandDerivedCell
from goldfish.engines import eager
from goldfish.engines.cuda import function, plan, source, store
from goldfish.engines.eager import LayerWeights
from goldfish.engines.scaled import Recorder

R, T, B, D, LAYERS = 2, 48, 5, 3, 2  # of the problem that the kernels are compared on
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}  # of outputs and gradients, relative to their norm
NORMS = {torch.float32: 1e-4, torch.float64: 1e-10}  # of each adjoint's norm, relative


@dataclass(frozen=True)
class Verdict:
    """What the comparison found.

    Attributes:
        cell: the cell, with its nonlinearity where that is not tanh.
        hidden_size: H.
        dtype: "float32" or "float64".
        reason: why the kernels are not to be trusted; "" where they are.
        worst: the largest relative error of outputs and gradients.
        worst_norm: that of the adjoints' norms.
        machine: GPU, driver, versions, and the hash of the engine's source.
    """

    cell: str
    hidden_size: int
    dtype: str
    reason: str
    worst: float
    worst_norm: float
    machine: dict[str, str]

    def __str__(self) -> str:
        found = self.reason or "exact, the same bits in any pack and tile"
        errors = f"gradients within {self.worst:.1e}, norms within {self.worst_norm:.1e} of float64"
        where = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        return f"{self.cell} H={self.hidden_size} {self.dtype}: {found} ({errors}; {where})"


def of(cell: HandDerivedCell, dtype: torch.dtype, device: torch.device) -> Verdict:
    """The verdict on a cell's kernels on a device: remembered, else found now, in a second or two."""
    return _of(type(cell), cell.nonlinearity, cell.hidden_size, dtype, device)


@cache
def _of(kind: type[HandDerivedCell], nonlinearity: str, H: int, dtype: torch.dtype, device: torch.device) -> Verdict:
    here = machine(device)
    name = f"verdict-{store.key(kind.__name__, nonlinearity, H, str(dtype), here)}.json"
    remembered = _parsed(store.read(name))
    if remembered is not None:
        return remembered
    extra: dict[str, Any] = {} if nonlinearity == "tanh" else {"nonlinearity": nonlinearity}
    cell = kind(hidden_size=H, num_layers=LAYERS, **extra)
    reason, worst, worst_norm = _compare(cell, dtype, device)
    label = "-".join([kind.__name__.lower(), *extra.values()])
    found = Verdict(label, H, str(dtype).removeprefix("torch."), reason, worst, worst_norm, here)
    store.write(name, json.dumps(asdict(found), indent=1).encode())
    return found


def remembered(device: torch.device) -> list[Verdict]:
    """Every verdict of this very machine that is in the user's cache."""
    here = machine(device)
    files = sorted(store.folder().glob("verdict-*.json"))
    found = [_parsed(store.read(file.name)) for file in files]
    return [verdict for verdict in found if verdict is not None and verdict.machine == here]


@cache
def machine(device: torch.device) -> dict[str, str]:
    """What a verdict holds for."""
    return {
        "GPU": torch.cuda.get_device_name(device),
        "driver": _driver(),
        "NVRTC": store.compiler(),
        "torch": str(torch.__version__),
        "cuda-core": metadata.version("cuda-core"),
        "source": source.fingerprint(),
    }


def _driver() -> str:
    from cuda.core import system

    try:
        version = system.get_kernel_mode_driver_version()
    except RuntimeError:  # there is no NVML
        version = system.get_user_mode_driver_version()
    return ".".join(map(str, version))


def _parsed(content: bytes | None) -> Verdict | None:
    try:
        return None if content is None else Verdict(**json.loads(content))
    except (ValueError, TypeError):  # cut short, or another version's
        return None


def _compare(cell: HandDerivedCell, dtype: torch.dtype, device: torch.device) -> tuple[str, float, float]:
    """Why the kernels are not to be trusted, and the worst errors."""
    with torch.inference_mode(False), torch.enable_grad():
        problem = _Problem(cell, device)
        expected, norms = problem.run(eager, torch.float64)
        try:
            found, found_norms = problem.run(function, dtype)
            tiled, _ = problem.run(function, dtype, rows=max(plan.TILES))
            alone, _ = problem.run(function, dtype, picks=slice(1, 2))
        except Exception as error:  # whatever a compiler or a driver raises is a verdict
            return f"its kernels fail on this machine: {str(error).strip().splitlines()[0]}", torch.inf, torch.inf
    worst = max(_relative(found[name], expected[name]) for name in expected)
    worst_norm = max(_relative_log2(found_norms[name], norms[name]) for name in norms)
    if not worst <= TOLERANCE[dtype] or not worst_norm <= NORMS[dtype]:
        errors = f"gradients by {worst:.1e}, norms by {worst_norm:.1e}"
        return f"its kernels give wrong numbers on this machine: {errors}", worst, worst_norm
    if not all(torch.equal(tiled[name], found[name]) for name in found):
        return "its kernels' bits depend on the tile on this machine", worst, worst_norm
    if not all(torch.equal(alone[name], found[name][1:]) for name in found):
        return "its kernels' bits depend on the pack on this machine", worst, worst_norm
    return "", worst, worst_norm


class _Problem:
    """A network of two layers with PyTorch's initialisation, drawn on the CPU from a generator of its own."""

    def __init__(self, cell: HandDerivedCell, device: torch.device) -> None:
        self.cell, self.device = cell, device
        G, H = len(cell.gates), cell.hidden_size
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int, bound: float) -> Tensor:
            return (2 * torch.rand(shape, generator=generator, dtype=torch.float32) - 1) * bound

        self.inputs = draw(R, T, B, D, bound=2.0)
        shapes = [((G * H, D if layer == 0 else H), (G * H, H), (G * H,), (G * H,)) for layer in range(LAYERS)]
        self.weights = [[draw(R, *shape, bound=H**-0.5) for shape in layer] for layer in shapes]
        self.initial = [[draw(R, B, H, bound=0.5) for _ in cell.states] for _ in range(LAYERS)]
        self.cotangents = [draw(R, B, H, bound=1.0) for _ in range(1 + LAYERS * len(cell.states))]

    def run(
        self, engine: Any, dtype: torch.dtype, picks: slice = slice(None), **options: Any
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Outputs and every gradient of some replicas, by name, and the log2 norms of the adjoints."""

        def leaf(tensor: Tensor) -> Tensor:
            return tensor[picks].to(self.device, dtype, copy=True).requires_grad_()

        inputs = leaf(self.inputs)
        weights = [LayerWeights(*map(leaf, layer)) for layer in self.weights]
        initial = [tuple(map(leaf, layer)) for layer in self.initial]
        recorder = Recorder(active=True)
        outputs, finals = engine.run(self.cell, inputs, weights, initial, recorder, {}, **options)
        reached = [outputs[:, -1], *(state for layer in finals for state in layer)]
        given = [cotangent[picks].to(self.device, dtype) for cotangent in self.cotangents]
        torch.autograd.backward(reached, given)
        leaves = [inputs, *(w for layer in weights for w in layer), *(s for layer in initial for s in layer)]
        found = {f"gradient {i}": leaf.grad for i, leaf in enumerate(leaves) if leaf.grad is not None}
        assert len(found) == len(leaves)
        states = {f"reached {i}": state.detach() for i, state in enumerate(reached)}
        return found | states | {"outputs": outputs.detach()}, recorder.log2_norm


def _relative(found: Tensor, expected: Tensor) -> float:
    expected = expected.double()
    return float((found.double() - expected).norm() / expected.norm())


def _relative_log2(found: Tensor, expected: Tensor) -> float:
    """The worst relative error of norms that are given as log2; NaN where one is missing."""
    return float((torch.exp2(found - expected) - 1).abs().max())
