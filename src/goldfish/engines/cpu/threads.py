"""The run of a compiled pass on the threads that torch already has.

torch computes on an OpenMP pool. A second pool would compete with its threads, which spin for a while after each
operation; so the pass is started through the very library that torch has loaded. In a forked child that pool is gone:
there, and where torch computes on one thread, the pass runs on the calling thread alone.
"""

from __future__ import annotations

import ctypes
import os
from array import array
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch

_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):  # Windows cannot fork
    os.register_at_fork(after_in_child=_after_fork)


def count(jobs: int) -> int:
    """How many threads a pass with so many jobs is worth."""
    return 1 if _forked else min(torch.get_num_threads(), jobs)


def run(address: int, description: array[int], threads: int) -> None:
    """Call the C function at an address with that of its description, once on each of so many threads."""
    call, (given, _) = _callable(address), description.buffer_info()
    if threads == 1:
        call(given)
        return
    start = _openmp()
    if start is not None:
        start(address, given, threads, 0)
        return
    for done in [_own_threads().submit(call, given) for _ in range(threads)]:
        done.result()


@cache
def _callable(address: int) -> Any:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address)


@cache
def _openmp() -> Any:
    """GOMP_parallel of the OpenMP library that torch uses (LLVM's and Intel's have it too), if there is one."""
    from threadpoolctl import threadpool_info

    loaded = [item["filepath"] for item in threadpool_info() if item["user_api"] == "openmp"]
    loaded.sort(key=lambda path: "torch" not in path)
    for path in loaded:
        start = getattr(ctypes.CDLL(path), "GOMP_parallel", None)
        if start is not None:
            start.restype, start.argtypes = None, (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
            return start
    return None


@cache
def _own_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="goldfish-cpu")
