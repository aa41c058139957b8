"""The cache of compiled kernels: a folder of the user's cache for each state of source and compiler."""

from __future__ import annotations

import hashlib
import logging
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm
import numba
from filelock import FileLock, Timeout
from numba import config

from goldfish import files
from goldfish.engines import compiled

PATIENCE = 120  # seconds to wait for another process that compiles the same
_KEPT = ".kept"


@cache
def folder() -> Path | None:
    """The part of the cache for this source, this compiler and this processor; None where it cannot be written.

    Numba notices a change of the file that a function stands in, but not of those that it calls.
    """
    return files.cache(f"cpu-{_hash()[:16]}")


@contextmanager
def kept() -> Iterator[bool]:
    """Have Numba keep what it compiles inside the context in `folder`; yields whether there is one."""
    place, before = folder(), config.CACHE_DIR
    config.CACHE_DIR = str(place or "")
    try:
        yield place is not None
    finally:
        config.CACHE_DIR = before


def names() -> list[str]:
    """The names of the kernels that are kept."""
    place = folder()
    return [] if place is None else sorted(file.stem for file in place.glob(f"*{_KEPT}"))


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Keep other processes from compiling the kernels of this name, which are kept if the context ends well.

    Nobody waits where they are kept already. The lock is the system's: it goes with the process that holds it, even a
    killed one; for one that hangs nobody waits longer than PATIENCE.
    """
    place = folder()
    if place is None or name in names():
        yield
        return
    lock = FileLock(place / f"{name}.lock")
    try:
        lock.acquire(timeout=PATIENCE)
    except (Timeout, NotImplementedError) as error:  # a file system without locks: compiled twice, which does no harm
        logging.getLogger(__name__).warning("kernels of %s are compiled without waiting: %s", name, error)
    try:
        yield
        (place / f"{name}{_KEPT}").touch()
    finally:
        lock.release()


def forget() -> bool:
    """Throw away what is kept; True when there was anything."""
    place, had_any = folder(), bool(names())
    if place is not None and had_any:
        shutil.rmtree(place, ignore_errors=True)  # another process may write into it at this moment
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return had_any


def _hash() -> str:
    """A hash of all that compiled kernels depend on."""
    processor = config.CPU_NAME or llvm.get_host_cpu_name(), config.CPU_FEATURES or llvm.get_host_cpu_features()
    digest = hashlib.sha256(f"{numba.__version__} {platform.python_version()} {processor}".encode())
    for file in [Path(compiled.__file__), *sorted(Path(__file__).parent.glob("*.py"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
