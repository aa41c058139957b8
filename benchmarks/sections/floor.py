"""The floors: what the machine can do at most, what a step needs at least, and how near to that the engine comes.

A step's products: forward W_ih x_t and W_hh h_{t-1}, backward W_hhᵀ dpre, and both weights' gradients: in all
2·T·B·G·H·(2·(D + H) + H) floating-point operations. Its bytes, float32: the inputs, gates, states and the adjoints of
the gates, each written once and read once (the LSTM also keeps c and tanh c). Activations are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch

from benchmarks import contestants
from benchmarks.bench import Bench, Job
from benchmarks.interleave import Entrant, NotRun, Ratio, Timed, ratio, repeated
from benchmarks.peers import blas, torch_nn
from benchmarks.problem import CELLS, GATES, Shape
from benchmarks.rows import Row, not_run, row

NAME = "floor"
TITLE = "Floors: the fraction of the machine's measured ceilings that a training step reaches"
NEEDS = ()
KEPT = {"rnn": 1, "lstm": 3, "gru": 2}  # buffers of width H that are kept beside the gates: h, c, tanh c; W_hn h + b
SIDE, ARRAY = 2048, 2**26  # the product's side, and the elements of the array that is scaled
SCALING = "scaling"


def jobs(bench: Bench) -> list[Job]:
    """The ceilings, then a job for each cell and size."""
    ceilings = Ceilings(bench)
    shapes = [bench.shape(cell, *size) for cell in CELLS for size in product(bench.hidden, bench.batch)]
    return [Job("ceilings", ceilings.rows), *(_job(ceilings, shape) for shape in shapes)]


@dataclass
class Ceilings:
    """What the machine can do at most: one large float32 product by its fastest library, one large array scaled.

    Each library multiplies in a process of its own, on its fastest path, all of them in turn; the fastest is that of
    the lowest median. It then takes turns with the training steps that are compared with it.
    """

    bench: Bench
    _fastest: str = ""

    @property
    def side(self) -> int:
        """Of the product's matrices."""
        return 256 if self.bench.quick else SIDE

    def rows(self) -> list[Row]:
        """Every library's rate, alone and with all threads, and that of memory."""
        found: list[Row] = []
        for threads in sorted({1, self.bench.threads}) if self.bench.device == "cpu" else [self.bench.threads]:
            unit = "1 thread" if threads == 1 else f"{threads} threads" if self.bench.device == "cpu" else "the GPU"
            times = self.bench.time(self._products(threads))
            fastest = _fastest(times)
            for name, timed in times.items():
                case = f"one large float32 product: {name}"
                if isinstance(timed, NotRun):
                    found.append(not_run(NAME, case, unit, timed.reason))
                    continue
                note = "the fastest: the ceiling" if name == fastest else ""
                found.append(row(NAME, case, unit, self.operations / timed.median / 1e9, unit="GFLOP/s", note=note))
            array = self._scaled(threads)
            if isinstance(array, Timed):
                moved = self.bytes / array.median / 1e9
                found.append(row(NAME, "a large array is scaled in place: the ceiling", unit, moved, unit="GB/s"))
            self._fastest = fastest
        return found

    def _scaled(self, threads: int) -> Timed | NotRun:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return self.bench.time({SCALING: self.scaling()})[SCALING]
        finally:
            torch.set_num_threads(before)

    @property
    def operations(self) -> int:
        """Of one product."""
        return 2 * self.side**3

    @property
    def bytes(self) -> int:
        """Read and written by one scaling."""
        return 8 * self._size

    @property
    def _size(self) -> int:
        return 2**20 if self.bench.quick else ARRAY

    def fastest(self) -> str:
        """The name of the fastest library with all threads; measured where it is not known yet."""
        self._fastest = self._fastest or _fastest(self.bench.time(self._products(self.bench.threads)))
        return self._fastest

    def product(self, name: str) -> Entrant:
        """The product by the library of this name, with all threads."""
        return self._products(self.bench.threads)[name]

    def scaling(self) -> Entrant:
        """A large array, scaled in place by all threads of torch."""
        array = torch.rand(self._size, device=self.bench.device)
        return repeated(lambda: array.mul_(1.0000001))

    def _products(self, threads: int) -> dict[str, Entrant]:
        """The contestants by name. One that is not there is NotRun."""
        if self.bench.device == "cuda":
            a = torch.rand(self.side, self.side, device="cuda")
            out = torch.empty_like(a)
            return {"cuBLAS": repeated(lambda: torch.mm(a, a, out=out))}
        found: dict[str, Entrant] = {}
        for which in blas.LIBRARIES:
            library = self.bench.matrix_library(which, threads, self.side)
            found[library.name or which] = library.product() if library.name else NotRun("it is not there")
        return found


def _fastest(times: dict[str, Timed | NotRun]) -> str:
    """The contestant of the lowest median. Raises RuntimeError where none ran."""
    medians = {name: timed.median for name, timed in times.items() if isinstance(timed, Timed)}
    if not medians:
        raise RuntimeError("no matrix library of torch, numpy and scipy could multiply")
    return min(medians, key=lambda name: medians[name])


def flops(shape: Shape) -> int:
    """Floating-point operations of a training step's products."""
    G, H, D = GATES[shape.cell], shape.hidden, shape.inputs
    return 2 * shape.replicas * shape.length * shape.batch * G * H * (2 * (D + H) + H)


def bytes_moved(shape: Shape) -> int:
    """Bytes that a training step writes and reads at least: inputs and cotangents are only read."""
    G, H, D = GATES[shape.cell], shape.hidden, shape.inputs
    written = 2 * G * H + KEPT[shape.cell] * H  # gates, their adjoints, and what is kept beside them
    return 4 * shape.replicas * shape.length * shape.batch * (2 * written + 2 * D + H)


def _job(ceilings: Ceilings, shape: Shape) -> Job:
    bench = ceilings.bench

    def measure() -> list[Row]:
        library, name = ceilings.fastest(), torch_nn.names(bench.device)[-1]
        entrants = {
            library: ceilings.product(library),
            SCALING: ceilings.scaling(),
            contestants.OURS: contestants.step(shape, "auto", bench.device, True),
            name: torch_nn.step(shape, bench.device, name),
        }
        times = bench.time(entrants)
        found = []
        for peer in (contestants.OURS, name):
            result = times[peer]
            if isinstance(result, NotRun):
                found.append(not_run(NAME, str(shape), peer, result.reason))
                continue
            for what, ceiling, share in (
                (f"the product's ceiling ({library})", times[library], flops(shape) / ceilings.operations),
                ("the memory's ceiling", times[SCALING], bytes_moved(shape) / ceilings.bytes),
            ):
                if isinstance(ceiling, Timed):
                    found.append(_fraction(f"{shape}: fraction of {what}", peer, ratio(ceiling, result), share))
        return found

    return Job(str(shape), measure)


def _fraction(case: str, peer: str, found: Ratio, share: float) -> Row:
    """What a step needs, as a share of what the ceiling's contestant does, over how long it takes, round by round."""
    return row(NAME, case, peer, share * found.value, unit="", note=f"± {found.spread:.0%}")


def summary(bench: Bench, rows: Sequence[Row]) -> list[Row]:
    """Nothing beyond the cases."""
    return []
