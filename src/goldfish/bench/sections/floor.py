"""The floors: what the machine can do at most, what a step needs at least, and how near to that the engine comes.

A step's products: forward W_ih x_t and W_hh h_{t-1}, backward W_hhᵀ dpre, and both weights' gradients: in all
2·T·B·G·H·(2·(D + H) + H) floating-point operations. Its bytes, float32: the inputs, gates, states and the adjoints of
the gates, each written once and read once (the LSTM also keeps c and tanh c). Activations are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch

from goldfish.bench import own
from goldfish.bench.bench import Bench, Job
from goldfish.bench.interleave import NotRun, Timed, repeated
from goldfish.bench.peers import torch_nn
from goldfish.bench.problem import CELLS, GATES, Shape
from goldfish.bench.rows import Row, not_run, row

NAME = "floor"
TITLE = "Floors: the fraction of the machine's measured ceilings that a training step reaches"
NEEDS = ()
KEPT = {"rnn": 1, "lstm": 3, "gru": 2}  # buffers of width H that are kept beside the gates: h, c, tanh c; W_hn h + b
PRODUCT, ARRAY = 3072, 2**26  # the product's side, and the elements of the array that is scaled


def jobs(bench: Bench) -> list[Job]:
    """The ceilings, then a job for each cell and size."""
    shapes = [bench.shape(cell, *size) for cell in CELLS for size in product(bench.hidden, bench.batch)]
    return [Job("ceilings", lambda: _ceilings(bench)), *(_job(bench, shape) for shape in shapes)]


def _ceilings(bench: Bench) -> list[Row]:
    found = []
    for threads in sorted({1, bench.threads}) if bench.device == "cpu" else [bench.threads]:
        flops, bytes_moved = ceilings(bench, threads)
        unit = "1 thread" if threads == 1 else f"{threads} threads" if bench.device == "cpu" else "the GPU"
        found.append(row(NAME, "ceiling: one large float32 product", unit, flops / 1e9, unit="GFLOP/s"))
        found.append(row(NAME, "ceiling: a large array is scaled in place", unit, bytes_moved / 1e9, unit="GB/s"))
    return found


def ceilings(bench: Bench, threads: int) -> tuple[float, float]:
    """Floating-point operations and bytes per second: one large product, and one large array read and written."""
    side, size = (512, 2**22) if bench.quick else (PRODUCT, ARRAY)
    a = torch.rand(side, side, device=bench.device)
    out, array = torch.empty_like(a), torch.rand(size, device=bench.device)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        contestants = {
            "product": repeated(lambda: torch.mm(a, a, out=out)),
            "scaling": repeated(lambda: array.mul_(1.0000001)),
        }
        times = bench.time(contestants)
    finally:
        torch.set_num_threads(before)
    fastest = {name: min(found.rounds) for name, found in times.items() if isinstance(found, Timed)}
    return 2 * side**3 / fastest["product"], 8 * size / fastest["scaling"]


def flops(shape: Shape) -> int:
    """Floating-point operations of a training step's products."""
    G, H, D = GATES[shape.cell], shape.hidden, shape.inputs
    return 2 * shape.replicas * shape.length * shape.batch * G * H * (2 * (D + H) + H)


def bytes_moved(shape: Shape) -> int:
    """Bytes that a training step writes and reads at least: inputs and cotangents are only read."""
    G, H, D = GATES[shape.cell], shape.hidden, shape.inputs
    written = 2 * G * H + KEPT[shape.cell] * H  # gates, their adjoints, and what is kept beside them
    return 4 * shape.replicas * shape.length * shape.batch * (2 * written + 2 * D + H)


def _job(bench: Bench, shape: Shape) -> Job:
    def measure() -> list[Row]:
        most, fastest = ceilings(bench, bench.threads)
        name = torch_nn.names(bench.device)[-1]
        entrants = {
            own.OURS: own.step(shape, "auto", bench.device, True),
            name: torch_nn.step(shape, bench.device, name),
        }
        found = []
        for peer, result in bench.time(entrants).items():
            if isinstance(result, NotRun):
                found.append(not_run(NAME, str(shape), peer, result.reason))
                continue
            of_product = flops(shape) / result.median / most
            of_memory = bytes_moved(shape) / result.median / fastest
            found.append(row(NAME, f"{shape}: fraction of the product's ceiling", peer, of_product, unit=""))
            found.append(row(NAME, f"{shape}: fraction of the memory's ceiling", peer, of_memory, unit=""))
        return found

    return Job(str(shape), measure)


def summary(bench: Bench, rows: Sequence[Row]) -> list[Row]:
    """Nothing beyond the cases."""
    return []
