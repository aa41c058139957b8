"""Where compiled kernels are kept: a folder of the user's cache, one for each state of the kernels' source."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from numba import config


@cache
def folder() -> Path | None:
    """$GOLDFISH_CACHE_DIR or the user's cache folder, and in it one for this source; None where it cannot be written.

    Numba notices a change of the file that a function stands in, but not of those that it calls.
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    base = Path(os.environ.get("GOLDFISH_CACHE_DIR") or Path(home) / "goldfish")
    place = base / f"cpu-{_source_hash()[:16]}"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        logging.getLogger(__name__).warning(
            "kernels are compiled afresh in every process, for they cannot be kept (%s); set GOLDFISH_CACHE_DIR", error
        )
        return None
    return place


@contextmanager
def kept() -> Iterator[bool]:
    """Inside, Numba keeps what it compiles in `folder`; yields whether there is one."""
    place, before = folder(), config.CACHE_DIR
    config.CACHE_DIR = str(place or "")
    try:
        yield place is not None
    finally:
        config.CACHE_DIR = before


def _source_hash() -> str:
    found = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        found.update(file.read_bytes())
    return found.hexdigest()
