"""Sixteen runs with Adam in one pack, against sixteen runs of torch.nn.* with Adam one after another."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import contestants
from benchmarks.bench import Bench, Job
from benchmarks.interleave import Entrant
from benchmarks.peers import torch_nn
from benchmarks.problem import CELLS, Shape
from benchmarks.rows import Row, Target, judged

NAME = "packing"
TITLE = "16 packed runs with Adam: time per run and step; ratios are against the instrumented pack"
NEEDS = ()
RUNS = 16
HIDDEN = (32, 64)
_CPU = {("rnn", 32): 8.0, ("gru", 32): 8.0, ("rnn", 64): 3.5, ("gru", 64): 3.5, ("lstm", 32): 1.4, ("lstm", 64): 1.4}
_CUDA = {32: 40.0, 64: 10.0}


def jobs(bench: Bench) -> list[Job]:
    """A job for each cell and H."""
    return [_job(bench, cell, hidden) for cell in CELLS for hidden in (HIDDEN[:1] if bench.quick else HIDDEN)]


def _job(bench: Bench, cell: str, hidden: int) -> Job:
    shape = bench.shape(cell, hidden, 32, RUNS)
    target = Target("≥", _CPU[cell, hidden] if bench.device == "cpu" else _CUDA[hidden])
    return Job(str(shape), lambda: _measure(bench, shape, target))


def _measure(bench: Bench, shape: Shape, target: Target) -> list[Row]:
    entrants: dict[str, Entrant] = {
        contestants.OURS: contestants.packed(shape, bench.device, True),
        "goldfish auto": contestants.packed(shape, bench.device, False),
    }
    peers = {f"{name}, {RUNS} in turn": run for name, run in torch_nn.steps(shape, bench.device, adam=True)}
    found = bench.compare(NAME, str(shape), entrants | peers, contestants.OURS)
    return [judged(item, target) if item.peer in peers else item for item in found]


def summary(bench: Bench, rows: Sequence[Row]) -> list[Row]:
    """Nothing beyond the cases."""
    return []
