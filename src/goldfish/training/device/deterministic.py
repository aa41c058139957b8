"""Deterministic computation on a GPU, and the names of operations that do not offer it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic

_SETTINGS: Any = torch.utils.deterministic  # a module whose attributes mypy does not see
_TOLD = re.compile(r"^(\S+) does not have a deterministic implementation")


@contextmanager
def deterministic(device: torch.device) -> Iterator[set[str]]:
    """Have torch take its deterministic kernels; yields the names of operations that ran and have none.

    On a CPU every operation in use is deterministic on one thread, and nothing is changed. cuBLAS keeps its promise
    only with CUBLAS_WORKSPACE_CONFIG in the environment before its first call, which goldfish sets when it is imported.
    torch would also fill each new tensor with NaN, one more kernel each; nothing here reads what it has not written.
    """
    operations: set[str] = set()
    if device.type == "cpu":
        yield operations
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    fills = _SETTINGS.fill_uninitialized_memory
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=".*does not have a deterministic implementation.*")
        show = warnings.showwarning

        def collect(message: Any, *rest: Any, **more: Any) -> None:
            told = _TOLD.match(str(message))
            if told:
                operations.add(told[1])
            else:
                show(message, *rest, **more)

        warnings.showwarning = collect
        torch.use_deterministic_algorithms(True, warn_only=True)
        _SETTINGS.fill_uninitialized_memory = False
        try:
            yield operations
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            _SETTINGS.fill_uninitialized_memory = fills
