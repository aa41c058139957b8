"""What the engine remembers in the user's cache: machine code and verdicts. Where it cannot write, it works without."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import tempfile
from functools import cache
from pathlib import Path

_KERNEL_MODULE = Path("/proc/driver/nvidia/version")


def folder() -> Path:
    """$XDG_CACHE_HOME/goldfish/cuda, by default under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "goldfish" / "cuda"


def key(*parts: object) -> str:
    """A name for what was made from these."""
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()[:32]


def compiler() -> str:
    """NVRTC's version, as "13.0"."""
    from cuda.bindings import nvrtc

    error, major, minor = nvrtc.nvrtcVersion()
    if error != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"NVRTC does not tell its version: {error}")
    return f"{major}.{minor}"


def driver() -> str:
    """Such as "580.95.05, CUDA 13.0", asked in a way that every cuda-core and cuda-bindings has."""
    from cuda.bindings import driver as api

    error, version = api.cuDriverGetVersion()
    if error != api.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"the driver does not tell its version: {error}")
    told = _KERNEL_MODULE.read_text(encoding="utf-8", errors="replace") if _KERNEL_MODULE.is_file() else ""
    module = re.search(r"\b\d+\.\d+(\.\d+)?\b", told)
    return ", ".join(filter(None, [module and module[0], f"CUDA {version // 1000}.{version % 1000 // 10}"]))


def read(name: str) -> bytes | None:
    """A file of the cache, or None where there is none."""
    try:
        return (folder() / name).read_bytes()
    except OSError:
        return None


def write(name: str, content: bytes) -> None:
    """Put a file into the cache, whole or not at all; say once where that cannot be done."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder(), delete=False) as file:
            file.write(content)
        os.replace(file.name, folder() / name)
    except OSError as error:
        _say(f"CUDA kernels are compiled and checked anew in every process: {folder()} cannot be written ({error})")


@cache
def _say(message: str) -> None:
    logging.getLogger(__name__).warning(message)
