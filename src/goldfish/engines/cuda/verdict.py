"""The check that the kernels are right on this machine: compared with `eager` once, and the verdict is remembered.

A kernel that was right on another GPU, or under another driver or compiler, is not trusted here before it was checked.
The comparison runs in a process of its own, because a kernel that reads out of bounds ruins its process's CUDA context.
A failure to finish, such as a lack of memory, says nothing about the kernels and is not remembered.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import goldfish
from goldfish import files
from goldfish.cells.base import HandDerivedCell
from goldfish.config import registry
from goldfish.engines import compiled, eager
from goldfish.engines.cuda import function, launch, plan, source, store
from goldfish.engines.layers import LayerWeights, Recorder

R, T, B, D, LAYERS = 2, 48, 5, 3, 2  # of the problem that the kernels are compared on
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}  # of outputs and gradients, relative to their norm
NORMS = {torch.float32: 1e-4, torch.float64: 1e-10}  # of each adjoint's norm, relative
PATIENCE = 120.0  # seconds that one comparison may take: torch is loaded, kernels are compiled


@dataclass(frozen=True)
class Asked:
    """Which kernels are to be checked: the cell's name, its nonlinearity, H, and "float32" or "float64"."""

    cell: str
    nonlinearity: str
    hidden_size: int
    dtype: str

    @property
    def label(self) -> str:
        """The cell, with its nonlinearity where that is not tanh."""
        return self.cell if self.nonlinearity == "tanh" else f"{self.cell}-{self.nonlinearity}"

    def build(self) -> HandDerivedCell:
        """The cell, with the layers of the problem."""
        extra = {} if self.nonlinearity == "tanh" else {"nonlinearity": self.nonlinearity}
        built: HandDerivedCell = registry.load("cell", self.cell)(
            hidden_size=self.hidden_size, num_layers=LAYERS, **extra
        )
        return built


def asked(cell: HandDerivedCell, dtype: torch.dtype) -> Asked:
    """The kernels to check before a cell runs in a dtype."""
    return Asked(compiled.name(cell), cell.nonlinearity, cell.hidden_size, compiled.DTYPES[dtype])


@dataclass(frozen=True)
class Verdict:
    """The result of the comparison.

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
        outcome = self.reason or "exact, the same bits in any pack and tile"
        errors = f"gradients within {self.worst:.1e}, norms within {self.worst_norm:.1e} of float64"
        where = ", ".join(f"{key} {value}" for key, value in self.machine.items())
        return f"{self.cell} H={self.hidden_size} {self.dtype}: {outcome} ({errors}; {where})"


def of(cell: HandDerivedCell, dtype: torch.dtype, device: torch.device) -> Verdict:
    """The verdict on a cell's kernels on a device: remembered, else found now, in some seconds."""
    return _of(asked(cell, dtype), device)


@cache
def _of(kernels: Asked, device: torch.device) -> Verdict:
    (verdict,) = of_all([kernels], device)
    return verdict


def of_all(kernels: Sequence[Asked], device: torch.device) -> list[Verdict]:
    """The verdicts on several: those that are not remembered are found in one process, one after another."""
    here = machine(device)
    known = {one: _parsed(files.read_cache(store.PART, _name(one, here))) for one in kernels}
    for one, answer in _elsewhere([one for one, verdict in known.items() if verdict is None], device):
        if isinstance(answer, Verdict):
            files.write_cache(store.PART, _name(one, here), json.dumps(asdict(answer), indent=1).encode())
        else:
            reason = f"its kernels could not be checked on this machine: {answer}"
            answer = Verdict(one.label, one.hidden_size, one.dtype, reason, torch.inf, torch.inf, here)
        known[one] = answer
    return [verdict for one in kernels if (verdict := known[one]) is not None]


def _name(kernels: Asked, here: dict[str, str]) -> str:
    return f"verdict-{store.key(kernels, here)}.json"


def _elsewhere(kernels: Sequence[Asked], device: torch.device) -> Iterator[tuple[Asked, Verdict | str]]:
    """Compare in a process of its own: yield each verdict, or why there is none. A crash costs one."""
    left = list(kernels)
    while left:
        lines, why = _answers(left, device)
        for line in lines[: len(left)]:
            told = json.loads(line)
            yield left.pop(0), told if isinstance(told, str) else Verdict(**told)
        if left and why:
            yield left.pop(0), why


def _answers(kernels: Sequence[Asked], device: torch.device) -> tuple[list[str], str]:
    """The lines that a comparing process prints, one for each, and what became of it where it did not finish."""
    package = Path(goldfish.__file__).parents[1]
    paths = os.pathsep.join([str(package), *filter(None, [os.environ.get("PYTHONPATH")])])
    given = json.dumps([asdict(one) for one in kernels])
    try:
        done = subprocess.run(
            [*command(), str(device), given], env=os.environ | {"PYTHONPATH": paths}, stdin=subprocess.DEVNULL,
            capture_output=True, timeout=PATIENCE * len(kernels),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        return _lines(error.stdout or b""), f"the comparison took longer than {PATIENCE:g} s"
    except OSError as error:
        return [], f"the comparison cannot be started: {error}"
    lines = _lines(done.stdout)
    if len(lines) == len(kernels):
        return lines, ""
    words = (done.stderr.decode(errors="replace").strip().splitlines() or [""])[-1].strip()
    code = done.returncode
    ended = f"exit code {code}" + (f" ({signal.strsignal(-code)})" if code < 0 else "")
    return lines, f"the comparison ended with {ended}{': ' if words else ''}{words}"


def _lines(printed: bytes) -> list[str]:
    """Whole lines of JSON; the last may be cut short, and a library may print its own."""
    return [line for line in printed.decode(errors="replace").splitlines() if line[:1] in '{"' and line[-1:] in '}"']


def command() -> list[str]:
    """The command that starts a comparison; the device and the kernels follow as arguments."""
    return [sys.executable, "-m", __name__]


def main(arguments: Sequence[str]) -> None:
    """In the process of its own: print each verdict as a line of JSON, or, as a string, what broke it off."""
    device = torch.device(arguments[0])
    for kernels in json.loads(arguments[1]):
        told: dict[str, Any] | str
        try:
            told = asdict(compare(Asked(**kernels), device))
        except Exception as error:  # whatever a compiler, a driver or an allocator raises
            told = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        print(json.dumps(told), flush=True)


def compare(kernels: Asked, device: torch.device) -> Verdict:
    """Run the comparison here. Raises whatever a compiler, a driver or an allocator raises."""
    reason, worst, worst_norm = _compare(kernels.build(), getattr(torch, kernels.dtype), device)
    return Verdict(kernels.label, kernels.hidden_size, kernels.dtype, reason, worst, worst_norm, machine(device))


def remembered(device: torch.device) -> list[Verdict]:
    """Every verdict of this very machine that is in the user's cache."""
    here = machine(device)
    folder = files.cache(store.PART)
    kept = sorted(folder.glob("verdict-*.json")) if folder is not None else []
    verdicts = [_parsed(file.read_bytes()) for file in kept]
    return [verdict for verdict in verdicts if verdict is not None and verdict.machine == here]


@cache
def machine(device: torch.device) -> dict[str, str]:
    """The machine that a verdict holds for."""
    return {
        "GPU": torch.cuda.get_device_name(device),
        "driver": store.driver(),
        "NVRTC": store.compiler(),
        "torch": str(torch.__version__),
        "cuda-core": metadata.version("cuda-core"),
        "source": source.fingerprint(),
    }


def _parsed(content: bytes | None) -> Verdict | None:
    try:
        return None if content is None else Verdict(**json.loads(content))
    except (ValueError, TypeError):  # cut short, or another version's
        return None


def _compare(cell: HandDerivedCell, dtype: torch.dtype, device: torch.device) -> tuple[str, float, float]:
    """Why the kernels are not to be trusted, and the worst errors."""
    with torch.inference_mode(False), torch.enable_grad():
        expected, norms = _Problem(cell, torch.device("cpu")).run(eager, torch.float64)
        problem = _Problem(cell, device)
        measured, found_norms = problem.run(function, dtype)
        worst = max(_relative(measured[name], expected[name]) for name in expected)
        worst_norm = max(_relative_log2(found_norms[name], norms[name]) for name in norms)
        if not worst <= TOLERANCE[dtype] or not worst_norm <= NORMS[dtype]:
            errors = f"gradients by {worst:.1e}, norms by {worst_norm:.1e}"
            return f"its kernels give wrong numbers on this machine: {errors}", worst, worst_norm
        for rows in plan.tiles(cell, dtype.itemsize, B, launch.multiprocessor(device)):
            if not _same(problem.run(function, dtype, rows=rows), (measured, found_norms), slice(None)):
                return "its kernels' bits depend on the tile on this machine", worst, worst_norm
        for pick in range(R):
            picks = slice(pick, pick + 1)
            if not _same(problem.run(function, dtype, picks=picks), (measured, found_norms), picks):
                return "its kernels' bits depend on the pack on this machine", worst, worst_norm
    return "", worst, worst_norm


def _same(some: Sequence[dict[str, Tensor]], every: Sequence[dict[str, Tensor]], picks: slice) -> bool:
    """Whether tensors and norms are the bits of some of all replicas."""
    pairs = zip(some, every, strict=True)
    return all(torch.equal(value, whole[name][picks]) for part, whole in pairs for name, value in part.items())


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
        gradients = {f"gradient {i}": leaf.grad for i, leaf in enumerate(leaves) if leaf.grad is not None}
        assert len(gradients) == len(leaves)
        states = {f"reached {i}": state.detach() for i, state in enumerate(reached)}
        return gradients | states | {"outputs": outputs.detach()}, recorder.log2_norm


def _relative(measured: Tensor, expected: Tensor) -> float:
    measured, expected = measured.double().cpu(), expected.double()
    return float((measured - expected).norm() / expected.norm())


def _relative_log2(measured: Tensor, expected: Tensor) -> float:
    """The worst relative error of norms that are given as log2; NaN where one is missing. Zero norms may be equal."""
    measured = measured.cpu()
    return float((torch.exp2(measured - expected) - 1).abs().masked_fill(measured == expected, 0.0).max())


if __name__ == "__main__":
    main(sys.argv[1:])
