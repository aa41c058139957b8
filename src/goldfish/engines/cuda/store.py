"""The names under which the engine keeps machine code and verdicts in the user's cache."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

PART = "cuda"  # of the cache
_KERNEL_MODULE = Path("/proc/driver/nvidia/version")


def key(*parts: object) -> str:
    """A name for what was made from these parts."""
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()[:32]


def compiler() -> str:
    """NVRTC's version, as "13.0"."""
    from cuda.bindings import nvrtc

    error, major, minor = nvrtc.nvrtcVersion()
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"NVRTC does not report its version: {error}")
    return f"{major}.{minor}"


def driver() -> str:
    """The driver's version, such as "580.95.05, CUDA 13.0", asked as every cuda-core and cuda-bindings allows."""
    from cuda.bindings import driver as api

    error, version = api.cuDriverGetVersion()
    if error != api.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"the driver does not report its version: {error}")
    told = _KERNEL_MODULE.read_text(encoding="utf-8", errors="replace") if _KERNEL_MODULE.is_file() else ""
    module = re.search(r"\b\d+\.\d+(\.\d+)?\b", told)
    return ", ".join(filter(None, [module and module[0], f"CUDA {version // 1000}.{version % 1000 // 10}"]))
