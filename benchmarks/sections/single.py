"""One network: a training step with the norms of all adjoints, against every other way to take that step."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from benchmarks import contestants
from benchmarks.bench import Bench, Job
from benchmarks.interleave import Entrant, Ratio, geomean
from benchmarks.peers import by_hand, torch_nn, triton_kernels
from benchmarks.problem import CELLS, Shape
from benchmarks.rows import Row, Target, row
from goldfish.sweep.machine import cores

NAME = "single"
TITLE = "One network: time per training step (T=200 unless said); ratios are against goldfish auto with all norms"
NEEDS = ()
LARGE = (256, 128)  # (H, B)
LOOP = "cell loop + retain_grad"
OWN_PROCESS = "torch.nn, own process"
_CPU = {"rnn": 4.5, "gru": 4.5, "lstm": 1.15}


def jobs(bench: Bench) -> list[Job]:
    """A job for each cell and size."""
    sizes = list(product(bench.hidden, bench.batch))
    if not bench.quick:
        sizes += [(64, 32), (64, 128), LARGE] if bench.device == "cuda" else [LARGE]
    return [_job(bench, bench.shape(cell, hidden, batch)) for cell in CELLS for hidden, batch in sizes]


def _job(bench: Bench, shape: Shape) -> Job:
    return Job(str(shape), lambda: bench.compare(NAME, str(shape), dict(_entrants(bench, shape)), contestants.OURS))


def _entrants(bench: Bench, shape: Shape) -> list[tuple[str, Entrant]]:
    small = (shape.hidden, shape.batch) == (bench.hidden[0], bench.batch[0])
    auto = {contestants.name("auto", with_norms) for with_norms in (True, False)}  # others take seconds at larger sizes
    found: list[tuple[str, Entrant]] = [
        item for item in contestants.steps(shape, bench.device) if small or item[0] in auto
    ]
    found.extend(torch_nn.steps(shape, bench.device))
    found.append((OWN_PROCESS, bench.processes(1, bench.threads).training(shape, bench.device)))
    found.append((f"torch.nn, {cores()} processes", bench.processes(cores(), 1).training(shape, bench.device)))
    if (shape.hidden, shape.batch) != LARGE:
        found.append((LOOP, by_hand.retain_grad(shape, bench.device)))
    if small:
        found.append(("cell loop + autograd.grad", by_hand.autograd_grad(shape, bench.device)))
        found.append((f"vmap of {by_hand.STACKED} plain loops", by_hand.stacked(shape, bench.device)))
    if bench.device == "cuda":
        found.extend(triton_kernels.all_kernels(shape, bench.device))
    return found


def summary(bench: Bench, rows: Sequence[Row]) -> list[Row]:
    """Geometric means over the sizes that the targets are stated for."""
    found: list[Row] = []
    for peer in (*torch_nn.names(bench.device), *([OWN_PROCESS] if bench.device == "cpu" else [])):
        for cell in CELLS:
            for hidden, target in _targets(bench, cell):
                found.extend(_mean(bench, rows, peer, (cell,), hidden, target))
    loop = Target("≥", 4 if bench.device == "cpu" else 50)
    return found + _mean(bench, rows, LOOP, CELLS, bench.hidden, loop)


def _targets(bench: Bench, cell: str) -> list[tuple[tuple[int, ...], Target]]:
    """H, and what is to be reached there."""
    if bench.device == "cpu":
        return [(bench.hidden, Target("≥", _CPU[cell]))]
    if cell != "lstm":
        return [(bench.hidden, Target("≥", 2))]
    return [((64,), Target("≥", 1.2)), ((128,), Target("≥", 0.9))]


def _mean(
    bench: Bench, rows: Sequence[Row], peer: str, cells: Sequence[str], hidden: Sequence[int], target: Target
) -> list[Row]:
    """One row over cells × hidden × the batch sizes; none where one of them has not run."""
    cases = {str(bench.shape(cell, h, b)) for cell in cells for h in hidden for b in bench.batch}
    ratios = [
        Ratio(item.ratio, item.spread or 0.0)
        for item in rows
        if item.peer == peer and item.case in cases and item.ratio is not None
    ]
    if len(ratios) < len(cases):
        return []
    over = " × ".join(f"{name} {{{','.join(map(str, sizes))}}}" for name, sizes in (("H", hidden), ("B", bench.batch)))
    case = f"{cells[0] if len(cells) == 1 else 'all cells'}, geomean {over}"
    return [row(NAME, case, peer, None, unit="", ratio=geomean(ratios), rounds=bench.rounds, target=target)]
