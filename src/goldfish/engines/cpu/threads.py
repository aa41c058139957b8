"""Run a compiled pass on the threads that torch already has.

torch computes on an OpenMP pool. A second pool would compete with its threads, which spin for a while after each
operation; so the pass is started through the very library that torch has loaded. In a forked child that pool is gone:
there, and where torch computes on one thread, the pass runs on the calling thread alone.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch

_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_after_fork)


def count(jobs: int) -> int:
    """How many threads a pass with so many jobs is worth."""
    return 1 if _forked else min(torch.get_num_threads(), jobs)


def run(function: Any, description: int, threads: int) -> None:
    """Call a C function with the address of its description, once on each of so many threads."""
    if threads == 1:
        function.ctypes(ctypes.cast(description, ctypes.POINTER(ctypes.c_int64)))
        return
    start = _openmp()
    if start is not None:
        start(ctypes.c_void_p(function.address), ctypes.c_void_p(description), ctypes.c_uint(threads), ctypes.c_uint(0))
        return
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function.address)
    for done in [_own_threads().submit(call, description) for _ in range(threads)]:
        done.result()


@cache
def _openmp() -> Any:
    """GOMP_parallel of the OpenMP library that torch uses (LLVM's and Intel's have it too), if there is one."""
    from threadpoolctl import threadpool_info

    loaded = [item["filepath"] for item in threadpool_info() if item["user_api"] == "openmp"]
    loaded.sort(key=lambda path: "torch" not in path)
    for path in loaded:
        start = getattr(ctypes.CDLL(path), "GOMP_parallel", None)
        if start is not None:
            start.restype = None
            return start
    return None


@cache
def _own_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="goldfish-cpu")
