"""How the cost grows with T, H and R, and the memory of a very long sequence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import linear_regression

from benchmarks import children, contestants
from benchmarks.bench import Bench, Job
from benchmarks.interleave import Entrant, Ratio
from benchmarks.peers import torch_nn
from benchmarks.problem import CELLS, Shape
from benchmarks.rows import Row, Target, row

NAME = "growth"
TITLE = "Cost against T, H and R; ratios are against goldfish auto with all norms"
NEEDS = ()
LENGTHS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000)
HIDDEN = (16, 32, 64, 128, 256)
REPLICAS = (1, 2, 4, 8, 16, 32)
LONG, LONG_HIDDEN = 100_000, 64
LINEAR = Target("≤", 1.05)  # the exponent of T in the cost
FLAT = Target("≤", 1.1)  # the cost per replica of the largest pack, over that of the smallest
MEMORY = Target("≤", 2.0)  # GB


def jobs(bench: Bench) -> list[Job]:
    """A job for each point of each axis, and the long sequence."""
    few = 2 if bench.quick else None
    shapes: list[Shape] = []
    for cell in CELLS:
        shapes += [Shape(cell, length=length) for length in LENGTHS[:few]]
        shapes += [bench.shape(cell, hidden, 32) for hidden in HIDDEN[:few]]
        shapes += [bench.shape(cell, 32, 32, replicas) for replicas in REPLICAS[:few]]
    memory = [_memory(bench, cell) for cell in CELLS]
    return [_job(bench, shape) for shape in dict.fromkeys(shapes)] + memory


def _job(bench: Bench, shape: Shape) -> Job:
    def measure() -> list[Row]:
        entrants: dict[str, Entrant] = {contestants.OURS: contestants.step(shape, "auto", bench.device, True)}
        alone = replace(shape, replicas=1)
        entrants |= dict(torch_nn.steps(alone, bench.device))
        return bench.compare(NAME, str(shape), entrants, contestants.OURS)

    return Job(str(shape), measure)


def _memory(bench: Bench, cell: str) -> Job:
    length = LONG // 10 if bench.quick else LONG
    shape = Shape(cell, LONG_HIDDEN, 1, length)

    def measure() -> list[Row]:
        told = children.ask("memory", bench.threads, shape, device=bench.device)
        note = f"at most {told['grown']:.2g} GB more than before the step, which took {told['seconds']:.1f} s"
        target = None if bench.quick else MEMORY
        return [
            row(
                NAME,
                f"{shape}: peak memory of the process",
                contestants.OURS,
                told["peak"],
                unit="GB",
                target=target,
                note=note,
            )
        ]

    return Job(f"{shape} memory", measure)


def summary(bench: Bench, rows: Sequence[Row]) -> list[Row]:
    """The exponent of T, and the cost per replica of the largest pack over that of the smallest."""
    costs = {item.case: item.value for item in rows if item.peer == contestants.OURS and item.value is not None}
    found = []
    for cell in CELLS:
        by_length = [(T, costs[str(Shape(cell, length=T))]) for T in LENGTHS if str(Shape(cell, length=T)) in costs]
        by_length = by_length[-6:]  # from 200: below, what every call costs would flatter the exponent
        case = f"{cell} H=32 B=32: exponent of T, {by_length[0][0]} to {by_length[-1][0]}"
        found.append(row(NAME, case, contestants.OURS, exponent(by_length), unit="", target=LINEAR))
        packs = [(R, str(bench.shape(cell, 32, 32, R))) for R in REPLICAS]
        (first, least), *_, (last, most) = [(R, costs[name]) for R, name in packs if name in costs]
        case = f"{cell} H=32 B=32: cost per replica, R={last} ÷ R={first}"
        found.append(row(NAME, case, contestants.OURS, None, unit="", ratio=Ratio(most / least, 0.0), target=FLAT))
    return found


def exponent(points: Sequence[tuple[int, float]]) -> float:
    """The slope of log cost over log T, by least squares."""
    return linear_regression([math.log(T) for T, _ in points], [math.log(cost) for _, cost in points]).slope
