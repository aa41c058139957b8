"""Settings of torch that a caller may have switched on and that would change a run's numbers, set aside for a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


@contextmanager
def set_aside() -> Iterator[None]:
    """Compute as in a fresh process, whatever the caller has switched on; afterwards everything is as it was.

    Set aside are autocast, inference mode, grad mode, anomaly detection, the default dtype and device, deterministic
    algorithms, and the precision of float32 products.
    """
    with ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device() != torch.device("cpu"):  # it slows down every operation, so only where it must
            stack.enter_context(torch.device("cpu"))
        if torch.is_anomaly_enabled():
            stack.enter_context(torch.autograd.set_detect_anomaly(False))
        for setting in (_dtype, _deterministic, _products):
            stack.enter_context(setting())
        yield


@contextmanager
def _dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Off: training switches it on itself where a GPU needs it."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@contextmanager
def _products() -> Iterator[None]:
    """float32 products in float32: torch.set_float32_matmul_precision("high") takes fewer digits, on CPUs as well."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set for single backends, and torch has no common word for it
        with _backends():
            yield
        return
    if before == "highest":
        yield
        return
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _backends() -> Iterator[None]:
    backends: list[Any] = [getattr(torch.backends, name).matmul for name in ("mkldnn", "cuda")]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
