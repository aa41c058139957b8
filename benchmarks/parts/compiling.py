"""The kernels that the other parts need, compiled on all cores at once: one after another they would take minutes."""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures import TimeoutError as TooLong
from typing import Any

from benchmarks.parts.part import Part, told

CELLS = (("rnn", "tanh"), ("rnn", "relu"), ("rnn", "identity"), ("rnn", "sigmoid"), ("lstm", "tanh"), ("gru", "tanh"))
HIDDEN = (8, 16, 32, 33, 64, 128)
Source = tuple[str, tuple[tuple[str, int], ...]]  # its name, and the constants that it is compiled with


def main(part: Part) -> None:
    """Compile; a source that cannot be is wrong."""
    from goldfish.engines import cuda

    missing = cuda._missing() if part.device == "cuda" else _no_compiler()
    if missing:
        part.row("NVRTC", "", None if part.device == "cpu" else False, f"not run: {missing}")
        return
    sources, architecture = _sources(part)
    before, done = time.perf_counter(), 0
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        jobs = {pool.submit(_compile, source, architecture): source for source in sources}
        try:
            for job in as_completed(jobs, max(1.0, part.time_left)):
                error = job.result()
                done += not error
                if error:
                    part.row(f"{jobs[job]}", "", False, error)
        except TooLong:
            pool.shutdown(wait=False, cancel_futures=True)
    seconds = time.perf_counter() - before
    part.row(f"sources compiled for {architecture}", f"{done} of {len(sources)}", note=f"{seconds:.0f} s")


def _no_compiler() -> str:
    """Why nothing can be compiled; that needs no GPU."""
    from goldfish.engines.cuda import store

    try:
        from cuda.core import Program  # noqa: F401

        store.compiler()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _sources(part: Part) -> tuple[list[Source], str]:
    """What is to be compiled, and for which architecture."""
    import torch

    from goldfish.config import registry
    from goldfish.engines.cuda import launch, plan

    gpu = (
        launch.multiprocessor(torch.device("cuda", 0))
        if part.device == "cuda"
        else plan.Multiprocessor((9, 0), 132, 232448)
    )
    found: dict[Source, None] = {}
    for H in HIDDEN[:1] if part.quick else HIDDEN:
        for name, nonlinearity in CELLS[:1] if part.quick else CELLS:
            extra: dict[str, Any] = {} if nonlinearity == "tanh" else {"nonlinearity": nonlinearity}
            cell = registry.load("cell", name)(hidden_size=H, num_layers=1, **extra)
            for size in (4, 8):
                for rows in plan.tiles(cell, size, 64, gpu):
                    found[name, plan.choose(cell, size, 1, 64, gpu, rows).macros()] = None
    return list(found), "sm_{}{}".format(*gpu.capability)


def _compile(source: Source, architecture: str) -> str:
    """In a process of the pool: what went wrong, or ""."""
    from goldfish.engines.cuda import launch

    try:
        launch.compiled(*source, architecture)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    main(told())
