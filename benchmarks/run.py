"""Runs the sections one after another: prints each one's tables, and writes its CSV, as soon as it is measured."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks import results, rows, table
from benchmarks.bench import Bench
from benchmarks.rows import Row, not_run
from benchmarks.sections import SECTIONS
from goldfish.errors import ConfigError

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def section(name: str) -> ModuleType:
    """A section's module."""
    return importlib.import_module(f"benchmarks.sections.{name}")


def run(names: Sequence[str], *, device: str, threads: int, quick: bool, update: bool) -> None:
    """Measure sections, print and write them. Raises ConfigError where there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("--device=cuda: no CUDA device here; expected cpu")
    folder = results.folder(device, update)
    torch.set_num_threads(threads)
    print(_heading(device, threads))
    if quick:
        print("A quick look at smaller sizes: the targets are those of the whole benchmark.")
    if device == "cuda":
        _print_verdicts()
    _keep_freed_memory()
    found: list[Row] = []
    with ExitStack() as stack:
        bench = Bench(device, threads, quick, stack)
        for name in names:
            about = results.about(device, threads, quick)
            measured = measure(bench, section(name))
            found.extend(measured)
            rows.write(folder / f"{name}.csv", measured, about)
            print(f"\n== {section(name).TITLE}\n\n" + "\n\n".join(item.text() for item in table.tables(measured)))
    written = [folder / f"{name}.csv" for name in names] + results.draw(found, folder / "growth")
    print("\nWritten: " + ", ".join(str(file) for file in written))


def measure(bench: Bench, module: ModuleType) -> list[Row]:
    """One section's rows, its summary included."""
    missing = [package for package in module.NEEDS if importlib.util.find_spec(package) is None]
    if missing:
        return [not_run(module.NAME, "the section", "goldfish", f"needs {', '.join(missing)}")]
    found: list[Row] = []
    jobs = module.jobs(bench)
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        shown = bar.add_task(module.NAME, total=len(jobs))
        for job in jobs:
            bar.update(shown, description=f"{module.NAME}: {job.name}")
            found.extend(job.run())
            bar.advance(shown)
    return found + list(module.summary(bench, found))


def order() -> list[tuple[str, str]]:
    """Every section's name and title."""
    return [(name, section(name).TITLE) for name in SECTIONS]


def _heading(device: str, threads: int) -> str:
    facts = results.about(device, threads, False)
    load = float(facts["load"])
    busy = " – this machine is busy: believe the spreads, not the times" if load > 0.5 * (os.cpu_count() or 1) else ""
    count = f"{threads} thread{'' if threads == 1 else 's'}"
    return f"{facts['machine']}; {count}; engine=auto: {facts['auto']}; load {load:.2f}{busy}"


def _keep_freed_memory() -> None:
    """As the workers of a sweep do, here for all contestants: large tensors would page-fault anew in every step."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's; other C libraries have none
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _print_verdicts() -> None:
    """What the CUDA kernels were found to be on this machine."""
    from goldfish.engines import cuda

    found = [str(verdict) for verdict in cuda.verdicts()] or ["none: cuda-core, NVRTC or a CUDA device is missing"]
    print("Verdicts on the CUDA kernels:", *found, sep="\n  ")


def render() -> list[Path]:
    """docs/performance_table.md and its plots, from benchmarks/results/; the files written."""
    return results.render(results.RESULTS, results.RESULTS.parents[1] / "docs", order())
