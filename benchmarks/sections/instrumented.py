"""What measuring costs: the same engine with the norms of all adjoints, over without."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from benchmarks import contestants, rows
from benchmarks.bench import Bench, Job
from benchmarks.interleave import Timed, ratio
from benchmarks.problem import CELLS, Shape
from benchmarks.rows import Row, Target

NAME = "instrumented"
TITLE = "Instrumented ÷ uninstrumented, the same engine"
NEEDS = ()
TARGET = Target("≤", 1.05)  # for the engine that `auto` takes


def jobs(bench: Bench) -> list[Job]:
    """A job for each cell and size; every engine at the smallest, which is quick."""
    sizes = list(product(bench.hidden, bench.batch))
    engines = {size: contestants.engines(bench.device) if size == sizes[0] else ["auto"] for size in sizes}
    return [_job(bench, bench.shape(cell, *size), engines[size]) for cell in CELLS for size in sizes]


def _job(bench: Bench, shape: Shape, engines: Sequence[str]) -> Job:
    return Job(str(shape), lambda: [_measure(bench, shape, engine) for engine in engines])


def _measure(bench: Bench, shape: Shape, engine: str) -> Row:
    entrants = {name: contestants.step(shape, engine, bench.device, name == "with") for name in ("with", "without")}
    results = bench.time(entrants, 2 * bench.rounds)  # a few per cent are at stake
    found, without = results["with"], results["without"]
    peer = f"goldfish {engine}"
    if not (isinstance(found, Timed) and isinstance(without, Timed)):
        reasons = [result.reason for result in results.values() if not isinstance(result, Timed)]
        return rows.not_run(NAME, str(shape), peer, reasons[0])
    target = TARGET if engine == "auto" else None
    found_ratio = ratio(found, without)
    return rows.row(NAME, str(shape), peer, found.median, ratio=found_ratio, rounds=len(found.rounds), target=target)


def summary(bench: Bench, rows: Sequence[Row]) -> list[Row]:
    """Nothing beyond the cases."""
    return []
