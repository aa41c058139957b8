"""This project's contestants: every engine that runs here, with and without the norms of all adjoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from benchmarks.interleave import Contestant, Entrant, NotRun, repeated
from benchmarks.problem import CELLS, Shape, draw
from goldfish.config import registry
from goldfish.engines.select import ENGINES, choose
from goldfish.errors import ConfigError
from goldfish.probes.gradient_flow import GradientFlow, gradient_flow
from goldfish.recurrent import Recurrent
from goldfish.training.device.graph import GraphedStep
from goldfish.training.weights import PackedWeights

INSTRUMENTED = "instrumented"
OURS = f"goldfish auto, {INSTRUMENTED}"
_ELSEWHERE = {"cpu": "cuda", "cuda": "cpu"}  # device → the engine that is another device's


def engines(device: str) -> list[str]:
    """The engines for a device, `auto` first."""
    return [engine for engine in ENGINES if engine != _ELSEWHERE[device]]


def auto(device: str) -> str:
    """What engine=auto takes for each cell here, such as "rnn: cpu, lstm: cpu, gru: stepwise"."""
    taken = {}
    for cell in CELLS:
        built = build(Shape(cell), "auto", device).cell
        taken[cell] = choose("auto", built, torch.device(device), torch.float32).__name__.rpartition(".")[2]
    return ", ".join(f"{cell}: {engine}" for cell, engine in taken.items())


def name(engine: str, instrumented: bool) -> str:
    """A contestant's name."""
    return f"goldfish {engine}{f', {INSTRUMENTED}' if instrumented else ''}"


def build(shape: Shape, engine: str, device: str, dtype: torch.dtype = torch.float32) -> Recurrent:
    """The network of a shape; the same weights whichever engine. Raises ConfigError where the engine cannot run it."""
    torch.manual_seed(3)
    recurrent = Recurrent(
        shape.cell, shape.inputs, shape.hidden, replicas=shape.replicas, engine=engine, dtype=torch.float32
    )
    return recurrent.to(device, dtype)


def step(shape: Shape, engine: str, device: str, instrumented: bool) -> Entrant:
    """Forward, backward from the outputs' cotangent into all weights; if instrumented, all adjoints' norms, too."""
    try:
        recurrent = build(shape, engine, device)
    except ConfigError as error:
        return NotRun(str(error))
    inputs, cotangent = draw(shape, device)

    def train() -> None:
        recurrent.zero_grad(set_to_none=True)
        outputs, _ = recurrent(inputs)
        with _measured(recurrent, instrumented) as flow:
            outputs.backward(cotangent)
        if flow is not None:
            assert len(flow.log2_norm)

    return repeated(train, shape.replicas)


def steps(shape: Shape, device: str) -> Iterator[tuple[str, Entrant]]:
    """Every engine for the device, instrumented and not."""
    for engine in engines(device):
        for instrumented in (True, False):
            yield name(engine, instrumented), step(shape, engine, device, instrumented)


class Pack:
    """R runs with Adam, their weights held as goldfish.train holds them, and like there replayed on a GPU."""

    def __init__(self, shape: Shape, device: str, instrumented: bool) -> None:
        self.recurrent, self.instrumented = build(shape, "auto", device), instrumented
        self.inputs, self.cotangent = draw(shape, device)
        self.weights = PackedWeights(self.recurrent)
        self.optimizer = registry.load("optimizer", "adam")([{"params": self.weights.rows}])
        engine = choose("auto", self.recurrent.cell, self.inputs.device, self.inputs.dtype)
        replayed = engine.__name__.endswith(".cuda")
        self.step: Callable[[], Tensor] = GraphedStep(self.plain, self.changed) if replayed else self.plain

    def plain(self) -> Tensor:
        """One training step of every run, operation by operation; a number of each one's gradient."""
        outputs, _ = self.recurrent(self.inputs)
        with _measured(self.recurrent, self.instrumented):
            self.weights.backward(outputs, self.cotangent)
        self.optimizer.step()
        return self.weights.gradient[:, 0]

    def changed(self) -> list[Tensor]:
        """What a step changes."""
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        return [self.weights.values, self.weights.gradient, *moments]


def packed(shape: Shape, device: str, instrumented: bool) -> Contestant:
    """A pack as a contestant."""
    return repeated(Pack(shape, device, instrumented).step, shape.replicas)


def _measured(recurrent: Recurrent, instrumented: bool) -> AbstractContextManager[GradientFlow | None]:
    return gradient_flow(recurrent) if instrumented else nullcontext()
