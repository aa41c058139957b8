"""Files that are written whole or not at all, and the user's cache of what can be made again."""

from __future__ import annotations

import logging
import os
from functools import cache as once
from pathlib import Path


def write(path: Path, *parts: bytes | memoryview, durable: bool = True) -> None:
    """Write beside the target and put it in place, after it has reached the disk where it is to be durable.

    Whoever reads finds the old content, the new one or no file, even after a kill. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")  # another process may write the same
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cache(part: str) -> Path | None:
    """A folder of the cache: $GOLDFISH_CACHE_DIR, or goldfish/ in $XDG_CACHE_HOME or ~/.cache, and in it this part.

    None, and one warning, where it cannot be written.
    """
    try:
        chosen = os.environ.get("GOLDFISH_CACHE_DIR")
        base = Path(chosen or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "goldfish")
        folder = base / part
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(f"{folder} cannot be written")
    except (OSError, RuntimeError) as error:  # RuntimeError: a user without a home
        _warn(f"nothing is kept for the next process ({error}); set GOLDFISH_CACHE_DIR to a folder that can be written")
        return None
    return folder


def read_cache(part: str, name: str) -> bytes | None:
    """A file of the cache; None where there is none."""
    folder = cache(part)
    try:
        return None if folder is None else (folder / name).read_bytes()
    except OSError:
        return None


def write_cache(part: str, name: str, content: bytes | memoryview) -> None:
    """Put a file into the cache; where that cannot be done, one warning says so."""
    folder = cache(part)
    try:
        if folder is not None:
            write(folder / name, content, durable=False)
    except OSError as error:
        _warn(f"nothing is kept for the next process ({error})")


@once
def _warn(message: str) -> None:
    logging.getLogger(__name__).warning(message)
