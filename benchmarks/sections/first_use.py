"""First use: what the first step of a network costs beyond the second, with an empty cache and with a warm one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import children, contestants
from benchmarks.bench import Bench, Job
from benchmarks.problem import CELLS
from benchmarks.rows import Row, Target, not_run, row

NAME = "first_use"
TITLE = "First use: compiling and loading, in a fresh process with torch imported"
NEEDS = ()
TARGET = Target("≤", 10.0)  # seconds, with an empty cache
CACHES = ("GOLDFISH_CACHE_DIR", "NUMBA_CACHE_DIR", "CUDA_CACHE_PATH", "TRITON_CACHE_DIR")
INTERPRETED = ("eager", "stepwise")  # nothing to compile


def jobs(bench: Bench) -> list[Job]:
    """A job for each cell and each engine that compiles."""
    compiled = [engine for engine in contestants.engines(bench.device) if engine not in ("auto", *INTERPRETED)]
    if bench.device == "cuda":
        compiled.append("auto")  # it also checks the kernels, once
    return [_job(bench, cell, engine) for cell in CELLS for engine in compiled]


def _job(bench: Bench, cell: str, engine: str) -> Job:
    shape = bench.shape(cell, 32, 32)

    def measure() -> list[Row]:
        found = []
        with tempfile.TemporaryDirectory() as folder:
            caches = {name: str(Path(folder) / name.lower()) for name in CACHES}
            for cache, target in (("empty", TARGET), ("warm", None)):
                case, peer = f"{cell}: {cache} cache", f"goldfish {engine}"
                try:
                    told = children.ask(
                        "first_use", bench.threads, shape, environment=caches, device=bench.device, engine=engine
                    )
                except RuntimeError as error:
                    found.append(not_run(NAME, case, peer, str(error)))
                else:
                    found.append(row(NAME, case, peer, told["seconds"], target=target))
        return found

    return Job(f"{cell} {engine}", measure)


def summary(bench: Bench, rows: Sequence[Row]) -> list[Row]:
    """Nothing beyond the cases."""
    return []
