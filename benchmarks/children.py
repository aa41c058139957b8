"""Measurements that need a process of their own: peak memory and first use.

`python -m benchmarks.children <what> <threads> <JSON>` measures and prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch

from benchmarks import resident
from benchmarks.problem import Shape


def ask(what: str, threads: int, shape: Shape, *, environment: Mapping[str, str] | None = None, **more: Any) -> Any:
    """Have one thing measured in a fresh process; return what it found. Raises RuntimeError when that fails."""
    arguments = [what, str(threads), json.dumps(asdict(shape) | more)]
    command = [sys.executable, "-m", "benchmarks.children", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | dict(environment or {}))
    if done.returncode:
        raise RuntimeError(f"{what} {shape}: {(done.stderr.strip().splitlines() or ['it ended silently'])[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def memory(device: str, **shape: Any) -> dict[str, float]:
    """The process's peak memory with one instrumented training step, and what that added, in 10⁹ bytes; its seconds."""
    _step(Shape(**(shape | {"length": 10})), "auto", device)  # compiles and imports what it needs
    before = _now(device)
    seconds = _step(Shape(**shape), "auto", device)
    peak = _peak(device)
    return {"peak": peak / 1e9, "grown": max(0, peak - before) / 1e9, "seconds": seconds}


def first_use(device: str, engine: str, **shape: Any) -> dict[str, float]:
    """Seconds that the first step takes more than the second: importing, compiling, loading. torch is there already."""
    torch.zeros(1, device=device)
    first = _step(Shape(**shape), engine, device)
    return {"seconds": first - _step(Shape(**shape), engine, device)}


def _peak(device: str) -> int:
    """Bytes."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else resident.peak()


def _now(device: str) -> int:
    """Bytes."""
    return torch.cuda.memory_allocated() if device == "cuda" else resident.now()


def _step(shape: Shape, engine: str, device: str) -> float:
    """Seconds of building a network and one instrumented step. Raises RuntimeError where it cannot run, saying why."""
    start = time.perf_counter()
    from benchmarks import contestants
    from benchmarks.interleave import NotRun

    contestant = contestants.step(shape, engine, device, True)
    if isinstance(contestant, NotRun):
        raise RuntimeError(contestant.reason)
    contestant.run(1)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


MEASUREMENTS: dict[str, Callable[..., dict[str, float]]] = {"memory": memory, "first_use": first_use}

if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    print(json.dumps(MEASUREMENTS[sys.argv[1]](**json.loads(sys.argv[3]))))
